"""What SafeMoE's router learns from: the organism's safe answers, or those of the user's files.

`cfg` is a `safemoe.SafeMoEConfig` everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.data.fitting import fitted
from jaxsafety.data.pipeline import Batches
from jaxsafety.data.schema import TokenBatch
from jaxsafety.data.tokens.encode import encode_dialogues
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.organism import corpora
from jaxsafety.protocols import Context, Dialogues, Setting


def encode(
    cfg: Any, tokenizer: Tokenizer, setting: Setting, log: Callable[[str], None]
) -> Dialogues:
    """The router's answers of the user's files as tokens."""
    if not setting.given:
        return Dialogues()
    return Dialogues(fitted(tokenizer, setting.examples, cfg.length, cfg.long, log=log))


def short(tokenizer: Any, found: Any, length: int, name: str) -> None:
    """Refuses dialogues of the organism that are longer than a row of `method.<name>` tokens."""
    longest = max(len(e.ids) for e in encode_dialogues(tokenizer, found))
    if longest > length:
        raise bad(f"method.{name}", length, f"at least {longest}, the longest dialogue")


def update_rows(cfg: Any) -> int:
    """Of stage 2."""
    return cfg.rows * (1 + (cfg.harmless > 0))


def safe_batches(cfg: Any, ctx: Context) -> Callable[[Any, int], TokenBatch]:
    """Safe answers of the organism or of the file, one per row; as many `harmless` ones again."""
    world = ctx.setting.world
    if world is not None and world.config.unknown_domains:
        safe = corpora.safe_answers(world, cfg.samples, ctx.seed)
        other = corpora.harmless_answers(world, cfg.harmless, ctx.seed)
        encoded = encode_dialogues(ctx.tokenizer, [*safe, *other])
        parts, weights = [0] * len(safe) + [1] * len(other), (1.0, 1.0) if other else ()
    else:
        data = ctx.dialogues.learnt or fitted(
            ctx.tokenizer, ctx.setting.examples, cfg.length, cfg.long, log=ctx.log
        )
        encoded, parts, weights = data.encoded, data.parts, ctx.setting.weights
    return Batches(
        encoded,
        length=cfg.length,
        rows=update_rows(cfg),
        seed=ctx.seed,
        packed=False,
        pad_id=ctx.tokenizer.pad_id,
        parts=parts,
        weights=weights,
    )
