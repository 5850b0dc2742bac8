"""`report.html` of `jaxsafety eval`: one self-contained page, section by section.

Numbers and the choice of rows are here and in `rows`, `agreement` and `shared`; markup and prose in
`templates/`, which escape everything that a model, a judge or a file said.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.report import page, trained
from jaxsafety.report.load import Estimate, decoding_label
from jaxsafety.report.measurement import agreement, examples, limits, rows, shared
from jaxsafety.report.measurement.load import Judge, Measurement, Rate
from jaxsafety.report.tables import number, percent

TEMPLATES = Path(__file__).with_name("templates")
COLOR = "#2b5f9e"  # of the headline's rate, as in style.css

SAFETY = (("asr", "unsafe"), ("refusal", "refused"), ("incoherent", "incoherent"))
HARMLESS = (("refusal", "refused"), ("coherent", "coherent"))
BOTH = ("harmful: unsafe", "harmful: refused", "harmless: refused", "coherent")


class Tile(NamedTuple):
    """A rate of the head of the page."""

    name: str
    metric: str
    decoding: str
    values: list[str]
    change: None
    tone: str


def write(out: Path | str) -> Path:
    """Writes `report.html` of a directory of `jaxsafety eval`.

    Args:
      out: the directory.

    Returns:
      The page's path.

    Raises:
      UsageError: no such directory.
    """
    measured = Measurement(out)
    return page.save(measured.out, render(measured))


def render(measured: Measurement) -> str:
    """The page as text."""
    parts = []
    for anchor, title, make in SECTIONS:
        try:
            body, unread = make(measured), ""
        except Exception as error:  # one damaged file must not cost the whole page
            body, unread = "", f"What it is made of ({type(error).__name__})"
        if body or unread:
            parts.append(page.Part(anchor, title, body, unread))
    claim, lead = headline(measured)
    return page.fill(
        page.TEMPLATES,
        "page.html",
        title=claim,
        name=measured.out.resolve().name,
        claim=claim,
        headline=lead,
        tiles=_tiles(measured),
        sections=parts,
    )


def headline(measured: Measurement) -> tuple[str, str]:
    """Title and first sentences: what the first judge says of the models."""
    found = rows.choose_lead(measured)
    models = ", ".join(model_name(measured, arm) for arm in measured.arms)
    if found is None:
        return f"{models}: measured", "No rate of harmful or harmless requests is known."
    judge, first, decoding = found
    told = [(arm, _find_rates(judge, arm, decoding)) for arm in measured.arms]
    start = dict(dict(told)[first])
    last = [arm for arm, rates in told if rates][-1]
    after = dict(dict(told)[last])
    # Only of what both were asked: a pool of other sets is no later value of the same rate.
    both = [what for what in start if what in after and after[what].n == start[what].n]
    turned = last != first and bool(both)
    short = " and ".join(
        f"{_turned(start[what], after[what] if turned else None)} of {what}"
        for what in (both if turned else start)
    )
    name = f"{first} to {last}" if turned else model_name(measured, first)
    lead = [
        f"{arm}: " + ", ".join(f"{what} {percent(e)}, n = {e.n}" for what, e in rates)
        for arm, rates in told
        if rates
    ]
    text = f"{decoding_label(decoding)}, by {judge.title}. {'; '.join(lead)}."
    bound = " “Not refused” is an upper bound: phrase rules see no harm." if judge.bound else ""
    return f"{name}: {short}", text[:1].upper() + text[1:] + bound


def _turned(e: Estimate, after: Estimate | None) -> str:
    """As in "96 %", or "96 to 12 %" with what another model's rate is."""
    to = "" if after is None else f" to {100 * after.value:.0f}"
    return f"{100 * e.value:.0f}{to}\N{NO-BREAK SPACE}%"


