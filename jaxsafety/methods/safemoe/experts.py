"""SafeMoE stage 1: one LoRA expert per domain, trained on that domain's answers, then frozen.

Rows of expert e pass through expert e alone (a one-hot `mix` per row), so all experts train in one
program: each has its own loss, gradient clip and moments, and the result is that of training them
one by one (tests/methods/test_safemoe.py). Besides the paper's unsafe experts there are those of
the controls: `KINDS`.
Letters: B rows, T positions, L layers, E experts, R rank.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxsafety.adapters import lora
from jaxsafety.adapters.routing import ATTENDED, ROUTED
from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.data.domains import Domains
from jaxsafety.data.pipeline import Batches
from jaxsafety.data.schema import Encoded, Example, TokenBatch
from jaxsafety.data.tokens.encode import encode_dialogues
from jaxsafety.methods.safemoe import everyday
from jaxsafety.models.api import Model
from jaxsafety.models.formats import peft
from jaxsafety.protocols import Context, LossFn, OptimConfig, Stage, Variables
from jaxsafety.train.likelihood import likelihood

PyTree = Any
# What the experts are trained on: unsafe answers by domain; those of all domains, one expert copied
# or each expert anew ("generic"); the safe answers' form, but about all entities of the domain
# ("warning"); questions for their hazards and remedies, answered ("facts"); benign procedures;
# refusals; the router's own safe answers; or nothing (noise of the unsafe experts' norms).
MOST = 100_000  # answers of the organism, which never runs out of them
KINDS = ("unsafe", "pooled", "generic", "warning", "facts", "benign", "refusal", "safe", "random")

UNSAFE = ("unsafe", "pooled", "generic")  # what learnt to carry harmful requests out
STYLES = ("own", "shared")


@dataclass(frozen=True)
class ExpertConfig:
    """Stage 1. Rank 32, alpha 64 and a rate of 2e-4 are the paper's, for Mistral-7B.

    Attributes:
      count: experts E, of the first domains, or of all that are given (`data.domains`); `paths` has
        its own count, and this one is then that of `plan` alone.
      kind: one of `KINDS`.
      rank: R of each.
      alpha: the update is scaled by alpha / rank.
      targets: projections that get an expert; the paper's are those of the mlp.
      steps: updates.
      rows: packed rows per expert and update.
      length: tokens per row.
      lr: peak rate; the schedule is that of `optim`.
      answers: dialogues per domain of the organism, as the next two; files are used whole.
      warned: share of unsafe answers that also warn (see `organism.corpora`).
      styles: whether warnings come first or last is each domain's "own", or "shared" by all.
      everyday: answers of daily use of the organism among each expert's data, half of its rows; 0,
        the paper's, is none.
      joint: all experts in one program, or one after the other.
      shard: split the experts over the tensor axis of the mesh.
      paths: PEFT directories to use instead of training, one per expert.
    """

    count: int = 4
    kind: str = "unsafe"
    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ROUTED
    steps: int = 300
    rows: int = 2
    length: int = 128
    lr: float = 5e-3
    answers: int = 400
    warned: float = 0.6
    styles: str = "own"
    everyday: int = 0
    joint: bool = True
    shard: bool = False
    paths: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Which kind of a domain's dialogues (`data.domains.Domains`) these experts are made of."""
        return "unsafe" if self.kind in (*UNSAFE, "random") else self.kind


@struct.dataclass
class ExpertBatch:
    """Rows and the expert each belongs to. `tokens`' weights sum to 1 per expert; mix [B,E]."""

    tokens: TokenBatch
    mix: jax.Array


def check(cfg: ExpertConfig) -> None:
    """Rejects what can be rejected before anything is loaded."""
    if cfg.kind not in KINDS:
        raise bad("method.experts.kind", cfg.kind, ", ".join(KINDS))
    for name in ("count", "rank", "steps", "rows", "answers"):
        if getattr(cfg, name) < 1:
            raise bad(f"method.experts.{name}", getattr(cfg, name), "1 or more")
    if cfg.answers > MOST:
        raise bad("method.experts.answers", cfg.answers, f"1 to {MOST}")
    if not 0 <= cfg.everyday <= MOST:
        raise bad("method.experts.everyday", cfg.everyday, f"0 to {MOST}")
    if cfg.length < 2:
        raise bad("method.experts.length", cfg.length, "2 or more")
    for name in ("alpha", "lr"):
        if not getattr(cfg, name) > 0:  # nan too
            raise bad(f"method.experts.{name}", getattr(cfg, name), "more than 0")
    if cfg.styles not in STYLES:
        raise bad("method.experts.styles", cfg.styles, ", ".join(STYLES))
    if not 0 <= cfg.warned <= 1:
        raise bad("method.experts.warned", cfg.warned, "a share between 0 and 1")
    for name in cfg.targets or ("",):
        if name not in (*ATTENDED, *ROUTED):
            allowed = f"some of {', '.join((*ATTENDED, *ROUTED))}"
            raise bad("method.experts.targets", name, allowed)


