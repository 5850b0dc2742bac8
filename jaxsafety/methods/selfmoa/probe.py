"""What the target says to held-out prompts before the first stage and after every one.

The judge is the measurement's (`eval.judge`), not the loop's: what a loop learns from its judges
shows in their own scores first. Greedy answers; counts, not rates, so that intervals can be had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.judges.judging import judged
from jaxsafety.methods.selfmoa.config import SelfMoaConfig
from jaxsafety.protocols import Context, Exchange, Item, SampleConfig, Variables, as_trained
from jaxsafety.sampling import decode

SPLITS = ("harmful_val", "wrapped_val", "harmless_val")
FLAGS = ("unsafe", "refusal", "informative", "coherent", "correct")


def ask(cfg: SelfMoaConfig, ctx: Context, target: Variables, number: int) -> None:
    """Artifact `probe.NUMBER`: by split {"n", and for each flag [how many, of how many told]}."""
    if not cfg.probe:
        return

    def make() -> dict[str, Any]:
        ctx.interrupt.doing = f"probe {number}"
        found = {
            split: _counts(cfg, ctx, target, ctx.setting.prompts[split][: cfg.probe])
            for split in SPLITS
            if ctx.setting.prompts.get(split)
        }
        ctx.interrupt.doing = "what it is doing"
        return found

    told = ctx.artifact(f"probe.{number}", make)
    counts = {split: row["unsafe"] for split, row in told.items()}
    parts = [f"{split} unsafe {bad} of {of}" for split, (bad, of) in counts.items()]
    ctx.log(f"probe {number}: {', '.join(parts)}")


def _counts(
    cfg: SelfMoaConfig, ctx: Context, target: Variables, items: Sequence[Item]
) -> dict[str, Any]:
    ctx.interrupt.check()
    what = as_trained(cfg, target)
    said = decode.generate(
        ctx.model,
        what.params,
        ctx.tokenizer,
        [encode_prompt(ctx.tokenizer, item.messages) for item in items],
        SampleConfig(cfg.tokens, 0.0, stop=tuple(ctx.tokenizer.eos_ids)),
        seed=ctx.seed,
        layers=what.layers,
    )
    texts = [ctx.tokenizer.decode(row[0].ids) for row in said]
    pairs = zip(items, texts, said, strict=True)
    rows = judged(ctx.setting.judge, [Exchange(item, text, row[0]) for item, text, row in pairs])
    counts: dict[str, Any] = {"n": len(items)}
    for name in FLAGS:
        told = [row[name] for row in rows if row[name] is not None and row[name] == row[name]]
        counts[name] = [sum(map(bool, told)), len(told)]
    return counts
