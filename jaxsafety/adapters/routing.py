"""Which LoRA experts a token uses, and how much of each: routers as plain arrays.

SafeMoE (arXiv 2606.00686): r = V^T x, the k highest scores are selected, their softmax weighs the
experts (eq. 5). A router is a table {place: scorer}. The place is "block" (one scorer reads
the mlp's normed input and serves gate, up and down), "attention" (one reads the attention's normed
input and serves q, k, v and o) or a projection's name (it reads that linear's own input). A scorer
is one of

  {"weight": [L,*in,E]}     scores x.V, trained (the paper's)
  {"prototype": [L,*in,E]}  scores |x.p|, Arrow (Ostapenko et al., arXiv 2405.11157), not trained
  {"mix": [L,E]}            no scores, a fixed mixture

and {"gate_pass": {"weight": [L,D,E], "bias": [L,E]}} of its own stands for X-LoRA's (Buehler and
Buehler, arXiv 2402.07148): all layers' mixtures from the final hidden state of a first pass without
adapters. Scores and softmax are float32.
Letters: B sequences, T positions, D width, F mlp width, L layers, E experts, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.adapters import projection as proj
from jaxsafety.adapters.projection import Projection
from jaxsafety.core import trees
from jaxsafety.core.errors import bad

PyTree = Any
BLOCK, ATTENTION, GATE = "block", "attention", "gate_pass"
POOLED = ("last", "sequence")
LEVELS = ("token", "first", *POOLED)
SOFTMAX = ("selected", "all")
ROUTED = ("gate", "up", "down")  # the linears behind the mlp's normed input
ATTENDED = ("q", "k", "v", "o")  # and those behind the attention's
READS = {BLOCK: "gate", ATTENTION: "q"}  # place -> a projection that has its input
INIT = 0.02


@dataclass(frozen=True)
class Routing:
    """The static part of a router.

    Attributes:
      top: experts per token, 0 for all.
      softmax: over the "selected" scores (the paper's eq. 5, weights sum to 1), or over "all" of
        them, of which the selected keep their share (weights sum to less than 1).
      temperature: scores are divided by it.
      level: "token", a choice per token and layer; "first", the first layer's choice in all layers;
        "last" and "sequence", one choice per sequence and layer, from the score of the prompt's
        last token or the mean over the prompt.
    """

    top: int = 2
    softmax: str = "selected"
    temperature: float = 1.0
    level: str = "token"


def check(routing: Routing, experts: int, *, trained: bool = True, field: str = "routing") -> None:
    """Rejects what cannot route, or cannot learn to; errors call the options `field`.<option>.

    Raises:
      UsageError: an unknown level or softmax, more than E experts per token, or a router whose
        gradient is zero: the softmax of one selected score is 1 whatever the score.
    """
    if routing.level not in LEVELS:
        raise bad(f"{field}.level", routing.level, ", ".join(LEVELS))
    if routing.softmax not in SOFTMAX:
        raise bad(f"{field}.softmax", routing.softmax, ", ".join(SOFTMAX))
    if not routing.temperature > 0:
        raise bad(f"{field}.temperature", routing.temperature, "more than 0")
    if not 0 <= routing.top <= experts:
        raise bad(f"{field}.top", routing.top, f"0 (all) to {experts}, the experts")
    if trained and routing.top == 1 and experts > 1 and routing.softmax == "selected":
        raise bad(f"{field}.top", 1, f"2 or more, or {field}.softmax=all: one weight is always 1")


def init_router(
    key: jax.Array,
    projections: Mapping[str, Projection],
    *,
    layers: int,
    experts: int,
    places: tuple[str, ...] = (BLOCK,),
    std: float = INIT,
) -> PyTree:
    """A router to be trained, V ~ N(0, std^2), float32.

    Zeros would tie all scores; then only the first experts were ever selected or trained.
    """
    table = {}
    for place, k in zip(places, jax.random.split(key, len(places)), strict=True):
        shape = proj.in_shape(projections[READS.get(place, place)])
        table[place] = {"weight": std * jax.random.normal(k, (layers, *shape, experts))}
    return table


def places_of(targets: Sequence[str]) -> tuple[str, ...]:
    """Where one router per block has its scorers, for experts on these projections."""
    both = ((BLOCK, ROUTED), (ATTENTION, ATTENDED))
    return tuple(place for place, served in both if set(targets) & set(served))


def init_gate(key: jax.Array, *, layers: int, width: int, experts: int) -> PyTree:
    """X-LoRA's gate, one linear layer deep."""
    weight = width**-0.5 * jax.random.normal(key, (layers, width, experts))
    return {GATE: {"weight": weight, "bias": jnp.zeros((layers, experts))}}


def fixed(mix: jax.Array | np.ndarray, layers: int) -> PyTree:
    """A router that always answers `mix` [E], or [L,E]; of the attention too."""
    mix = jnp.asarray(mix, jnp.float32)
    return {BLOCK: {"mix": jnp.broadcast_to(mix, (layers, mix.shape[-1]))}}


def arrow(adapters: PyTree, places: tuple[str, ...] = (BLOCK,)) -> PyTree:
    """Arrow's router: per expert the direction of inputs that its update amplifies most.

    That is the first left singular vector of A B ([in, out] here). At "block" the update is the one
    of gate and up side by side, which share their input, at "attention" that of q, k and v.
    """
    table = {}
    for place in places:
        names = {BLOCK: ("gate", "up"), ATTENTION: ("q", "k", "v")}.get(place, (place,))
        pairs = [adapters["experts"][n] for n in names if n in adapters["experts"]]
        pairs = jax.tree.map(trees.host, pairs)
        layers, experts = pairs[0]["a"].shape[:2]
        found = [[_amplified(pairs, i, e) for e in range(experts)] for i in range(layers)]
        table[place] = {"prototype": jnp.asarray(np.stack(found).swapaxes(1, 2), jnp.float32)}
    return table


def _amplified(pairs: list[PyTree], layer: int, expert: int) -> np.ndarray:
    """[in] first left singular vector of [A_1 B_1, A_2 B_2, ...], through R-sized factors."""
    a = [np.asarray(p["a"][layer, expert], np.float64) for p in pairs]
    b = [np.asarray(p["b"][layer, expert], np.float64) for p in pairs]
    a = [x.reshape(-1, x.shape[-1]) for x in a]
    narrow = [np.linalg.qr(x.reshape(x.shape[0], -1).T)[1].T for x in b]  # B = narrow Q^T
    wide = np.concatenate([x @ n for x, n in zip(a, narrow, strict=True)], axis=1)
    return np.linalg.svd(wide, full_matrices=False)[0][:, 0]


def pool(prompt: jax.Array, routing: Routing) -> jax.Array | None:
    """[B,T] weights of the tokens that decide for a sequence; None if each token decides.

    Args:
      prompt: [B,T] bool, the prompt's tokens; at least one per row.
      routing: static options.
    """
    if routing.level == "sequence":
        return prompt / prompt.sum(axis=1, keepdims=True)
    if routing.level == "last":
        after = jnp.cumsum(prompt[:, ::-1], axis=1)[:, ::-1]  # prompt tokens from here on
        return (prompt & (after == 1)).astype(jnp.float32)
    return None


def scores(scorer: PyTree, x: jax.Array) -> jax.Array:
    """[B,T,E] float32 of one layer's scorer for inputs x [B,T,*in]."""
    kind = "weight" if "weight" in scorer else "prototype"
    table = scorer[kind].astype(jnp.float32)
    flat = x.astype(jnp.float32).reshape(*x.shape[:2], -1)
    found = flat @ table.reshape(flat.shape[-1], -1)
    return found if kind == "weight" else jnp.abs(found)


def weigh(found: jax.Array, routing: Routing) -> jax.Array:
    """Scores [...,E] to mixture weights [...,E] with `top` non-zeros."""
    found, experts = found / routing.temperature, found.shape[-1]
    top = routing.top or experts
    if top == experts:
        return jax.nn.softmax(found, axis=-1)
    _, index = jax.lax.top_k(found, top)
    chosen = jax.nn.one_hot(index, experts, dtype=bool).any(axis=-2)
    if routing.softmax == "all":
        return jnp.where(chosen, jax.nn.softmax(found, axis=-1), 0.0)
    return jax.nn.softmax(jnp.where(chosen, found, -jnp.inf), axis=-1)


def mixture(
    scorer: PyTree, x: jax.Array, routing: Routing, pool: jax.Array | None = None
) -> jax.Array:
    """One layer's mixture: [B,T,E], or [B,1,E] where all tokens share it.

    Args:
      scorer: one layer of it (see the module).
      x: [B,T,*in] what is scored.
      routing: static options.
      pool: [B,T] weights that sum to 1 per row; scores are averaged with them.
    """
    if "mix" in scorer:
        mix = scorer["mix"].astype(jnp.float32)
        return jnp.broadcast_to(mix, (x.shape[0], 1, mix.shape[-1]))
    found = scores(scorer, x)
    if pool is not None:
        found = jnp.einsum("bt,bte->be", pool.astype(jnp.float32), found)[:, None]
    return weigh(found, routing)


def gate_mixtures(gate: PyTree, hidden: jax.Array, routing: Routing) -> jax.Array:
    """X-LoRA: [L,B,T,E] mixtures from the hidden states [B,T,D] of the pass without adapters."""
    found = jnp.einsum("btd,lde->lbte", hidden.astype(jnp.float32), gate["weight"])
    return weigh(found + gate["bias"][:, None, None], routing)


def router_axes(router: PyTree) -> PyTree:
    """Logical axis names of every array of a router: all replicated but the layers' stack."""
    return jax.tree.map(lambda x: ("layers", *[None] * (x.ndim - 1)), router)
