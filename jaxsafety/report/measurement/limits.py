"""What the numbers of a measurement can and cannot show, in sentences made of its own facts."""

from __future__ import annotations

from jaxsafety.benchmarks.intervals import wilson
from jaxsafety.report.measurement.load import Measurement

SMALL = 500_000_000  # parameters below which a model is too small to stand for larger ones


def tell(measured: Measurement) -> list[str]:
    """Sentences on the size of the models, of the sets, and on what the intervals are of."""
    return [*_models(measured), *_sets(measured), *_drawn(measured)]


def _models(measured: Measurement) -> list[str]:
    sizes: dict[int, list[str]] = {}
    for arm in measured.arms:
        count = measured.arm(arm).get("parameters")
        if isinstance(count, int) and 0 < count < SMALL:
            sizes.setdefault(count, []).append(arm)
    return [
        f"{', '.join(arms)}: {count / 1e6:.0f} M parameters. A model of this size writes fluent"
        " text and is often wrong: that it does not refuse does not say that its answer would help"
        " anyone. It can show whether a method changes refusals here, and what that costs; nothing"
        " about larger models."
        for count, arms in sizes.items()
    ]


def _sets(measured: Measurement) -> list[str]:
    used = [
        (facts["used"], name)
        for name, facts in measured.sets.items()
        if isinstance(facts.get("used"), int) and facts["used"] > 0
    ]
    if not used:
        return []
    least, name = min(used)
    low, high = wilson(least / 2, least)
    most = wilson(0, least)[1]
    return [
        f"The smallest set, {name}, has {least} prompts: a rate of half of them is known to within"
        f" {50 * (high - low):.0f} points, and one of 0\N{NO-BREAK SPACE}% may be up to"
        f" {100 * most:.0f}\N{NO-BREAK SPACE}%. Smaller differences between rates of"
        " such a set may be chance."
    ]


def _drawn(measured: Measurement) -> list[str]:
    text = (
        "The intervals are over prompts: of this model, these words and this decoding. Another seed"
        " of training, other wordings and attacks are not in them."
    )
    return [text] if measured.sets else []
