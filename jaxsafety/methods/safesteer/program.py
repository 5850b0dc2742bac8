"""SafeSteer: localized on-policy distillation from an activation-steered teacher.

Paper: arXiv 2606.02530. Stages (the letters are ours): A a refusal direction by difference of
means, selected among layers and positions (`probing/directions.py`, `probing/selection.py`); B the
teacher is the frozen base with that direction added, an argument of the forward pass and not a copy
of a model; C a small set S of safety tokens by voting (`probing/votes.py`); D the student samples
answers to harmful prompts and is pulled towards the teacher on S alone, at every position of its
own answer (`losses/divergence.py`), each rollout weighing the same (eq. 7).

What differs by default (each is one config value; `preset=adapted` undoes the first two;
`published` compares any config with paper and code, and a run says what differs):
- loss "generalised" instead of "partial": partial is least at 1/e of the teacher's mass on S;
- the direction is selected on what the steered teacher writes (criterion "generation");
- S and K' are scaled to the organism's vocabulary.
Pinned by tests/methods/test_safesteer.py (the loss is the dense formula, the teacher gets no
gradient), test_safesteer_program.py (the direction and S are artifacts that a second run reads) and
tests/faults/test_safesteer_kills.py (a killed run resumes bitwise).
Letters: B rollouts, P prompt slots, T new tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.core.progress import Progress
from jaxsafety.data.pipeline import indices
from jaxsafety.losses import profile
from jaxsafety.losses.divergence import VARIANTS as VARIANTS
from jaxsafety.losses.divergence import check_subset, divergence
from jaxsafety.losses.logprobs import shift
from jaxsafety.losses.sampled import ESTIMATORS, sampled_kl
from jaxsafety.losses.weights import normalise
from jaxsafety.methods.safesteer import context as contexts
from jaxsafety.methods.safesteer.changed import compare
from jaxsafety.methods.safesteer.config import SafeSteerConfig as SafeSteerConfig
from jaxsafety.methods.safesteer.config import check as check
from jaxsafety.methods.safesteer.config import cut
from jaxsafety.methods.safesteer.config import fits as fits
from jaxsafety.methods.safesteer.flip import flip_rate
from jaxsafety.methods.safesteer.inspect import mass_on, position_kl
from jaxsafety.methods.safesteer.revote import revoting
from jaxsafety.methods.safesteer.teacher import (
    answers,
    encode_items,
    filter_prompts,
    find_direction,
    find_tokens,
    steering,
)
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import (
    Context,
    Item,
    LossFn,
    OptimConfig,
    Program,
    SampleConfig,
    Served,
    Stage,
    Variables,
    as_trained,
)
from jaxsafety.sampling import copies
from jaxsafety.sampling.prompts import buckets, pad_prompts, row_keys

PyTree = Any


@struct.dataclass
class Rollouts:
    """What the student said. tokens, mask, prompt [B,P+T]; weight [B,P+T] sums to 1.

    Where the teacher reads another prompt, told_tokens and told_mask [B,Q+T], Q at least P, are
    that and the same answers. Where S changes on the way, subset [B,C] is that of the update, the
    same in every row, so that a batch is split by rows as ever.
    """

    tokens: jax.Array
    mask: jax.Array
    prompt: jax.Array
    weight: jax.Array
    told_tokens: jax.Array | None = None
    told_mask: jax.Array | None = None
    subset: jax.Array | None = None


class Teacher(NamedTuple):
    """Stages A to C: steering, where it is added, the direction and S (None without steering)."""

    layers: LayerInputs
    steer: str
    found: Mapping[str, Any] | None
    subset: Mapping[str, Any] | None

    @property
    def ids(self) -> list[int] | None:
        """Of S."""
        return None if self.subset is None else list(self.subset["ids"])


def program(cfg: SafeSteerConfig, optim: OptimConfig, ctx: Context) -> Program:
    """Stages A to D. Artifacts: filter, direction and token_set where it steers; flip, revote.*."""
    check(cfg)
    base, teacher = ctx.variables["base"], find_teacher(cfg, ctx)
    ctx.artifact("flip", lambda: flips(cfg, ctx, teacher))
    if teacher.subset is not None:
        ctx.log(f"token set of {len(teacher.subset['ids'])}: {' '.join(teacher.subset['tokens'])}")
    voted = None
    if cfg.tokens.revote and teacher.found is not None and teacher.ids is not None:
        voted = revoting(cfg.tokens, ctx, teacher.found, teacher.ids)
    batches = rollout_batches(cfg, ctx, subset=voted)
    loss = localized_loss(ctx.model, cfg, teacher.steer, sharding.rows(ctx.mesh))
    start = {**ctx.variables, **frozen_teacher(ctx.model, base, teacher.layers, teacher.ids)}
    trained = yield Stage("distil", loss, cfg.trainable, batches, cfg.steps, optim, start=start)
    return trained


def find_teacher(cfg: SafeSteerConfig, ctx: Context) -> Teacher:
    """Stages A to C, or neither of them for a teacher that is told what to do."""
    if cfg.teacher == "context":
        c = ctx.model.config
        add = jnp.zeros((c.num_layers, c.embed_dim), jnp.float32)
        return Teacher(LayerInputs(add=add), "all", None, None)
    found = ctx.artifact("direction", lambda: find_direction(cfg.direction, ctx))
    subset = ctx.artifact("token_set", lambda: find_tokens(cfg.tokens, ctx, found))
    return Teacher(steering(found, ctx.model.config.num_layers), found["steer"], found, subset)


def flips(cfg: SafeSteerConfig, ctx: Context, teacher: Teacher) -> dict[str, Any]:
    """The teacher flip rate on validation prompts, answers sampled as in stage A."""
    tokens, how = ctx.tokenizer, cfg.direction
    decoding = SampleConfig(how.max_tokens, how.temperature, stop=tokens.eos_ids)
    told = contexts.text_of(cfg) if cfg.teacher == "context" else ""

    def base(items: Sequence[Item]) -> list[str]:
        return [tokens.decode(ids) for ids in answers(ctx, encode_items(ctx, items), decoding)]

    def taught(items: Sequence[Item]) -> list[str]:
        prompts = contexts.encode_items_with(tokens, items, told)
        said = answers(ctx, prompts, decoding, teacher.layers, teacher.steer)
        return [tokens.decode(ids) for ids in said]

    return flip_rate(ctx, base, taught)


def prepare(cfg: SafeSteerConfig, optim: OptimConfig, ctx: Context) -> None:
    """The filter of stage A, the first thing that can say that this model will not do."""
    del optim
    check(cfg)
    if cfg.teacher == "steered":
        ctx.artifact("filter", lambda: filter_prompts(cfg.direction, ctx))


def inspect(cfg: SafeSteerConfig, ctx: Context, trained: Variables) -> None:
    """What training did to the distribution. Artifacts: mass (of an S), position_kl, changed."""
    teacher = find_teacher(cfg, ctx)
    ids, how = teacher.ids, (cfg.variant, cfg.divergence)
    if ids is not None:
        ctx.artifact("mass", lambda: mass_on(ctx, trained, ids, teacher.layers, *how))
    ctx.artifact("position_kl", lambda: position_kl(ctx, trained, ids))
    ctx.artifact("changed", lambda: compare(ctx, trained, cfg.trainable))


def prompt_width(cfg: SafeSteerConfig, model: Model, longest: int) -> int:
    """The bucket of the longest prompt: all prompts are padded to it."""
    limit = model.config.max_length - cfg.max_tokens
    if longest > limit:
        allowed = f"prompt ({longest}) + answer in the context of {model.config.max_length}"
        raise bad("method.max_tokens", cfg.max_tokens, allowed)
    return next(w for w in buckets(limit) if w >= longest)


def rollout_batches(
    cfg: SafeSteerConfig,
    ctx: Context,
    serve: Callable[[SafeSteerConfig, Variables], Served] = as_trained,
    prompts: Sequence[Sequence[int]] | None = None,
    subset: Callable[[Variables, int], Any] | None = None,
) -> Callable[[Variables, int], Rollouts]:
    """On-policy batches: prompts by (seed, step), answers by the current student.

    All prompts share one width, so sampling and the step compile once.

    Args:
      cfg: settings of stage D.
      ctx: of the run.
      serve: what the variables answer with, as of `Method.serve`; its `encode` is not used, prompts
        are those of all stages.
      prompts: ids that are answered; None takes the setting's "distil", which a teacher that reads
        other prompts needs. Cut to `cfg.max_prompt`.
      subset: S of an update where it changes, see `revoting`.
    """
    told = None
    if cfg.teacher == "context":
        items = ctx.setting.prompts["distil"]
        told = contexts.encode_items_with(ctx.tokenizer, items, contexts.text_of(cfg))
    if prompts is None:
        prompts = encode_items(ctx, ctx.setting.prompts["distil"])
    elif told is not None:
        raise ValueError("a context teacher answers the setting's own prompts")
    if cfg.max_prompt:
        over = sum(len(ids) > cfg.max_prompt for ids in prompts)
        ctx.log(f"{over} of {len(prompts)} prompts cut to their last {cfg.max_prompt} tokens")
        prompts = cut(prompts, cfg.max_prompt)
    width = prompt_width(cfg, ctx.model, max(map(len, prompts)))
    beside = max(width, prompt_width(cfg, ctx.model, max(map(len, told)))) if told else width
    decoding = SampleConfig(cfg.max_tokens, cfg.temperature, stop=ctx.tokenizer.eos_ids)

    def batches(variables: Variables, step: int) -> Rollouts:
        ctx.interrupt.check()
        voted = None if subset is None else subset(variables, step)
        chosen = indices(ctx.seed, step, cfg.prompts_per_step, len(prompts))
        names = np.repeat(chosen, cfg.rollouts)
        samples = np.tile(np.arange(cfg.rollouts), len(chosen))
        batch = pad_prompts([prompts[i] for i in names], ctx.tokenizer.pad_id, (width,))
        keys = row_keys(ctx.seed, step, names, samples)
        batch, keys = sharding.beside(variables["base"], (batch, keys))  # each device its own rows
        what = f"rollouts of step {step + 1}"
        with Progress(ctx.log, what, total=len(names), unit="rollouts"):  # may take minutes
            said = copies.sample(ctx, serve(cfg, variables), batch, keys, decoding)
        ctx.interrupt.check()
        prompt = jnp.pad(batch.mask, ((0, 0), (0, cfg.max_tokens)))
        weight = normalise(said.completion, cfg.reduction)
        rollouts = Rollouts(said.tokens, said.mask, prompt, weight)
        if voted is not None:
            rows = np.tile(voted, (len(names), 1))
            rollouts = replace(rollouts, subset=sharding.beside(variables["base"], rows))
        if told is None:
            return rollouts
        own = pad_prompts([told[i] for i in names], ctx.tokenizer.pad_id, (beside,))
        own = sharding.beside(variables["base"], (own.tokens, own.mask))
        return retold(rollouts, cfg.max_tokens, *own)

    return batches


def retold(rollouts: Rollouts, answer: int, tokens: jax.Array, mask: jax.Array) -> Rollouts:
    """The rollouts with the teacher's own prompts, tokens and mask [B,Q], before the same answers.

    `answer` is T: the answers are the last T columns of what the student said, and of this.
    """
    said = rollouts.tokens[:, -answer:], rollouts.mask[:, -answer:]
    return replace(
        rollouts,
        told_tokens=jnp.concatenate([tokens, said[0]], axis=1),
        told_mask=jnp.concatenate([mask, said[1]], axis=1),
    )


def frozen_teacher(
    model: Model, params: PyTree, teacher: LayerInputs, subset: Sequence[int] | None
) -> Variables:
    """The variables that the loss reads and never trains: teacher, steering [L,D], S [C] if any.

    S and the steering are variables and no constants of the loss, so that one compiled step serves
    every direction and every set of the same size. Raises UsageError if S is no set of ids.
    """
    frozen: Variables = {"teacher": params, "steering": {"add": teacher.add}}
    if subset is not None:
        frozen["safety_tokens"] = {"ids": check_subset(subset, model.config.vocab_size)}
    return frozen


def localized_loss(model: Model, cfg: SafeSteerConfig, steer: str, shards: int = 1) -> LossFn:
    """Eq. 6-7: divergence from the steered teacher on S at every position of the student's answer.

    `shards`: devices that the rows of a batch are split over. The frozen variables hold those of
    `frozen_teacher`. A teacher with a prompt of its own is scored on `told_tokens`, at the same
    tokens of the answer. Metrics, where there is an S: the mass on it at the first answer position,
    of student and teacher; a rollout counts as much as in the loss.
    """
    how = cfg.variant, cfg.divergence, cfg.topk, cfg.max_tokens
    return _localized(model, *how, steer, shards)  # the rest of `cfg` changes no program


@cache  # equal stages share a compiled step: see `Stage`
def _localized(
    model: Model, variant: str, kind: str, topk: int, answer: int, steer: str, shards: int
) -> LossFn:
    """The loss of `localized_loss`; `answer` [tokens] is the room for one."""

    def loss(params: PyTree, frozen: PyTree, batch: Rollouts, key: jax.Array) -> Any:
        every = {  # what is trained of it, and what is not
            name: trees.combine(params[name], frozen[name]) if name in frozen else params[name]
            for name in ("base", "adapters")
            if name in params
        }
        student, ids = every["base"], frozen.get("safety_tokens", {}).get("ids")
        ids = ids if batch.subset is None else batch.subset[0]
        teacher = LayerInputs(**frozen["steering"], adapters=frozen.get("teacher_adapters"))
        ours = hidden_states(
            model, student, batch, LayerInputs(adapters=every.get("adapters")), "all"
        )
        theirs = hidden_states(model, frozen["teacher"], _told(batch), teacher, steer)
        if batch.told_tokens is not None:  # both end with the answer
            theirs = theirs[:, theirs.shape[1] - ours.shape[1] :]
        theirs = jax.lax.stop_gradient(theirs)
        rows, tokens, weight = shift(ours, batch.tokens, batch.weight)
        head, frozen_head = model.head(student), model.head(frozen["teacher"])
        cap = model.config.logit_cap
        given = rows, theirs.reshape(rows.shape), head
        train_head = bool(jax.tree.leaves(params["base"]))
        options: Any = dict(train_head=train_head, shards=shards, cap=cap)
        if variant in ESTIMATORS:
            options |= dict(head_t=frozen_head, estimator=variant)
            value, _ = sampled_kl(*given, tokens, weight, **options)
        else:
            options |= dict(variant=variant, subset=ids, kind=kind, topk=topk)
            value, _ = divergence(*given, frozen_head, weight, **options)
        if ids is None:
            return value, {}
        last = batch.prompt.shape[1] - answer - 1  # predicts the first answer token
        share = batch.weight.sum(axis=1)  # weighted sums, as the loss: accumulation adds them up
        mass = jnp.sum(share * profile.subset_mass(ours[:, last], head, ids, cap=cap))
        aim = jnp.sum(share * profile.subset_mass(theirs[:, last], frozen_head, ids, cap=cap))
        return value, jax.lax.stop_gradient({"mass/student": mass, "mass/teacher": aim})

    return loss


def _told(batch: Rollouts) -> Rollouts:
    """What the teacher reads, of which only tokens and mask are its own."""
    if batch.told_tokens is None:
        return batch
    return replace(batch, tokens=batch.told_tokens, mask=batch.told_mask)


def hidden_states(
    model: Model, params: PyTree, batch: Rollouts, layers: LayerInputs, steer: str
) -> jax.Array:
    """[B,T,D] of a teacher-forced pass over left-padded rollouts."""
    positions = jnp.maximum(jnp.cumsum(batch.mask, axis=1) - 1, 0).astype(jnp.int32)
    if steer == "prompt":
        layers = replace(layers, where=batch.prompt)
    segments = batch.mask.astype(jnp.int32)
    return model.apply(params, batch.tokens, positions, segments=segments, layers=layers).hidden
