"""DPO: learning from pairs of answers of which one is preferred (Rafailov et al. 2023).

One stage on the loss of `losses/preference.py`: plain DPO (arXiv 2305.18290, eq. 7), or one of the
forms that scores of further objectives shift (MODPO, arXiv 2310.03708). The reference is the model
that the stage begins with; what it says of the pairs is computed once. With a rank the base is
frozen, one LoRA expert per projection is trained, merged for measurement, and kept as a PEFT
directory (`adapter/` of the workdir), as in supervised fine-tuning. Pairs of `data.holdout` are not
trained on: their margin is measured on the way (`held_out.py`).
What differs from the usual recipe: none; it is the baseline other methods are compared with.
Pinned by tests/methods/test_dpo.py and tests/parity/test_dpo_trl.py.
Letters: B pairs, T positions, K scores; the second axis is (preferred, other).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxsafety.adapters import lora
from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.core.progress import Progress
from jaxsafety.data.preferences import FittedPairs, fitted_pairs
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.methods.dpo import pairs
from jaxsafety.methods.dpo.config import DpoConfig, check, settings, trained
from jaxsafety.methods.dpo.held_out import HeldPairs
from jaxsafety.methods.sft import program as sft
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
    Variables,
)


def encode(
    cfg: DpoConfig, tokenizer: Tokenizer, setting: Setting, log: Callable[[str], None]
) -> Dialogues:
    """The pairs as tokens, and the held-out ones where there are some.

    Raises:
      UsageError: a dialogue that the template refuses, a pair that is too long, a score that is
        missing or outside [0,1].
    """
    if cfg.val_every and not setting.held_pairs:
        raise bad("method.val_every", cfg.val_every, "0 without data.holdout")
    if not setting.pairs:
        return Dialogues()  # `fits` says so
    read = partial(
        fitted_pairs,
        tokenizer,
        length=cfg.length,
        long=cfg.long,
        scores=cfg.scores,
        label=cfg.label,
        log=log,
    )
    held = read(setting.held_pairs, what="held-out pairs") if setting.held_pairs else None
    return Dialogues(pairs=read(setting.pairs), held_pairs=held)


def fits(
    cfg: DpoConfig, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """Rejects what this model cannot do, before anything is measured."""
    del tokenizer  # `encode` read the pairs
    sft.fits_model(trained(cfg), optim, model)
    if not setting.pairs:
        raise bad("data.pairs", "no pairs", "a file of preference pairs, or data.source=organism")


def program(cfg: DpoConfig, optim: OptimConfig, ctx: Context) -> Program:
    """One stage, "dpo"; with LoRA the result is the base with the adapters merged."""
    check(cfg)
    model, shards = ctx.model, sharding.rows(ctx.mesh)
    data = ctx.dialogues
    if data.pairs is None:
        data = encode(cfg, ctx.tokenizer, ctx.setting, ctx.log)
    if data.pairs is None:
        raise bad("data.pairs", "no pairs", "a file of preference pairs, or data.source=organism")
    start: Variables = dict(ctx.variables)
    if cfg.rank:
        start["adapters"] = sft.fresh(trained(cfg), model, jax.random.key(ctx.seed))
    rows = max(1, cfg.rows // optim.accum)  # what the devices hold at once anyway
    learnt = with_reference(ctx, data.pairs, "reference", rows)
    loss, watch = pairs.pair_loss(model, settings(cfg), shards), None
    if data.held_pairs is not None:
        held = with_reference(ctx, data.held_pairs, "reference.held", rows)
        watch = HeldPairs(ctx, loss, held, rows)
    stage = Stage(
        "dpo",
        loss,
        ("base/.*",),
        pairs.batches(learnt, cfg.rows, ctx.seed),
        cfg.steps,
        optim,
        watch=watch,
        every=cfg.val_every or -(-cfg.steps // 10),
    )
    if cfg.rank:
        names = sft.names(trained(cfg), model)
        stage = stage._replace(
            trainable=("adapters/experts/.*",),
            start=start,
            axes={"adapters": lora.adapter_axes(model.projections, names)},
        )
    left = yield stage
    if watch is not None:
        watch.keep(start, left, cfg.steps)
    if not cfg.rank:
        return left
    tree = left["adapters"]
    peft.save_adapter(
        ctx.workdir / "adapter", model, tree, base=ctx.base_path, fingerprint=ctx.setting.base
    )
    if model.config.kernels == "int8":
        return {**ctx.variables, "adapters": tree}
    return {**ctx.variables, "base": lora.merge(left["base"], tree, model.projections)}


def with_reference(ctx: Context, data: FittedPairs, name: str, rows: int) -> pairs.Pairs:
    """The pairs as arrays, with what the model says of them before it is trained.

    Fresh adapters change nothing, so the reference goes without.

    Args:
      ctx: of the run; its variables are the reference.
      data: N pairs.
      name: of the artifact that keeps the reference.
      rows: pairs of a pass.
    """
    made = pairs.assemble(
        data.preferred, data.other, ctx.tokenizer.pad_id, scores=data.scores, label=data.labels
    )

    def compute() -> dict[str, Any]:
        total = len(data.preferred)
        with Progress(ctx.log, "log-probabilities of pairs", total=total, unit="pairs") as progress:

            def report(done: int) -> None:
                progress(done)
                ctx.interrupt.check()

            told = pairs.referred(ctx.model, ctx.variables, made, rows, ctx.mesh, report)
        return {"logp": told}

    return replace(made, reference=np.asarray(ctx.artifact(name, compute)["logp"]))


def planned(cfg: DpoConfig, model: Model, mesh: Mesh | None, prompt: int) -> Planned:
    """The step as shapes, for `plan`; `prompt` is not used, sides have `length` tokens."""
    basis = sft.planned(trained(cfg), model, mesh, prompt)
    shape: Any = jax.ShapeDtypeStruct  # stands for arrays
    width = -(-cfg.length // pairs.WIDTHS) * pairs.WIDTHS
    size = (cfg.rows, 2, width)
    whole, mask = shape(size, "int32"), shape(size, "float32")
    pair, one = shape(size[:2], "float32"), shape(size[:1], "float32")
    scores = shape((cfg.rows, 2, len(cfg.scores)), "float32")
    return basis._replace(
        stage="dpo",
        loss=pairs.pair_loss(model, settings(cfg), sharding.rows(mesh)),
        batch=pairs.Pairs(whole, whole, whole, mask, pair, scores, one, one),
    )
