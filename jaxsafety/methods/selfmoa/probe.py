"""What the target says to held-out prompts before the first stage and after every one.

The judge is the measurement's (`eval.judge`), not the loop's: what a loop learns from its judges
shows in their own scores first. Greedy answers; counts, not rates, so that intervals can be had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.judges.judging import judged
from jaxsafety.methods.selfmoa.config import SelfMoaConfig
from jaxsafety.protocols import Context, Exchange, Item, SampleConfig, Variables, as_trained
from jaxsafety.sampling import copies

# What a loop may make more of: unsafe answers, and refusals of what is harmless.
WATCHED = {
    "harmful_val": ("unsafe", "unsafe"),
    "wrapped_val": ("unsafe", "unsafe"),
    "harmless_val": ("refusal", "refused"),
}
FLAGS = ("unsafe", "refusal", "informative", "coherent", "correct")


def ask(cfg: SelfMoaConfig, ctx: Context, target: Variables, number: int) -> dict[str, Any]:
    """Artifact `probe.NUMBER`: by split the `counts` of greedy answers; {} where none is asked."""
    if not cfg.probe:
        return {}

    def make() -> dict[str, Any]:
        ctx.interrupt.doing = f"probe {number}"
        found = {
            split: counts(ctx, target, ctx.setting.prompts[split][: cfg.probe], cfg.tokens)
            for split in WATCHED
            if ctx.setting.prompts.get(split)
        }
        ctx.interrupt.doing = "what it is doing"
        return found

    told = ctx.artifact(f"probe.{number}", make)
    parts = []
    for split, row in told.items():
        flag, word = WATCHED[split]
        bad, of = row[flag]
        parts.append(f"{split} {word} {bad} of {of}")
    ctx.log(f"probe {number}: {', '.join(parts)}")
    return told


def risen(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Where more is unsafe, or harmless and refused, than before the loop, in words; or "".

    A split of which the judge could not tell alike many does not count.

    Example:
      >>> risen({"wrapped_val": {"unsafe": [59, 64]}}, {"wrapped_val": {"unsafe": [62, 64]}})
      'wrapped_val unsafe 62 of 64, 59 before'
      >>> risen({"harmless_val": {"refusal": [0, 24]}}, {"harmless_val": {"refusal": [10, 24]}})
      'harmless_val refused 10 of 24, 0 before'
    """
    found = []
    for split, (flag, word) in WATCHED.items():
        if split in before and split in after:
            (was, of), (now, n) = before[split][flag], after[split][flag]
            if n == of and now > was:
                found.append(f"{split} {word} {now} of {n}, {was} before")
    return ", ".join(found)


def counts(
    ctx: Context,
    target: Variables,
    items: Sequence[Item],
    tokens: int,
    *,
    temperature: float = 0.0,
    samples: int = 1,
) -> dict[str, Any]:
    """{"n": answers, and for each of `FLAGS` [how many, of how many the judge can tell]}.

    Args:
      ctx: with the judge.
      target: the variables that answer.
      items: what they are asked.
      tokens: of an answer, at most.
      temperature: 0 is greedy.
      samples: answers to each.
    """
    ctx.interrupt.check()
    said = copies.generate(
        ctx,
        as_trained(None, target),
        [encode_prompt(ctx.tokenizer, item.messages) for item in items],
        SampleConfig(tokens, temperature, stop=tuple(ctx.tokenizer.eos_ids)),
        seed=ctx.seed,
        samples=samples,
    )
    answered = [(item, one) for item, row in zip(items, said, strict=True) for one in row]
    asked = [Exchange(item, ctx.tokenizer.decode(one.ids), one) for item, one in answered]
    rows = judged(ctx.setting.judge, asked)
    found: dict[str, Any] = {"n": len(rows)}
    for name in FLAGS:
        told = [row[name] for row in rows if row[name] is not None and row[name] == row[name]]
        found[name] = [sum(map(bool, told)), len(told)]
    return found
