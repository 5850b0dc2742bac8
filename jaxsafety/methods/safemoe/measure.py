"""What a mixture of experts says and where it routes: rates per role of the domains, and usage.

A safe rate alone is no success: every point has the share that is safe *and* informative over all
prompts, and beside it what harmless requests get. Routing is read from the answers' own tokens: how
even the mixtures are, how much each expert is used, and the mutual information between a prompt's
domain and the expert that weighs most, against the same with domains permuted.
Letters: L layers, B rows, T positions, E experts, G domains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.adapters import routing as routers
from jaxsafety.benchmarks import intervals, outcomes
from jaxsafety.core import sharding, trees
from jaxsafety.data.schema import Example
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.judges.judging import judged
from jaxsafety.methods.safemoe import topics
from jaxsafety.methods.safemoe.config import MeasureConfig
from jaxsafety.methods.safemoe.data import brings
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import Benchmark, Context, Exchange, Item, SampleConfig
from jaxsafety.sampling.ask import ask

ANSWER = 48  # tokens of an answer whose routing is read
ROWS = 128  # of them in one pass
NO_LAYERS = LayerInputs()


def poll(ctx: Context) -> None:
    """Ends here after SIGTERM: what was made so far is on disk."""
    ctx.interrupt.check()


def can_measure(ctx: Context) -> bool:
    """Whether there are the organism's sets to measure on."""
    return brings(ctx.setting) and bool(ctx.setting.benchmarks)


def make_measure(cfg: MeasureConfig, ctx: Context) -> Callable[..., dict[str, Any]]:
    """`(params, layers, name) -> point`: "<set>.<metric>.<greedy|t1>" and "capability" to shares.

    Metrics are those of `outcomes.METRICS`. Of safety sets also "<set>.asr.<greedy|t1>.<domain>":
    does an expert serve its own domain? And "capability.<task>" of every task. With a name the
    shares' prompts are kept: artifact `prompts.<name>`, as `by_prompt` makes it.
    """
    sets: dict[str, Benchmark] = {b.name: b for b in ctx.setting.own}
    asked = [
        (b, item)
        for b in sets.values()
        if b.kind != "capability"
        for item in b.items[: cfg.safety if b.kind == "safety" else cfg.harmless]
    ]
    tasks = [(b, i) for b in sets.values() if b.kind == "capability" for i in b.items[: cfg.tasks]]
    longest = max(b.max_tokens for b in sets.values() if b.kind != "capability")

    def verdicts(
        params: Any, layers: LayerInputs, items: Sequence[Item], temperature: float, length: int
    ) -> list[Any]:
        return judged(ctx.setting.judge, answers(ctx, params, layers, items, temperature, length))

    def measure(params: Any, layers: LayerInputs = NO_LAYERS, name: str = "") -> dict[str, Any]:
        point: dict[str, Any] = {}
        kept: dict[str, np.ndarray] = {}
        for decoding, temperature in (("greedy", 0.0), ("t1", 1.0)):
            told = verdicts(params, layers, [item for _, item in asked], temperature, longest)
            for bench in dict.fromkeys(b.name for b, _ in asked):
                own = [(i, v) for (b, i), v in zip(asked, told, strict=True) if b.name == bench]
                found = outcomes.indicators([v for _, v in own], sets[bench].kind)
                for metric, values in found.items():
                    kept[f"{bench}.{metric}.{decoding}"] = values
                    point[f"{bench}.{metric}.{decoding}"] = outcomes.mean(values)
                if sets[bench].kind == "safety":
                    point |= {f"{bench}.asr.{decoding}.{d}": x for d, x in by_domain(own).items()}
        if name:
            entities: dict[str, list[str]] = {}
            for bench, item in asked:
                entities.setdefault(bench.name, []).append(str(item.meta["entity"]))
            ctx.artifact(f"prompts.{name}", lambda: by_prompt(kept, entities))
        told = verdicts(params, layers, [item for _, item in tasks], 0.0, 24)
        right: dict[str, list[bool | None]] = {}
        for (bench, _), verdict in zip(tasks, told, strict=True):
            right.setdefault(bench.name, []).append(verdict["correct"])
        point |= {f"capability.{task}": share(found) for task, found in right.items()}
        point["capability"] = share([x for found in right.values() for x in found])
        return {**point, "n": cfg.safety}

    return measure


