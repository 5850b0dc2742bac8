"""What SafeMoE learns from: domains and safe answers of the organism, or of the user's files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.data.domains import Domains
from jaxsafety.data.fitting import Fitted, fitted
from jaxsafety.data.pipeline import Batches
from jaxsafety.data.schema import Example, TokenBatch
from jaxsafety.data.tokens.encode import encode_dialogues
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.methods.safemoe import everyday
from jaxsafety.methods.safemoe.config import OTHER, SafeMoEConfig
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.protocols import Context, Dialogues, Setting


def encode(
    cfg: SafeMoEConfig, tokenizer: Tokenizer, setting: Setting, log: Callable[[str], None]
) -> Dialogues:
    """The user's files as tokens: the router's answers, and what each expert is trained on.

    Raises:
      UsageError: see `suits`, and dialogues that do not fit their row.
    """
    suits(cfg, setting)
    if not setting.given:
        return Dialogues()
    learnt = fitted(tokenizer, setting.examples, cfg.length, cfg.long, log=log)
    return Dialogues(learnt, domains=read(cfg, tokenizer, setting, log))


def read(
    cfg: SafeMoEConfig, tokenizer: Tokenizer, setting: Setting, log: Callable[[str], None]
) -> dict[str, Fitted]:
    """The domains of the user's files as tokens; none where the organism makes them."""
    if setting.domains is None or brings(setting):
        return {}
    form = {"warned": cfg.experts.warned, "styles": cfg.experts.styles}
    return {
        name: fitted(
            tokenizer,
            setting.domains.dialogues("unsafe", name, cfg.experts.answers, setting.seed, **form),
            cfg.experts.length,
            cfg.long,
            log=log,
            name="method.experts.length",
            what=f"dialogues of domain {name}",
            option="method.long",
        )
        for name in setting.domains.names
    }


def brings(setting: Setting) -> bool:
    """Whether the setting makes safe answers of its own: that of an unaligned organism."""
    return setting.domains is not None and "safe" in setting.domains.kinds


def suits(cfg: SafeMoEConfig, setting: Setting) -> None:
    """Rejects what the setting has no dialogues for, and domains that nothing would read."""
    if brings(setting):
        return
    experts, domains = cfg.experts, setting.domains
    if domains is not None:
        names, usual = domains.names, ExpertConfig()
        if experts.paths or cfg.gate == "lora":
            why = "beside method.experts.paths" if experts.paths else "with method.gate=lora"
            raise bad("data.domains", ", ".join(names), f"() {why}: no expert is trained")
        if experts.source not in domains.kinds:
            allowed = "unsafe, pooled, generic, random: data.domains have no other answers"
            raise bad("method.experts.kind", experts.kind, allowed)
        if experts.count != len(names):
            allowed = f"{len(names)}, one for each of data.domains"
            raise bad("method.experts.count", experts.count, allowed)
        for name in ("answers", "warned", "styles", "everyday"):
            given, default = getattr(experts, name), getattr(usual, name)
            if given != default:
                allowed = f"{default!r}, the default: files of data.domains are used as they are"
                raise bad(f"method.experts.{name}", given, allowed)
    elif not experts.paths and cfg.gate != "lora":
        allowed = "PEFT directories, or data.domains, unless the model is the unaligned organism"
        raise bad("method.experts.paths", (), allowed)
    if not setting.examples:
        raise bad("data.chats", "no dialogues", "a file of safe, informative answers")
    for name in OTHER:
        if getattr(cfg, name):
            allowed = "0: mix files of answers by data.mix instead"
            raise bad(f"method.{name}", getattr(cfg, name), allowed)


def short(tokenizer: Tokenizer, found: Sequence[Example], length: int, name: str) -> None:
    """Refuses dialogues of the organism that are longer than a row of `method.<name>` tokens."""
    longest = max(len(e.ids) for e in encode_dialogues(tokenizer, found))
    if longest > length:
        raise bad(f"method.{name}", length, f"at least {longest}, the longest dialogue")


def update_rows(cfg: SafeMoEConfig) -> int:
    """Of stage 2."""
    return cfg.rows * (1 + any(getattr(cfg, name) for name in OTHER))


def beside(cfg: SafeMoEConfig, setting: Setting, domains: Domains) -> list[Example]:
    """What the organism's router learns besides safe answers."""
    return [
        *domains.harmless(cfg.harmless, setting.seed),
        *everyday.answers(setting, cfg.everyday),
    ]


def safe_batches(cfg: SafeMoEConfig, ctx: Context) -> Callable[[Any, int], TokenBatch]:
    """Safe answers of the organism or of the file, one per row; as many of `beside` again."""
    domains = ctx.setting.domains
    if domains is not None and brings(ctx.setting):
        safe = domains.safe(cfg.samples, ctx.seed)
        other = beside(cfg, ctx.setting, domains)
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