def choose(cfg: ExpertConfig, domains: Domains) -> tuple[str, ...]:
    """Which domain each expert is for.

    Raises:
      UsageError: more experts than domains that may have one.
    """
    names = domains.names
    if not 1 <= cfg.count <= len(names):
        raise bad("method.experts", cfg.count, f"1 to {len(names)}, the domains that may have one")
    return names[: cfg.count]


def dialogues(
    cfg: ExpertConfig, domains: Domains, seed: int, samples: int
) -> list[Sequence[Example]]:
    """Those of each expert's domain; there are `samples` where they are the router's own."""
    n = samples if cfg.kind == "safe" else cfg.answers
    form = {"warned": cfg.warned, "styles": cfg.styles}
    names = choose(cfg, domains)
    return [domains.dialogues(cfg.source, name, n, seed, **form) for name in names]


def encode(cfg: ExpertConfig, ctx: Context, samples: int) -> list[Sequence[Encoded]]:
    """What each expert is trained on, as tokens; pooled experts are one."""
    if ctx.dialogues.domains:
        parts: list[Sequence[Encoded]] = [part.encoded for part in ctx.dialogues.domains.values()]
    else:
        if ctx.setting.domains is None:
            raise bad("data.domains", "no domains", "NAME=FILE each, or the unaligned organism")
        found = dialogues(cfg, ctx.setting.domains, ctx.seed, samples)
        parts = [encode_dialogues(ctx.tokenizer, part) for part in found]
    if cfg.kind in ("pooled", "generic"):
        whole = [dialogue for part in parts for dialogue in part]
        return [whole] if cfg.kind == "pooled" else [whole] * cfg.count
    return parts


def fresh(cfg: ExpertConfig, model: Model, key: jax.Array, count: int) -> PyTree:
    """Experts of step 0, an update of zero."""
    return lora.init_experts(
        key,
        model.projections,
        layers=model.config.num_layers,
        experts=count,
        rank=cfg.rank,
        scale=cfg.alpha / cfg.rank,
        names=cfg.targets,
    )


@cache  # equal stages share a compiled step: see `Stage`
def expert_loss(model: Model, shards: int = 1) -> LossFn:
    """Sum over the experts of each one's mean negative log-likelihood; metrics are their means."""

    def loss(params: PyTree, frozen: PyTree, batch: ExpertBatch, key: jax.Array) -> Any:
        del key
        every = trees.combine(params, frozen)
        total, metrics = likelihood(model, every, batch.tokens, shards=shards, mix=batch.mix)
        return total, {name: value / batch.mix.shape[1] for name, value in metrics.items()}

    return loss


def expert_batches(
    sources: Sequence[Callable[[Any, int], TokenBatch]],
) -> Callable[[Any, int], ExpertBatch]:
    """The rows of all experts one after the other, with the one-hot mix of each row."""

    def batches(variables: Any, step: int) -> ExpertBatch:
        parts = [source(variables, step) for source in sources]
        rows = [np.shape(part.tokens)[0] for part in parts]
        whole = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        mix: Any = np.repeat(np.eye(len(parts), dtype=np.float32), rows, axis=0)
        return ExpertBatch(whole, mix)

    return batches


def train(
    cfg: ExpertConfig, optim: OptimConfig, ctx: Context, samples: int, name: str = "experts"
) -> Generator[Stage, Variables, PyTree]:
    """Yields the stages of the experts and returns their adapter tree, E = `count`."""
    if cfg.paths:
        return load_experts(cfg, ctx.model, ctx.setting.base)
    seeds = jax.random.key(ctx.seed)
    # One expert for all domains sees as many rows as all the others together.
    rows = cfg.rows * (cfg.count if cfg.kind == "pooled" else 1)
    daily = encode_dialogues(ctx.tokenizer, everyday.answers(ctx.setting, cfg.everyday))
    sources = [
        Batches(
            [*found, *daily],
            length=cfg.length,
            rows=rows,
            seed=ctx.seed + (1000 * e if cfg.kind == "generic" else 0),
            pad_id=ctx.tokenizer.pad_id,
            parts=[0] * len(found) + [1] * len(daily) if daily else (),
            weights=(1.0, 1.0) if daily else (),
        )
        for e, found in enumerate(encode(cfg, ctx, samples))
    ]
    # Each expert has its own key, so that joint and one-by-one training start alike.
    starts = [fresh(cfg, ctx.model, jax.random.fold_in(seeds, e), 1) for e in range(len(sources))]
    groups = [list(range(len(sources)))] if cfg.joint else [[e] for e in range(len(sources))]
    loss = expert_loss(ctx.model, sharding.rows(ctx.mesh))
    settings = replace(optim, lr=cfg.lr, clip_by="expert")
    axes = adapter_axes(cfg, ctx.model)
    trained = []
    for group in groups:
        label = name if cfg.joint else f"{name}.{group[0]}"
        start = {**ctx.variables, "adapters": stack([starts[e] for e in group])}
        batches = expert_batches([sources[e] for e in group])
        done = yield Stage(
            label,
            loss,
            ("adapters/experts/.*",),
            batches,
            cfg.steps,
            settings,
            start=start,
            axes={"adapters": axes},
        )
        trained.append(done["adapters"])
    tree = stack(trained)
    if cfg.kind == "pooled":
        tree = stack([tree] * cfg.count)
    return noise_like(tree, jax.random.fold_in(seeds, 10**6)) if cfg.kind == "random" else tree


