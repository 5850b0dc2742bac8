"""SafeSteer: localized on-policy distillation from an activation-steered teacher.

Paper: arXiv 2606.02530. Stages (the letters are ours): A a refusal direction by difference of
means, selected among layers and positions (`probing/directions.py`, `probing/selection.py`); B the
teacher is the frozen base with that direction added, an argument of the forward pass and not a copy
of a model; C a small set S of safety tokens by voting (`probing/votes.py`); D the student samples
answers to harmful prompts and is pulled towards the teacher on S alone, at every position of its
own answer (`losses/divergence.py`), each rollout weighing the same (eq. 7).

What differs by default (each is one config value; `preset=paper` undoes the first two; `published`
compares any config with paper and code, and a run says what differs):
- loss "generalised" instead of "partial": partial converges to 1/e of the teacher's mass on S;
- the direction is selected on what the steered teacher writes (criterion "generation");
- S and K' are scaled to the organism's vocabulary.
Pinned by tests/methods/test_safesteer.py (the loss is the dense formula, the teacher gets no
gradient), test_safesteer_program.py (the direction and S are artifacts that a second run reads) and
tests/faults/test_safesteer_kills.py (a killed run resumes bitwise).
Letters: B rollouts, P prompt slots, T new tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.core.progress import Progress
from jaxsafety.data.pipeline import indices
from jaxsafety.data.tokens.encode import encode_prompt, post_instruction
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.losses import profile
from jaxsafety.losses.divergence import VARIANTS, check_subset, divergence
from jaxsafety.losses.logprobs import shift
from jaxsafety.losses.weights import normalise
from jaxsafety.methods.safesteer.changed import compare
from jaxsafety.methods.safesteer.inspect import DRIFT_TOKENS, mass_on, position_kl
from jaxsafety.methods.safesteer.teacher import (
    PROMPT_SETS,
    SYSTEMS,
    VOTERS,
    DirectionConfig,
    TokenConfig,
    encode_items,
    filter_prompts,
    find_direction,
    find_tokens,
    steering,
)
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.probing import selection
from jaxsafety.protocols import (
    Context,
    LossFn,
    OptimConfig,
    Program,
    SampleConfig,
    Served,
    Setting,
    Stage,
    Variables,
    as_trained,
)
from jaxsafety.sampling import decode

PyTree = Any
POSITIVE = ("steps", "prompts_per_step", "rollouts", "max_tokens", "topk")


@dataclass(frozen=True)
class SafeSteerConfig:
    """All stages; the fields below `divergence` are stage D. `reduction` "sequence" is eq. 7.

    `max_prompt`: of a longer prompt of stage D the last `max_prompt` tokens are left, 0 cuts none.
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


@struct.dataclass
class Rollouts:
    """What the student said. tokens, mask, prompt [B,P+T]; weight [B,P+T] sums to 1."""

    tokens: jax.Array
    mask: jax.Array
    prompt: jax.Array
    weight: jax.Array


