"""Supervised fine-tuning on dialogues: all parameters, or LoRA adapters (Hu et al. 2021).

The loss is the negative log-likelihood of the assistant's tokens, each weighing the same
(`reduction="token"`), rows packed. With a rank the base is frozen, one expert per projection is
trained, merged for measurement, and kept as a PEFT directory (`adapter/` of the workdir).
What differs from the usual recipe: none; it is the baseline other methods are compared with.
Pinned by tests/methods/test_sft.py (the packed loss is the dense formula, a step of LoRA moves
nothing but the adapters, the merged model is the adapted one).
Letters: B rows, T positions, L layers, R rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from jaxsafety import sharding, trees
from jaxsafety.adapters import lora
from jaxsafety.data.chat import encode_dialogues
from jaxsafety.data.pipeline import REDUCTIONS, Batches
from jaxsafety.data.schema import TokenBatch
from jaxsafety.errors import bad
from jaxsafety.losses.logprobs import nll
from jaxsafety.models import peft
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import (
    Context,
    LossFn,
    Method,
    OptimConfig,
    Planned,
    Program,
    Stage,
    Variables,
)

PyTree = Any


@dataclass(frozen=True)
class SftConfig:
    """One stage of `steps` updates on `rows` packed rows of `length` tokens.

    `rank` 0 trains all parameters; else LoRA of that rank on `targets` (projection names; () is
    all), whose update is scaled by `alpha / rank`. `unsafe` tags the adapter: it learnt unsafe
    answers, is merged into nothing here, and by nobody who does not ask for it.
    """

    steps: int = 100
    rows: int = 8
    length: int = 128
    packed: bool = True
    reduction: str = "token"
    rank: int = 0
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    unsafe: bool = False


def check(cfg: SftConfig) -> None:
    """Rejects what can be rejected before anything is loaded."""
    for name in ("steps", "rows"):
        if getattr(cfg, name) < 1:
            raise bad(f"method.{name}", getattr(cfg, name), "1 or more")
    if cfg.length < 2:
        raise bad("method.length", cfg.length, "2 or more: the first token predicts the second")
    if cfg.rank < 0:
        raise bad("method.rank", cfg.rank, "0 (all parameters) or more")
    if cfg.unsafe and not cfg.rank:
        raise bad("method.unsafe", True, "only with a rank: the model itself would be the result")
    if cfg.alpha <= 0:
        raise bad("method.alpha", cfg.alpha, "more than 0")
    if cfg.reduction not in REDUCTIONS:
        raise bad("method.reduction", cfg.reduction, ", ".join(REDUCTIONS))


def fits(cfg: SftConfig, optim: OptimConfig, model: Model, tokenizer: Any, place: Any) -> None:
    """Rejects what this model cannot do, before anything is measured."""
    if cfg.rows % optim.accum:
        raise bad("optim.accum", optim.accum, f"a divisor of the {cfg.rows} rows")
    if cfg.length > model.config.max_length:
        allowed = f"at most the context of {model.config.max_length}"
        raise bad("method.length", cfg.length, allowed)
    names(cfg, model)
    if not place.examples:
        raise bad("data.chats", "no dialogues", "a file of dialogues, or data.source=organism")
    longest = max(len(e.ids) for e in encode_dialogues(tokenizer, place.examples))
    if longest > cfg.length:
        raise bad("method.length", cfg.length, f"at least {longest}, the longest dialogue")


def names(cfg: SftConfig, model: Model) -> tuple[str, ...]:
    """The projections that get an adapter."""
    chosen = cfg.targets or tuple(model.projections)
    for name in chosen:
        if name not in model.projections:
            raise bad("method.targets", name, ", ".join(sorted(model.projections)))
    return chosen


def program(cfg: SftConfig, optim: OptimConfig, ctx: Context) -> Program:
    """One stage, "sft"; with LoRA the result is the base with the adapters merged."""
    check(cfg)
    batches = Batches(
        encode_dialogues(ctx.tokenizer, ctx.extras["examples"]), length=cfg.length, rows=cfg.rows,
        seed=ctx.seed, packed=cfg.packed, pad_id=ctx.tokenizer.pad_id, reduction=cfg.reduction,
        parts=[e.meta.get("part", 0) for e in ctx.extras["examples"]],
        weights=ctx.extras.get("weights", ()),
    )  # fmt: skip
    model, shards = ctx.model, sharding.rows(ctx.mesh)
    loss = chat_loss(model, shards, train_head=not cfg.rank)
    if not cfg.rank:
        return (yield Stage("sft", loss, ("base/.*",), batches, cfg.steps, optim))
    chosen = names(cfg, model)
    adapters = fresh(cfg, model, jax.random.key(ctx.seed))
    trained = yield Stage(
        "sft", loss, ("adapters/experts/.*",), batches, cfg.steps, optim,
        start={**ctx.variables, "adapters": adapters},
        axes={"adapters": lora.adapter_axes(model.projections, chosen)},
    )  # fmt: skip
    tree = trained["adapters"]
    base = peft.owner(ctx.extras)
    peft.save_adapter(ctx.workdir / "adapter", model, tree, unsafe=cfg.unsafe, **base)
    if cfg.unsafe:  # measured beside the base, so that no merged model is written
        return {**ctx.variables, "adapters": tree}
    return {**ctx.variables, "base": lora.merge(trained["base"], tree, model.projections)}


def fresh(cfg: SftConfig, model: Model, key: jax.Array) -> PyTree:
    """The adapters of step 0, an update of zero."""
    return lora.init_experts(
        key, model.projections, layers=model.config.num_layers, rank=cfg.rank,
        scale=cfg.alpha / cfg.rank, names=names(cfg, model),
    )  # fmt: skip


def chat_loss(model: Model, shards: int = 1, *, train_head: bool = True) -> LossFn:
    """Weighted negative log-likelihood, through the adapters where there are some.

    `train_head`: whether the unembedding is trained; a frozen one costs a matmul less.
    """

    def loss(params: PyTree, frozen: PyTree, batch: TokenBatch, key: jax.Array) -> Any:
        every = trees.combine(params, frozen)
        base, layers = every["base"], LayerInputs(adapters=every.get("adapters"))
        out = model.apply(
            base, batch.tokens, batch.positions, segments=batch.segments, layers=layers
        )
        return nll(
            out.hidden, model.head(base), batch.tokens, batch.weight,
            train_head=train_head, shards=shards, cap=model.config.logit_cap,
        )  # fmt: skip

    return loss


def planned(cfg: SftConfig, model: Model, mesh: Any, prompt: int) -> Planned:
    """The step as shapes, for `plan`; `prompt` is not used, rows are packed."""
    del prompt
    shape: Any = jax.ShapeDtypeStruct  # stands for arrays
    size = (cfg.rows, cfg.length)
    whole, weight = shape(size, "int32"), shape(size, "float32")
    variables = {"base": jax.eval_shape(model.init, jax.random.key(0))}
    trainable, axes = ("base/.*",), {}
    if cfg.rank:
        trainable = ("adapters/experts/.*",)
        variables["adapters"] = jax.eval_shape(lambda k: fresh(cfg, model, k), jax.random.key(0))
        axes["adapters"] = lora.adapter_axes(model.projections, names(cfg, model))
    return Planned(
        stage="sft",
        loss=chat_loss(model, sharding.rows(mesh), train_head=not cfg.rank),
        trainable=trainable,
        variables=variables,
        batch=TokenBatch(whole, whole, whole, weight),
        steps=cfg.steps,
        axes=axes,
    )


def serve(cfg: SftConfig, variables: Variables) -> LayerInputs:
    """An unsafe adapter is not merged."""
    del cfg
    return LayerInputs(adapters=variables.get("adapters"))


METHOD = Method(SftConfig, check, program, fits, serve)