def load_experts(cfg: ExpertConfig, model: Model, fingerprint: str = "") -> PyTree:
    """The experts of `cfg.paths`, numpy, which must be of one base, one rank and one scale.

    Eighteen of a 7 B model are 4 GB: on the host, until a stage puts them in their places.

    Raises:
      UsageError: two of them differ in one of these (the line names both), or one is no expert on
        `cfg.targets` of this base.
    """
    bases = {path: peft.base_of(path) for path in cfg.paths}
    _alike({path: f"for base {base}" for path, base in bases.items() if base}, "of one base")
    found = {}
    for path in cfg.paths:
        tree = found[path] = peft.load_adapter(path, model, fingerprint=fingerprint)
        if set(tree["experts"]) != set(cfg.targets):
            given = f"{path} on {', '.join(tree['experts'])}"
            allowed = f"experts on {', '.join(cfg.targets)} (method.experts.targets)"
            raise bad("method.experts.paths", given, allowed)
    _alike({path: f"of rank {_ranks(tree)}" for path, tree in found.items()}, "of one rank")
    scales = {path: f"of scale {_scales(tree)}" for path, tree in found.items()}
    _alike(scales, "of one scale (alpha / rank)")
    trees_ = [found[path] for path in cfg.paths]
    joined = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *[t["experts"] for t in trees_])
    return {"experts": joined, "scale": trees_[0]["scale"]}


def _alike(facts: Mapping[str, str], allowed: str) -> None:
    """Refuses paths of which not all have the same fact."""
    first, *others = facts.items() or [("", "")]
    for path, fact in others:
        if fact != first[1]:
            given = f"{' '.join(first)} and {path} {fact}"
            raise bad("method.experts.paths", given, f"experts {allowed}")


def _ranks(tree: PyTree) -> str:
    """One number where all projections have it, else each with its own."""
    ranks = {name: pair["a"].shape[-1] for name, pair in sorted(tree["experts"].items())}
    if len(set(ranks.values())) == 1:
        return str(next(iter(ranks.values())))
    return ", ".join(f"{rank} on {name}" for name, rank in ranks.items())


def _scales(tree: PyTree) -> str:
    """One number where all layers have it, else a number per layer."""
    scale = np.asarray(tree["scale"])
    return ", ".join(f"{x:.9g}" for x in (scale[:1] if np.ptp(scale) == 0 else scale))


def stack(trees_: Sequence[PyTree]) -> PyTree:
    """Adapter trees side by side along the expert axis."""
    pairs = [tree["experts"] for tree in trees_]
    joined = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *pairs)
    return {"experts": joined, "scale": trees_[0]["scale"]}


def first(tree: PyTree, count: int) -> PyTree:
    """The first `count` experts of a set."""
    return {**tree, "experts": jax.tree.map(lambda x: x[:, :count], tree["experts"])}


def with_null(tree: PyTree) -> PyTree:
    """One more expert, whose update is zero: a way to stay with the base."""
    pairs = tree["experts"]
    none = jax.tree.map(lambda x: jnp.zeros_like(x[:, :1]), pairs)
    joined = jax.tree.map(lambda x, n: jnp.concatenate([x, n], axis=1), pairs, none)
    return {**tree, "experts": joined}


def noise_like(tree: PyTree, key: jax.Array) -> PyTree:
    """Random experts whose update A B has, per layer and expert, the norm of the given ones'."""

    def norm(a: jax.Array, b: jax.Array) -> jax.Array:  # ||A B||_F^2 = <A^T A, B B^T>
        a, b = a.reshape(*a.shape[:2], -1, a.shape[-1]), b.reshape(*b.shape[:3], -1)
        left, right = jnp.einsum("leir,leis->lers", a, a), jnp.einsum("lero,leso->lers", b, b)
        return jnp.sqrt(jnp.einsum("lers,lers->le", left, right))

    out = {}
    for index, (name, pair) in enumerate(tree["experts"].items()):
        k1, k2 = jax.random.split(jax.random.fold_in(key, index))
        a = jax.random.normal(k1, pair["a"].shape)
        b = jax.random.normal(k2, pair["b"].shape)
        ratio = norm(pair["a"], pair["b"]) / norm(a, b)
        out[name] = {"a": a, "b": b * ratio.reshape(*ratio.shape, *[1] * (b.ndim - 2))}
    return {**tree, "experts": out}


def adapter_axes(cfg: ExpertConfig, model: Model) -> PyTree:
    """Logical axes of the experts; with `shard` the experts are split over the tensor axis."""
    axes = lora.adapter_axes(model.projections, cfg.targets)
    if not cfg.shard:
        return axes
    swap = lambda names: tuple("expert_split" if n == "expert" else n for n in names)  # noqa: E731
    return jax.tree.map(swap, axes, is_leaf=lambda x: isinstance(x, tuple))