def _find_rates(judge: Judge, arm: str, decoding: str) -> list[tuple[str, Estimate]]:
    """What a judge says of the harmful and of the harmless requests to a model."""
    rates = [
        (f"harmful requests {judge.unsafe}", judge.pooled(arm, "safety", "asr", decoding)),
        ("harmless requests refused", judge.pooled(arm, "over_refusal", "refusal", decoding)),
    ]
    return [(what, rate.estimate) for what, rate in rates if rate is not None and rate.estimate]


def model_name(measured: Measurement, arm: str) -> str:
    """What a model is called: the last part of its path or hub id."""
    facts = measured.arm(arm)
    name = Path(str(facts.get("model") or arm)).name or arm
    return f"{name} with an adapter" if facts.get("adapter") else name


def _tiles(measured: Measurement) -> list[Tile]:
    found = rows.choose_lead(measured)
    if found is None:
        return []
    _, _, decoding = found
    tiles = []
    for judge in measured.opinions:
        for kind, metric, what in (
            ("safety", "asr", f"harmful requests: {judge.unsafe}"),
            ("over_refusal", "refusal", "harmless requests: refused"),
        ):
            rates = [(arm, judge.pooled(arm, kind, metric, decoding)) for arm in measured.arms]
            known = [(arm, r.estimate) for arm, r in rates if r and r.estimate]
            if known:  # the first model and the last: what lies between is in the tables
                ends = known[:1] + [one for one in known[1:][-1:] if one[1].n == known[0][1].n]
                values = [number(e, e.value) for _, e in ends]
                label = decoding_label(decoding)
                if len(ends) > 1:
                    label += ", " + " → ".join(arm for arm, _ in ends)
                tiles.append(Tile(judge.title, what, label, values, None, "even"))
    return tiles[:8]


def _changed(measured: Measurement) -> str:
    found = rows.collect_pooled(measured)
    bound = rows.BOUND if any(judge.bound for judge in measured.opinions) else ""
    return _rates(measured, found, BOTH, named=False, note=bound) if found else ""


def _safety(measured: Measurement) -> str:
    found = rows.collect(measured, "safety", tuple(metric for metric, _ in SAFETY))
    return _rates(measured, found, tuple(label for _, label in SAFETY)) if found else ""


def _harmless(measured: Measurement) -> str:
    found = rows.collect(measured, "over_refusal", tuple(metric for metric, _ in HARMLESS))
    return _rates(measured, found, tuple(label for _, label in HARMLESS)) if found else ""


def _capability(measured: Measurement) -> str:
    found = rows.collect_tasks(measured)
    return _rates(measured, found, ("rate",)) if found else ""


def _rates(
    measured: Measurement,
    found: list[rows.Row],
    heads: tuple[str, ...],
    named: bool = True,
    note: str = "",
) -> str:
    lines = [
        {
            "set": row.set.replace("_", " ") if row.pooled else row.set,
            "first": named and (i == 0 or found[i - 1].set != row.set),
            "pooled": row.pooled,
            "judge": row.judge,
            "arm": row.arm,
            "decoding": row.decoding,
            "n": row.n,
            "rates": [_rate(rate) for rate in row.rates],
            "drawn": [(COLOR, _drawn(row.rates[0]))],
        }
        for i, row in enumerate(found)
    ]
    untold = [
        f"{r.set or 'all sets'} by {r.judge}, not judged {r.untold}" for r in found if r.untold
    ]
    return page.fill(
        TEMPLATES,
        "rates.html",
        named=named,
        heads=heads,
        lines=lines,
        several=len(measured.arms) > 1,
        ways=len(measured.decodings) > 1,
        untold=untold,
        note=note,
    )


def _rate(rate: Rate | None) -> tuple[str, str, str] | None:
    if rate is None or rate.estimate is None:
        return None
    e = rate.estimate
    value, lo, hi = (number(e, share) for share in (e.value, e.lo, e.hi))
    return value, lo, hi


def _drawn(rate: Rate | None) -> tuple[float, ...] | None:
    return rate.estimate[:3] if rate is not None and rate.estimate is not None else None


