"""SafeSteer's settings, and what of them is refused before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax

from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.encode import encode_prompt, post_instruction
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.losses.divergence import VARIANTS
from jaxsafety.losses.sampled import ESTIMATORS
from jaxsafety.losses.variants import TOPK
from jaxsafety.methods.safesteer import context as contexts
from jaxsafety.methods.safesteer.inspect import DRIFT_TOKENS
from jaxsafety.methods.safesteer.teacher import (
    PROMPT_SETS,
    SYSTEMS,
    TOKEN_KINDS,
    VOTERS,
    DirectionConfig,
    TokenConfig,
    drawable,
)
from jaxsafety.models.api import Model
from jaxsafety.probing import selection
from jaxsafety.protocols import OptimConfig, Setting
from jaxsafety.sampling import decode

POSITIVE = ("steps", "prompts_per_step", "rollouts", "max_tokens", "topk")


@dataclass(frozen=True)
class SafeSteerConfig:
    """All stages; the fields below `divergence` are stage D. `reduction` "sequence" is eq. 7.

    `teacher`: "steered", or "context", the base under the safety prompt `context` ("" is
    `context.CONTEXT`), for which stages A and C are left out. `variant`: of
    `losses.divergence.VARIANTS`, or k1, k3 (`losses/sampled.py`). `max_prompt`: of a longer prompt
    of stage D the last `max_prompt` tokens are left, 0 cuts none.
    """

    direction: DirectionConfig = field(default_factory=DirectionConfig)
    tokens: TokenConfig = field(default_factory=TokenConfig)
    variant: str = "generalised"
    divergence: str = "reverse_kl"
    topk: int = 50
    steps: int = 25
    prompts_per_step: int = 4
    rollouts: int = 8
    max_tokens: int = 40
    max_prompt: int = 0
    temperature: float = 1.0
    reduction: str = "sequence"
    trainable: tuple[str, ...] = ("base/.*",)
    teacher: str = "steered"
    context: str = ""


def check(cfg: SafeSteerConfig) -> None:
    """Rejects what can be rejected before anything is loaded or computed."""
    select = cfg.direction.select
    for name, value, known in (
        ("variant", cfg.variant, (*VARIANTS, *ESTIMATORS)),
        ("divergence", cfg.divergence, ("reverse_kl", "forward_kl")),
        ("tokens.prompts", cfg.tokens.prompts, VOTERS),
        ("tokens.kind", cfg.tokens.kind, TOKEN_KINDS),
        ("direction.filter", cfg.direction.filter, ("judge", "score")),
        ("reduction", cfg.reduction, ("sequence", "token")),
        ("direction.fallback", cfg.direction.fallback, ("error", "rank")),
        ("direction.system", cfg.direction.system, SYSTEMS),
        ("direction.select.criterion", cfg.direction.select.criterion, selection.CRITERIA),
        *(("direction.select.steers", steer, decode.STEER) for steer in select.steers),
    ):
        if value not in known:
            raise bad(f"method.{name}", value, ", ".join(known))
    for name, value in (
        *((name, getattr(cfg, name)) for name in POSITIVE),
        ("direction.minimum", cfg.direction.minimum),
        ("direction.max_tokens", cfg.direction.max_tokens),
        ("direction.select.screen", select.screen),
        ("direction.select.steers", len(select.steers)),
        ("direction.select.coefficients", len(select.coefficients)),
    ):
        if value < 1:
            raise bad(f"method.{name}", value, "1 or more")
    for name, value in (
        ("max_prompt", cfg.max_prompt),
        ("temperature", cfg.temperature),
        ("direction.temperature", cfg.direction.temperature),
        ("tokens.control_seed", cfg.tokens.control_seed),
    ):
        if not value >= 0:  # nan too
            raise bad(f"method.{name}", value, "0 or more")
    if cfg.direction.openers and cfg.direction.opener_ids:
        given = (cfg.direction.openers, cfg.direction.opener_ids)
        raise bad("method.direction.openers, opener_ids", given, "one of the two")
    contexts.check(cfg)


def fits(
    cfg: SafeSteerConfig, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """Rejects what this model cannot do: prompts and answers beyond its context, above all."""
    rows, context = cfg.prompts_per_step * cfg.rollouts, model.config.max_length
    if rows % optim.accum:
        raise bad("optim.accum", optim.accum, f"a divisor of the {rows} rollouts of a step")
    votes, size = cfg.tokens.votes, model.config.vocab_size
    for name, value in (
        ("topk", cfg.topk if cfg.variant in TOPK else 0),
        ("tokens.votes.size", votes.size),
        ("tokens.votes.top", votes.top),
    ):
        if value > size:
            raise bad(f"method.{name}", value, f"at most the vocabulary of {size}")
    for number in cfg.direction.opener_ids:
        if not 0 <= number < size:
            raise bad("method.direction.opener_ids", number, f"ids of the model, 0 to {size - 1}")
    names = jax.tree.map(len, model.axes, is_leaf=lambda x: isinstance(x, tuple))
    every = {"base": names, "teacher": names, "steering": {"add": 2}, "safety_tokens": {"ids": 1}}
    chosen, _ = trees.partition(every, cfg.trainable, field="method.trainable")
    if jax.tree.leaves({**chosen, "base": None}):
        raise bad("method.trainable", cfg.trainable, "regexes over base/ alone: the teacher stays")
    post_instruction(tokenizer)
    if cfg.teacher == "steered":
        drawable(cfg.tokens, tokenizer, setting)
        SYSTEMS[cfg.direction.system](tokenizer, setting.prompts["harmless_val"][0].messages)
    said = cfg.direction.max_tokens
    room = dict.fromkeys(PROMPT_SETS, said) | {"distil": cfg.max_tokens}
    room = {split: new for split, new in room.items() if setting.prompts.get(split)}
    for split in ("harmless_train", "harmless_val"):
        room[split] = max(said, votes.horizon, DRIFT_TOKENS)
    for split, new in room.items():
        prompts = [encode_prompt(tokenizer, item.messages) for item in setting.prompts[split]]
        longest = max(map(len, cut(prompts, cfg.max_prompt) if split == "distil" else prompts))
        if longest + new > context:
            given = f"a prompt of {longest} tokens + {new} new ones"
            raise bad(f"data ({split})", given, f"at most the context of {context}")
    contexts.fits(cfg, context, tokenizer, setting.prompts)


def cut(prompts: Sequence[Sequence[int]], most: int) -> list[Sequence[int]]:
    """The last `most` tokens of each prompt; all where it is 0.

    The published code has room for 512, and which side it cuts is not told: here the left, as
    TRL's trainers of this kind do (`max_prompt_length`).
    """
    return [ids[-most:] if most else ids for ids in prompts]