def check(cfg: SafeSteerConfig) -> None:
    """Rejects what can be rejected before anything is loaded or computed."""
    select = cfg.direction.select
    for name, value, known in (
        ("variant", cfg.variant, VARIANTS),
        ("divergence", cfg.divergence, ("reverse_kl", "forward_kl")),
        ("tokens.prompts", cfg.tokens.prompts, VOTERS),
        ("tokens.kind", cfg.tokens.kind, ("votes", "random", "matched")),
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


def fits(
    cfg: SafeSteerConfig, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """Rejects what this model cannot do: prompts and answers beyond its context, above all."""
    rows, context = cfg.prompts_per_step * cfg.rollouts, model.config.max_length
    if rows % optim.accum:
        raise bad("optim.accum", optim.accum, f"a divisor of the {rows} rollouts of a step")
    votes, size = cfg.tokens.votes, model.config.vocab_size
    for name, value in (
        ("topk", cfg.topk if cfg.variant == "topk" else 0),
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


def program(cfg: SafeSteerConfig, optim: OptimConfig, ctx: Context) -> Program:
    """Stages A to D. Artifacts: filter, direction and token_set."""
    check(cfg)
    base = ctx.variables["base"]
    found = ctx.artifact("direction", lambda: find_direction(cfg.direction, ctx))
    teacher = steering(found, ctx.model.config.num_layers)
    subset = ctx.artifact("token_set", lambda: find_tokens(cfg.tokens, ctx, found))
    ctx.log(f"token set of {len(subset['ids'])}: {' '.join(subset['tokens'])}")
    batches = rollout_batches(cfg, ctx)
    loss = localized_loss(ctx.model, cfg, found["steer"], sharding.rows(ctx.mesh))
    start = {**ctx.variables, **frozen_teacher(ctx.model, base, teacher, subset["ids"])}
    trained = yield Stage("distil", loss, cfg.trainable, batches, cfg.steps, optim, start=start)
    return trained


def prepare(cfg: SafeSteerConfig, optim: OptimConfig, ctx: Context) -> None:
    """The filter of stage A, the first thing that can say that this model will not do."""
    del optim
    check(cfg)
    ctx.artifact("filter", lambda: filter_prompts(cfg.direction, ctx))


def inspect(cfg: SafeSteerConfig, ctx: Context, trained: Variables) -> None:
    """What training did to the distribution. Artifacts: mass, position_kl, changed."""
    found = ctx.artifact("direction", lambda: find_direction(cfg.direction, ctx))
    teacher = steering(found, ctx.model.config.num_layers)
    ids = ctx.artifact("token_set", lambda: find_tokens(cfg.tokens, ctx, found))["ids"]
    how = cfg.variant, cfg.divergence
    ctx.artifact("mass", lambda: mass_on(ctx, trained, ids, teacher, *how))
    ctx.artifact("position_kl", lambda: position_kl(ctx, trained, ids))
    ctx.artifact("changed", lambda: compare(ctx, trained, cfg.trainable))


def prompt_width(cfg: SafeSteerConfig, model: Model, longest: int) -> int:
    """The bucket of the longest prompt: all prompts are padded to it."""
    limit = model.config.max_length - cfg.max_tokens
    if longest > limit:
        allowed = f"prompt ({longest}) + answer in the context of {model.config.max_length}"
        raise bad("method.max_tokens", cfg.max_tokens, allowed)
    return next(w for w in decode.buckets(limit) if w >= longest)


def cut(prompts: Sequence[Sequence[int]], most: int) -> list[Sequence[int]]:
    """The last `most` tokens of each prompt; all where it is 0.

    The published code has room for 512, and which side it cuts is not told: here the left, as
    TRL's trainers of this kind do (`max_prompt_length`).
    """
    return [ids[-most:] if most else ids for ids in prompts]


def rollout_batches(
    cfg: SafeSteerConfig,
    ctx: Context,
    serve: Callable[[SafeSteerConfig, Variables], Served] = as_trained,
    prompts: Sequence[Sequence[int]] | None = None,
) -> Callable[[Variables, int], Rollouts]:
    """On-policy batches: prompts by (seed, step), answers by the current student.

    All prompts share one width, so sampling and the step compile once.

    Args:
      cfg: settings of stage D.
      ctx: of the run.
      serve: what the variables answer with, as of `Method.serve`; its `encode` is not used, prompts
        are those of all stages.
      prompts: ids that are answered; None takes the setting's "distil". Cut to `cfg.max_prompt`.
    """
    if prompts is None:
        prompts = encode_items(ctx, ctx.setting.prompts["distil"])
    if cfg.max_prompt:
        over = sum(len(ids) > cfg.max_prompt for ids in prompts)
        ctx.log(f"{over} of {len(prompts)} prompts cut to their last {cfg.max_prompt} tokens")
        prompts = cut(prompts, cfg.max_prompt)
    width = prompt_width(cfg, ctx.model, max(map(len, prompts)))
    decoding = SampleConfig(cfg.max_tokens, cfg.temperature, stop=ctx.tokenizer.eos_ids)

    def batches(variables: Variables, step: int) -> Rollouts:
        ctx.interrupt.check()
        chosen = indices(ctx.seed, step, cfg.prompts_per_step, len(prompts))
        names = np.repeat(chosen, cfg.rollouts)
        samples = np.tile(np.arange(cfg.rollouts), len(chosen))
        batch = decode.pad_prompts([prompts[i] for i in names], ctx.tokenizer.pad_id, (width,))
        keys = decode.row_keys(ctx.seed, step, names, samples)
        if ctx.mesh is not None and ctx.mesh.size > 1:  # each device its own rollouts
            batch, keys = sharding.global_batch(ctx.mesh, (batch, keys))
        what = f"rollouts of step {step + 1}"
        with Progress(ctx.log, what, total=len(names), unit="rollouts"):  # may take minutes
            what = serve(cfg, variables)
            said = decode.sample(
                ctx.model, what.params, batch, keys, decoding, what.layers, what.steer
            )
            jax.block_until_ready(said.tokens)
        ctx.interrupt.check()
        prompt = jnp.pad(batch.mask, ((0, 0), (0, cfg.max_tokens)))
        weight = normalise(said.completion, cfg.reduction)
        return Rollouts(said.tokens, said.mask, prompt, weight)

    return batches


def frozen_teacher(
    model: Model, params: PyTree, teacher: LayerInputs, subset: Sequence[int]
) -> Variables:
    """The variables that the loss reads and never trains: teacher, steering [L,D], S [C].

    S and the steering are variables and no constants of the loss, so that one compiled step serves
    every direction and every set of the same size. Raises UsageError if S is no set of ids.
    """
    ids = check_subset(subset, model.config.vocab_size)
    steering = {"steering": {"add": teacher.add}, "safety_tokens": {"ids": ids}}
    return {"teacher": params, **steering}


def localized_loss(model: Model, cfg: SafeSteerConfig, steer: str, shards: int = 1) -> LossFn:
    """Eq. 6-7: divergence from the steered teacher on S at every position of the student's answer.

    `shards`: devices that the rows of a batch are split over. The frozen variables hold those of
    `frozen_teacher`. Metrics: mass on S at the first answer position, of student and teacher; a
    rollout counts as much as in the loss.
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
        student, ids = every["base"], frozen["safety_tokens"]["ids"]
        teacher = LayerInputs(**frozen["steering"], adapters=frozen.get("teacher_adapters"))
        ours = hidden_states(
            model, student, batch, LayerInputs(adapters=every.get("adapters")), "all"
        )
        theirs = hidden_states(model, frozen["teacher"], batch, teacher, steer)
        theirs = jax.lax.stop_gradient(theirs)
        rows, weight = shift(ours, batch.weight)
        head, frozen_head = model.head(student), model.head(frozen["teacher"])
        cap = model.config.logit_cap
        value, _ = divergence(
            rows,
            theirs.reshape(rows.shape),
            head,
            frozen_head,
            weight,
            variant=variant,
            subset=ids,
            kind=kind,
            topk=topk,
            train_head=bool(jax.tree.leaves(params["base"])),
            shards=shards,
            cap=cap,
        )
        last = batch.prompt.shape[1] - answer - 1  # predicts the first answer token
        share = batch.weight.sum(axis=1)  # weighted sums, as the loss: accumulation adds them up
        mass = jnp.sum(share * profile.subset_mass(ours[:, last], head, ids, cap=cap))
        aim = jnp.sum(share * profile.subset_mass(theirs[:, last], frozen_head, ids, cap=cap))
        return value, jax.lax.stop_gradient({"mass/student": mass, "mass/teacher": aim})

    return loss


def hidden_states(
    model: Model, params: PyTree, batch: Rollouts, layers: LayerInputs, steer: str
) -> jax.Array:
    """[B,T,D] of a teacher-forced pass over left-padded rollouts."""
    positions = jnp.maximum(jnp.cumsum(batch.mask, axis=1) - 1, 0).astype(jnp.int32)
    if steer == "prompt":
        layers = replace(layers, where=batch.prompt)
    segments = batch.mask.astype(jnp.int32)
    return model.apply(params, batch.tokens, positions, segments=segments, layers=layers).hidden