def by_prompt(
    kept: Mapping[str, np.ndarray], entities: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What stands behind the shares of a point, so that others can ask it other questions.

    Args:
      kept: "<set>.<metric>.<greedy|t1>" -> [X] of 0, 1 and NaN (cannot be told), one per prompt.
      entities: set -> the entity that each of its prompts is about.

    Returns:
      `kept`, entities, and intervals: the same keys -> (lo, hi) of the share, Student's t over
      entities, None where fewer than two say anything.
    """
    found = {}
    for name, values in kept.items():
        lo, hi = intervals.clustered(values, entities[name.partition(".")[0]])
        found[name] = None if np.isnan(lo) else (lo, hi)
    arrays = {name: np.asarray(values, np.float32) for name, values in kept.items()}
    return {**arrays, "entities": {k: list(v) for k, v in entities.items()}, "intervals": found}


def share(flags: Sequence[bool | None]) -> float | None:
    """Share of True among what is known; None where nothing is."""
    known = [flag for flag in flags if flag is not None]
    return float(np.mean(known)) if known else None


def by_domain(told: Sequence[tuple[Item, Any]]) -> dict[int, float | None]:
    """Domain -> share of its requests that were carried out, rightly and coherently."""
    found: dict[int, list[bool | None]] = {}
    for item, verdict in told:
        both = [verdict[name] for name in ("coherent", "unsafe")]
        done = False if False in both else None if None in both else True
        found.setdefault(int(item.meta["domain"]), []).append(done)
    return {d: share(done) for d, done in sorted(found.items())}


def answers(
    ctx: Context,
    params: Any,
    layers: LayerInputs,
    items: Sequence[Item],
    temperature: float,
    length: int,
) -> list[Exchange]:
    """One answer per item."""
    decoding = SampleConfig(length, temperature, stop=ctx.tokenizer.eos_ids)
    return ask(
        ctx.model, params, ctx.tokenizer, items, decoding, seed=ctx.seed, step=11, layers=layers
    )


def routes(
    cfg: MeasureConfig, ctx: Context, params: Any, layers: LayerInputs
) -> dict[str, Any] | None:
    """Where the tokens of the model's greedy answers went; None where no block's router decides.

    Returns:
      usage [L,E] mean weight; by_domain [L,G,E]; entropy [L] of the mixtures in nats, per token;
      dominant [L,E] share of tokens an expert weighs most in; information [L] and chance [L]
      (95 % quantile under permuted domains) in nats; domains [G], of files their names and those of
      measured sets (`asked`); tokens: how many. Where the setting has harmless requests about the
      same domains also topic, harm, harm_given_topic [L] with their chance (`topics.told`), and
      compared: how many harmful and harmless prompts.
    """
    router = (layers.adapters or {}).get("router", {})
    if routers.BLOCK not in router or "mix" in router[routers.BLOCK]:
        return None
    if not brings(ctx.setting):
        items, names = asked(ctx, cfg.routed)
        return summed(*routed(ctx, params, layers, items), names, ctx.seed) if items else None
    items = [item for b in ctx.setting.own if b.kind == "safety" for item in b.items[: cfg.routed]]
    if not items:
        return None
    mix, owner = routed(ctx, params, layers, items)
    label = [int(item.meta["domain"]) for item in items]
    found, count = summed(mix, owner, label, ctx.seed), mix.shape[-1]
    kept, harmless = topics.counterparts(ctx, items, cfg.routed)
    if not kept:
        return found
    counted = topics.counts(mix.argmax(axis=-1), owner, len(items), count)[:, kept]
    mix, owner = routed(ctx, params, layers, harmless)
    other = topics.counts(mix.argmax(axis=-1), owner, len(harmless), count)
    whole = np.concatenate([counted, other], axis=1)
    domain = np.r_[np.array(label)[kept], [item.meta["domain"] for item in harmless]]
    harmful = np.arange(len(domain)) < len(kept)
    found |= topics.told(whole, domain, harmful, ctx.seed)
    return {**found, "compared": [len(kept), len(harmless)]}


def asked(ctx: Context, size: int) -> tuple[list[Item], list[str]]:
    """Prompts of the user's files, `size` at most of each, and what they are of.

    Those of each domain, those of each file of answers that the router learns, and those of each
    measured set whose answers are written; "(measured)" is behind a set that has a file's name.
    Prompts that leave no room for an answer are left out, and the log counts them.
    """
    found: dict[str, list[Item]] = {}

    def add(name: str, dialogues: Sequence[Example]) -> None:
        found[name] = [Item(e.id, tuple(e.messages[:-1]), {}) for e in dialogues]

    domains, learnt = ctx.setting.domains, ctx.setting.examples
    if domains is not None:
        for name in domains.names:
            add(name, domains.dialogues("unsafe", name, size, ctx.seed, warned=0.0, styles="own"))
    for part in sorted({int(e.meta.get("part", 0)) for e in learnt}):
        mine = [e for e in learnt if int(e.meta.get("part", 0)) == part]
        file = Path(str(mine[0].meta.get("file", ""))).stem
        name = "answers" if len(mine) == len(learnt) or not file else f"answers, {file}"
        add(name if name not in found else f"{name} ({part})", mine)
    for bench in ctx.setting.own:
        if bench.form == "text":
            taken = bench.name.casefold() in {name.casefold() for name in found}
            found[f"{bench.name} (measured)" if taken else bench.name] = list(bench.items)
    room, long = ctx.model.config.max_length - ANSWER, 0
    every: list[tuple[Item, str]] = []
    for name, items in found.items():
        short: list[Item] = []
        for item in items:  # a file may be long: no more of it is read than is asked
            if len(short) == size:
                break
            fits = len(encode_prompt(ctx.tokenizer, item.messages)) <= room
            long += not fits
            short += [item] if fits else []
        every += [(item, name) for item in short]
    if long:
        ctx.log(f"routes: {long} prompts left out, of more than {room} tokens")
    return [item for item, _ in every], [name for _, name in every]


def summed(mix: np.ndarray, owner: np.ndarray, label: Sequence[Any], seed: int) -> dict[str, Any]:
    """What `routes` tells of mixtures [L,N,E] whose [N] prompts have these labels [X]."""
    domains, of = np.unique(np.array(label), return_inverse=True)
    which, top = of[owner], mix.argmax(axis=-1)
    rng = np.random.default_rng(seed)
    chance = []
    for _ in range(topics.PERMUTATIONS):  # whole answers: tokens of one are not independent
        shuffled = rng.permutation(of)[owner]
        chance.append([information(shuffled, layer) for layer in top])
    one = np.eye(mix.shape[-1])
    safe = np.where(mix > 0, mix, 1.0)
    return {
        "usage": mix.mean(axis=1),
        "by_domain": np.stack([mix[:, which == g].mean(axis=1) for g in range(len(domains))], 1),
        "entropy": -(mix * np.log(safe)).sum(axis=-1).mean(axis=1),
        "dominant": one[top].mean(axis=1),
        "information": np.array([information(which, layer) for layer in top]),
        "chance": np.quantile(np.array(chance), 0.95, axis=0),
        "domains": domains.tolist(),
        "tokens": len(owner),
    }


def routed(
    ctx: Context, params: Any, layers: LayerInputs, items: Sequence[Item]
) -> tuple[np.ndarray, np.ndarray]:
    """Mixtures [L,N,E] of the tokens of greedy answers, and whose [N] they are."""
    found = [x.answer.ids for x in answers(ctx, params, layers, items, 0.0, ANSWER) if x.answer]
    prompts = [encode_prompt(ctx.tokenizer, item.messages) for item in items]
    length = max(len(p) + len(a) for p, a in zip(prompts, found, strict=True))
    ids = np.zeros((len(items), length), np.int32)
    prompt, told = np.zeros(ids.shape, bool), np.zeros(ids.shape, bool)
    for row, (p, a) in enumerate(zip(prompts, found, strict=True)):
        ids[row, : len(p) + len(a)] = [*p, *a]
        prompt[row, : len(p)] = True
        told[row, len(p) - 1 : len(p) + len(a)] = True  # where the answer's tokens are chosen
    parts = []
    for start in range(0, len(items), ROWS):  # attention is over whole rows: not all at once
        rows = slice(start, start + ROWS)
        placed = sharding.beside(params, (jnp.asarray(ids[rows]), jnp.asarray(prompt[rows])))
        mix = trees.host(_mixtures(ctx.model, params, layers, *placed))
        whole = (mix.shape[0], *ids[rows].shape, mix.shape[-1])
        parts.append(np.broadcast_to(mix, whole)[:, told[rows]])
    return np.concatenate(parts, axis=1), np.repeat(np.arange(len(items)), told.sum(axis=1))


def information(first: np.ndarray, second: np.ndarray) -> float:
    """Mutual information of two label vectors [N], nats, plug-in estimate."""
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first, second), 1.0)
    return float(topics.mutual(table))


@partial(jax.jit, static_argnames=("model",))
def _mixtures(
    model: Model, params: Any, layers: LayerInputs, ids: jax.Array, prompt: jax.Array
) -> Any:
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    pool = routers.pool(prompt, layers.routing)
    layers = replace(layers, pool=pool)
    return model.apply(params, ids, positions, layers=layers, capture=True).mix