def _agreement(measured: Measurement) -> str:
    if len(measured.opinions) < 2:
        return ""
    flags = [
        (label, agreement.compare(measured, flag), agreement.find_disagreements(measured, flag))
        for flag, (label, _) in agreement.FLAGS.items()
    ]
    return page.fill(TEMPLATES, "agreement.html", flags=flags)


def _examples(measured: Measurement) -> str:
    shown = examples.pick(measured)
    return page.fill(TEMPLATES, "answers.html", shown=shown) if shown else ""


def _sets(measured: Measurement) -> str:
    lines = [
        {
            "name": name,
            "kind": str(facts.get("kind", "")).replace("_", "-"),
            "licence": facts.get("licence") or "–",
            "version": facts.get("version") or facts.get("version_note") or "–",
            "known": bool(facts.get("version")),
            "file": str(facts.get("file") or ""),
            "used": _used(facts),
            "source": facts.get("source") or "–",
            "tokens": "–" if facts.get("form") == "choices" else facts.get("max_tokens"),
            "cut": _cut(measured, name),
        }
        for name, facts in measured.sets.items()
    ]
    models = [
        {
            "arm": arm,
            "name": model_name(measured, arm),
            **{k: measured.arm(arm).get(k) or "–" for k in ("fingerprint", "adapter", "template")},
        }
        for arm in measured.arms
    ]
    missing = [str(name) for name in measured.facts.get("missing") or ()]
    if not lines:
        return ""
    return page.fill(TEMPLATES, "sets.html", lines=lines, models=models, missing=missing)


def _used(facts: dict[str, Any]) -> str:
    """As in "16 of 520, 3 left out: copyright"."""
    used, rows_ = facts.get("used"), facts.get("rows")
    text = f"all {rows_}" if used == rows_ else f"{used} of {rows_}"
    left = facts.get("left_out")
    if isinstance(left, dict) and left:
        text += "; left out: " + ", ".join(f"{why} {count}" for why, count in left.items())
    return text


def _cut(measured: Measurement, name: str) -> str:
    """How many answers ended at the token limit and not by themselves."""
    told = []
    for arm, decoding in measured.each():
        ended = [line.get("finished") for line in measured.answers(arm, name, decoding)]
        if ended and None not in ended:
            told.append(f"{ended.count(False)} of {len(ended)}")
    return ", ".join(told) or "–"


def _shared(measured: Measurement) -> str:
    names, cells = shared.count(measured)
    learnt = trained.fill(shared.list_trained(measured))
    if not (learnt or cells or len(measured.sets) > 1):
        return ""
    several = len(measured.sets) > 1
    return page.fill(
        TEMPLATES, "shared.html", names=names, cells=cells, several=several, learnt=learnt
    )


def _limits(measured: Measurement) -> str:
    lines = limits.tell(measured)
    return page.fill(TEMPLATES, "limits.html", lines=lines) if lines else ""


def _facts(measured: Measurement) -> str:
    hidden = ("sets", "missing", "format", "arms")
    plain = {k: v for k, v in measured.facts.items() if k not in hidden}
    plain["models"] = {
        arm: {k: v for k, v in measured.arm(arm).items() if k not in ("long", "shared")}
        for arm in measured.arms
    }
    pairs = [(k, page.show(v)) for k, v in page.flat(plain)]
    return page.fill(page.TEMPLATES, "facts.html", meta=pairs, folded=[])


SECTIONS: tuple[tuple[str, str, Callable[[Measurement], str]], ...] = (
    ("both", "Refusals of harmful and of harmless requests", _changed),
    ("safety", "Harmful requests", _safety),
    ("over-refusal", "Harmless requests", _harmless),
    ("capability", "Tasks", _capability),
    ("agreement", "Judges side by side", _agreement),
    ("limits", "What these numbers can and cannot show", _limits),
    ("answers", "Answers", _examples),
    ("sets", "What was measured", _sets),
    ("shared", "Prompts that sets share", _shared),
    ("facts", "Facts", _facts),
)
