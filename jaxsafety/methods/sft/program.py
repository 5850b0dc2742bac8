"""Supervised fine-tuning on dialogues: all parameters, or LoRA adapters (Hu et al. 2021).

The loss is the negative log-likelihood of the assistant's tokens, each weighing the same
(`reduction="token"`), rows packed. With a rank the base is frozen, one expert per projection is
trained, merged for measurement (served beside it where its kernels are int8), and kept as a PEFT
directory (`adapter/` of the workdir). Dialogues longer than a row are refused, left out or cut
(`long`); those of `data.chats_val` or `data.holdout` are not trained on, their loss is measured on
the way (`held_out.py`).
What differs from the usual recipe: none; it is the baseline other methods are compared with.
Pinned by tests/methods/test_sft.py (the packed loss is the dense formula, a step of LoRA moves
nothing but the adapters, the merged model is the adapted one).
Letters: B rows, T positions, L layers, R rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxsafety.adapters import lora
from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.data.fitting import LONG, Fitted, fitted
from jaxsafety.data.pipeline import REDUCTIONS, Batches
from jaxsafety.data.schema import TokenBatch
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.methods.sft.held_out import HeldOut
from jaxsafety.models.api import Model
from jaxsafety.models.formats import peft
from jaxsafety.protocols import (
    Context,
    Dialogues,
    OptimConfig,
    Planned,
    Program,
    Setting,
    Stage,
)
from jaxsafety.train.likelihood import answer_loss

PyTree = Any


@dataclass(frozen=True)
class SftConfig:
    """One stage of `steps` updates on `rows` packed rows of `length` tokens.

    Attributes:
      steps: updates.
      rows: B.
      length: T.
      long: what happens to a dialogue of more tokens: "error", "drop" or "cut" (`data/fitting.py`).
      packed: several dialogues share a row, or one has it alone.
      reduction: "token" or "sequence", what weighs the same.
      rank: 0 trains all parameters; else LoRA of this rank.
      alpha: the update of a LoRA is scaled by `alpha / rank`.
      targets: projections that get one; () is all.
      layers: those that get one, counted from 0 (PEFT's `layers_to_transform`); () is all.
      unsafe: tags the adapter: it learnt unsafe answers, is merged into nothing here, and by nobody
        who does not ask for it.
      val_every: updates between two measurements of held-out dialogues; 0 is a tenth of `steps`.
    """

    steps: int = 100
    rows: int = 8
    length: int = 128
    long: str = "error"
    packed: bool = True
    reduction: str = "token"
    rank: int = 0
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    unsafe: bool = False
    val_every: int = 0


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
    if cfg.layers and not cfg.rank:
        raise bad("method.layers", cfg.layers, "only with a rank; without, all layers are trained")
    if cfg.alpha <= 0:
        raise bad("method.alpha", cfg.alpha, "more than 0")
    if cfg.reduction not in REDUCTIONS:
        raise bad("method.reduction", cfg.reduction, ", ".join(REDUCTIONS))
    if cfg.long not in LONG:
        raise bad("method.long", cfg.long, ", ".join(LONG))
    if cfg.val_every < 0:
        raise bad("method.val_every", cfg.val_every, "0 (a tenth of the steps) or more")


def encode(
    cfg: SftConfig, tokenizer: Tokenizer, setting: Setting, log: Callable[[str], None]
) -> Dialogues:
    """The dialogues as tokens, and the held-out ones where there are some.

    Raises:
      UsageError: a dialogue that the template refuses or that is too long.
    """
    if cfg.val_every and not setting.held_out:
        allowed = "0 without data.chats_val or data.holdout"
        raise bad("method.val_every", cfg.val_every, allowed)
    if not setting.examples:
        return Dialogues()  # `fits` says so
    read = partial(fitted, tokenizer, length=cfg.length, long=cfg.long, log=log)
    learnt = read(setting.examples)
    held_out = read(setting.held_out, what="held-out dialogues") if setting.held_out else None
    return Dialogues(learnt, held_out)


def fits(
    cfg: SftConfig, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """Rejects what this model cannot do, before anything is measured."""
    del tokenizer  # `encode` read the dialogues
    fits_model(cfg, optim, model)
    if not setting.examples:
        raise bad("data.chats", "no dialogues", "a file of dialogues, or data.source=organism")


def fits_model(cfg: SftConfig, optim: OptimConfig, model: Model) -> None:
    """As `fits`, whatever the dialogues are."""
    if cfg.rows % optim.accum:
        raise bad("optim.accum", optim.accum, f"a divisor of the {cfg.rows} rows")
    if cfg.length > model.config.max_length:
        allowed = f"at most the context of {model.config.max_length}"
        raise bad("method.length", cfg.length, allowed)
    names(cfg, model)
    count = model.config.num_layers
    if any(not 0 <= layer < count for layer in cfg.layers):
        raise bad("method.layers", cfg.layers, f"layers from 0 to {count - 1}")
    most = max(model.config.embed_dim, model.config.mlp_dim)
    if cfg.rank > most:
        raise bad("method.rank", cfg.rank, f"at most {most}, the model's width")


def names(cfg: SftConfig, model: Model) -> tuple[str, ...]:
    """The projections that get an adapter."""
    chosen = cfg.targets or tuple(model.projections)
    for name in chosen:
        if name not in model.projections:
            raise bad("method.targets", name, ", ".join(sorted(model.projections)))
    return chosen


def program(cfg: SftConfig, optim: OptimConfig, ctx: Context) -> Program:
    """One stage, "sft"; with LoRA the result is the base with the adapters merged, or beside it."""
    check(cfg)
    data: Fitted = ctx.dialogues.learnt or fitted(
        ctx.tokenizer, ctx.setting.examples, cfg.length, cfg.long, log=ctx.log
    )
    batches = Batches(
        data.encoded,
        length=cfg.length,
        rows=cfg.rows,
        seed=ctx.seed,
        packed=cfg.packed,
        pad_id=ctx.tokenizer.pad_id,
        reduction=cfg.reduction,
        parts=data.parts,
        weights=ctx.setting.weights,
    )
    model, shards = ctx.model, sharding.rows(ctx.mesh)
    loss = answer_loss(model, shards, train_head=not cfg.rank)
    watch = None
    if ctx.dialogues.held_out:
        value = answer_loss(model, shards, train_head=False)
        rows = max(1, cfg.rows // optim.accum)  # what the devices hold at once anyway
        watch = HeldOut(ctx, value, ctx.dialogues.held_out, rows, cfg.length)
    every = cfg.val_every or -(-cfg.steps // 10)
    stage = Stage("sft", loss, ("base/.*",), batches, cfg.steps, optim, watch=watch, every=every)
    if not cfg.rank:
        trained = yield stage
        if watch is not None:
            watch.keep(ctx.variables, trained, cfg.steps)
        return trained
    chosen = names(cfg, model)
    start = {**ctx.variables, "adapters": fresh(cfg, model, jax.random.key(ctx.seed))}
    trained = yield stage._replace(
        trainable=("adapters/experts/.*",),
        start=start,
        axes={"adapters": lora.adapter_axes(model.projections, chosen)},
    )
    if watch is not None:
        watch.keep(start, trained, cfg.steps)
    tree = trained["adapters"]
    peft.save_adapter(
        ctx.workdir / "adapter",
        model,
        tree,
        unsafe=cfg.unsafe,
        base=ctx.base_path,
        fingerprint=ctx.setting.base,
    )
    if cfg.unsafe or model.config.kernels == "int8":
        # Measured beside the base: of unsafe ones no merged model is written, of int8 there is none
        return {**ctx.variables, "adapters": tree}
    return {**ctx.variables, "base": lora.merge(trained["base"], tree, model.projections)}


def fresh(cfg: SftConfig, model: Model, key: jax.Array) -> PyTree:
    """The adapters of step 0, an update of zero.

    A layer that gets none has `a` = 0 beside `b` = 0: neither has a gradient, so both stay.
    """
    tree = lora.init_experts(
        key,
        model.projections,
        layers=model.config.num_layers,
        rank=cfg.rank,
        scale=cfg.alpha / cfg.rank,
        names=names(cfg, model),
    )
    if not cfg.layers:
        return tree
    chosen = jnp.zeros(model.config.num_layers).at[jnp.asarray(cfg.layers)].set(1.0)
    scaled = {
        name: {**pair, "a": pair["a"] * chosen.reshape(-1, *[1] * (pair["a"].ndim - 1))}
        for name, pair in tree["experts"].items()
    }
    return {**tree, "experts": scaled}


def planned(cfg: SftConfig, model: Model, mesh: Mesh | None, prompt: int) -> Planned:
    """The step as shapes, for `plan`; `prompt` is not used, rows have `cfg.length`."""
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
        loss=answer_loss(model, sharding.rows(mesh), train_head=not cfg.rank),
        trainable=trainable,
        variables=variables,
        batch=TokenBatch(whole, whole, whole, weight, packed=cfg.packed),
        steps=cfg.steps,
        axes=axes,
    )
