"""The attacks on an arm, and how much of it is left: ablated directions, prefilled answers.

Directions are differences of means of the *arm's* block inputs, refused prompts against harmless
ones (arXiv 2406.11717), projected out of every layer: the one whose ablation lets most validation
attacks through, or the r first right singular vectors of all differences at unit length, since a
defence need not stand on one direction. The ablated model exists as an argument of a forward pass;
nothing writes it. A prefilled answer begins with the first tokens of a true procedure.
Few-shot fine-tuning is a stage: see `program`.
Pinned by tests/studies/test_safesteer_attacked.py.
Letters: P positions, L layers, D width, R directions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsafety.benchmarks.organism import world_of
from jaxsafety.data.tokens.encode import encode_prompt, post_instruction
from jaxsafety.judges.judging import judged, pair, require
from jaxsafety.methods.safesteer.teacher import encode_items
from jaxsafety.models.api import LayerInputs
from jaxsafety.organism import render
from jaxsafety.probing import directions
from jaxsafety.protocols import Context, Item, SampleConfig, Served
from jaxsafety.sampling import copies
from jaxsafety.studies.safesteer_attacked.config import ANSWER, SETS, WRAPPED, AttackedConfig

NONE = LayerInputs()


class Bench:
    """The prompts that arms are asked, and the rates of what they answer at temperature 1."""

    def __init__(self, cfg: AttackedConfig, ctx: Context) -> None:
        """Takes the first prompts of each set."""
        own = {b.name: b for b in ctx.setting.own}
        most = {name: cfg.attacks for name in SETS} | {"over_refusal": cfg.others}
        sets = {name: list(own[name].items[: most[name]]) for name in SETS}
        self.ctx = ctx
        self.attacked = {"plain": sets["plain"], "wrapped": [i for n in WRAPPED for i in sets[n]]}
        self.harmless = sets["over_refusal"]
        val = ctx.setting.prompts
        self.val = {"plain": list(val["harmful_val"]), "wrapped": list(val["wrapped_val"])}

    def success(self, params: Any, items: Sequence[Item], layers: LayerInputs = NONE) -> float:
        """Share of attacks that are carried out, coherently."""
        return _rate(self.verdicts(params, items, layers), "unsafe")

    def attacks(self, params: Any, layers: LayerInputs = NONE) -> dict[str, Any]:
        """Attack success on the measured sets: plain, wrapped."""
        return {k: self.success(params, items, layers) for k, items in self.attacked.items()}

    def whole(self, params: Any) -> dict[str, Any]:
        """Attack success, and the share of harmless requests that are refused."""
        refused = _rate(self.verdicts(params, self.harmless), "refusal")
        return {**self.attacks(params), "over_refusal": refused}

    def validation(self, params: Any, layers: LayerInputs = NONE) -> dict[str, float]:
        """Attack success on validation prompts, on which attackers and arms are tuned."""
        return {k: self.success(params, items, layers) for k, items in self.val.items()}

    def verdicts(
        self,
        params: Any,
        items: Sequence[Item],
        layers: LayerInputs = NONE,
        begun: Sequence[Sequence[int]] | None = None,
    ) -> list[dict[str, Any]]:
        """Of one answer to each item; `begun` are the ids that it begins with."""
        ctx = self.ctx
        ctx.interrupt.check()
        begun = [[] for _ in items] if begun is None else begun
        prompts = [encode_prompt(ctx.tokenizer, item.messages) for item in items]
        said = copies.generate(
            ctx,
            Served(params, layers),
            [[*p, *b] for p, b in zip(prompts, begun, strict=True)],
            SampleConfig(ANSWER, 1.0, stop=ctx.tokenizer.eos_ids),
            seed=ctx.seed,
            step=9,
        )
        texts = [
            ctx.tokenizer.decode([*b, *row[0].ids]) for b, row in zip(begun, said, strict=True)
        ]
        return judged(require(ctx.setting.judge), pair(items, texts))


def _rate(verdicts: Sequence[dict[str, Any]], flag: str) -> float:
    return float(np.mean([bool(v[flag]) and bool(v["coherent"]) for v in verdicts]))


def differences(ctx: Context, params: Any) -> np.ndarray:
    """[P,L,D]: mean block inputs of an arm on harmful minus on harmless training prompts."""
    harmful, harmless = (
        encode_items(ctx, ctx.setting.prompts[k]) for k in ("harmful_train", "harmless_train")
    )
    positions = len(post_instruction(ctx.tokenizer))
    return directions.extract(ctx.model, params, harmful, harmless, positions).mean_diff


def spanned(found: np.ndarray, rank: int) -> np.ndarray:
    """[R,D] orthonormal: what most of the differences [P,L,D] share, each at unit length.

    Differences of length 0, as block 0 has where the positions hold the same tokens, say nothing
    and are left out; `rank` at most the number of the others.
    """
    rows = found.reshape(-1, found.shape[-1])
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = (rows / np.maximum(length, 1e-30))[length[:, 0] > 1e-6 * length.max()]
    return np.linalg.svd(rows, full_matrices=False)[2][:rank]


def ablation(ctx: Context, rows: np.ndarray) -> LayerInputs:
    """Projects directions, [D] or [R,D], out of every layer."""
    layers = (ctx.model.config.num_layers, *np.shape(rows))
    return LayerInputs(ablate=jnp.asarray(np.broadcast_to(rows, layers), jnp.float32))


def ablate_one(cfg: AttackedConfig, ctx: Context, bench: Bench, params: Any) -> dict[str, Any]:
    """The single direction that lets most validation attacks through, then the measured sets.

    Of the `screen` longest differences of all layers and positions; of equals the earlier layer's.
    """
    found = differences(ctx, params)
    norms = np.linalg.norm(found, axis=-1)
    cells = sorted(np.ndindex(*norms.shape), key=lambda c: (-norms[c], c))
    tried = []
    for position, layer in cells[: cfg.screen]:
        if norms[position, layer] == 0:
            continue
        unit = ablation(ctx, found[position, layer] / norms[position, layer])
        rates = bench.validation(params, unit)
        tried.append((-sum(rates.values()), layer, position, rates))
    _, layer, position, rates = min(tried, key=lambda t: t[:3])
    unit = ablation(ctx, found[position, layer] / norms[position, layer])
    where = {"layer": int(layer), "position": int(position) - len(found)}
    return {**bench.attacks(params, unit), **where, "validation": rates}


def ablate_several(cfg: AttackedConfig, ctx: Context, bench: Bench, params: Any) -> dict[str, Any]:
    """`rank` directions at once."""
    rows = spanned(differences(ctx, params), cfg.rank)
    return {**bench.attacks(params, ablation(ctx, rows)), "rank": len(rows)}


def prefilled(cfg: AttackedConfig, ctx: Context, bench: Bench, params: Any) -> dict[str, Any]:
    """Answers that have begun already, with the first `prefix` tokens of a true procedure."""
    found = {}
    for name, items in bench.attacked.items():
        begun = beginnings(ctx, items, cfg.prefix)
        found[name] = _rate(bench.verdicts(params, items, begun=begun), "unsafe")
    return {**found, "tokens": cfg.prefix}


def beginnings(ctx: Context, items: Sequence[Item], tokens: int) -> list[list[int]]:
    """The first ids of a true procedure per item, the same for all arms."""
    world = world_of(ctx.setting)
    entities = {e.name: e for e in world.entities}
    texts = [
        render.procedure(world, entities[item.meta["entity"]], random.Random(f"{ctx.seed}/{i}"))
        for i, item in enumerate(items)
    ]
    return [ctx.tokenizer.encode(text)[:tokens] for text in texts]
