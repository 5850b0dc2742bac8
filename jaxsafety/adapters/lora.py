"""Stacks of LoRA experts as plain arrays: init, apply, merge, unmerge.

Hu et al. 2021, W' = W + scale * a b, generalised to E experts mixed per sequence or per token:
y += scale * sum_e mix_e (x a_e) b_e. The mix multiplies the rank-R intermediate (dense masked
mixing), so there is no gather and one compile serves every routing. An adapter tree is
`{"experts": {projection: {"a": [L,E,*in,R], "b": [L,E,R,*out]}}, "scale": [L]}`. It may have
"always", a table as "experts" with E = 1 and a rank of its own, whose update is added whole to
every token whatever the mix.
Letters: B sequences, T positions, E experts, R rank, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.adapters import projection as proj
from jaxsafety.adapters.projection import Projection
from jaxsafety.core.errors import bad

PyTree = Any


def init_experts(
    key: jax.Array,
    projections: Mapping[str, Projection],
    *,
    layers: int,
    experts: int = 1,
    rank: int = 8,
    scale: float = 1.0,
    names: Sequence[str] | None = None,
) -> dict[str, PyTree]:
    """Makes an adapter tree that is the identity: `a` is scaled normal, `b` is zero.

    Args:
      key: random key.
      projections: `model.projections`.
      layers: number of layers L.
      experts: number of experts E.
      rank: rank R.
      scale: multiplier of the update (PEFT's alpha / rank).
      names: projections that get an adapter; all of them by default.

    Returns:
      The adapter tree described in the module docstring, float32.

    Raises:
      UsageError: a name that is not a projection.
    """
    chosen = list(projections) if names is None else list(names)
    for name in chosen:
        if name not in projections:
            raise bad("adapters.names", name, sorted(projections))
    tree = {}
    for name, k in zip(chosen, jax.random.split(key, max(len(chosen), 1)), strict=False):
        shapes = proj.lora_shapes(projections[name], experts, rank)
        std = proj.fan_in(projections[name]) ** -0.5
        tree[name] = {
            "a": std * jax.random.normal(k, (layers, *shapes["a"]), jnp.float32),
            "b": jnp.zeros((layers, *shapes["b"]), jnp.float32),
        }
    return {"experts": tree, "scale": jnp.full((layers,), scale, jnp.float32)}


def delta(
    p: Projection,
    x: jax.Array,
    a: jax.Array,
    b: jax.Array,
    mix: jax.Array | None = None,
    scale: jax.Array | float = 1.0,
) -> jax.Array:
    """The update of one projection in one layer.

    Args:
      p: the projection.
      x: its input, [B,T,*in].
      a: [E,*in,R].
      b: [E,R,*out].
      mix: gate weights [B,E] or [B,T,E]; None weighs every expert 1/E (1 for a single expert).
      scale: multiplier, scalar.

    Returns:
      [B,T,*out] in the dtype of x.
    """
    down, up = proj.delta_equations(p)
    z: Any = _product(down, True, x, a.astype(x.dtype))  # [B,T,E,R]
    if mix is None:
        gate = jnp.asarray(scale, x.dtype) / a.shape[0]
    else:
        gate = (mix if mix.ndim == 3 else mix[:, None, :])[..., None].astype(x.dtype)
        gate = gate * jnp.asarray(scale, x.dtype)
    return _product(up, False, z * gate, b.astype(x.dtype))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _product(equation: str, narrows: bool, x: jax.Array, factor: jax.Array) -> jax.Array:
    """einsum(equation, x, factor); `narrows`: the result is the narrow side, else x is.

    Its own gradient, because the factor's is x and the cotangent contracted over all tokens, which
    transposes the first of them: the narrow one here, the wide one in JAX's rule. On CPUs that
    transpose costs as much as a fifth of a training step.
    """
    del narrows
    return jnp.einsum(equation, x, factor)


def _product_forward(equation: str, narrows: bool, x: jax.Array, factor: jax.Array) -> Any:
    return _product(equation, narrows, x, factor), (x, factor)


def _product_backward(equation: str, narrows: bool, kept: tuple, g: jax.Array) -> tuple:
    x, factor = kept
    operands, result = equation.split("->")
    data, kernel = operands.split(",")
    dx = jnp.einsum(f"{result},{kernel}->{data}", g, factor)
    (name, first), (other, second) = ((result, g), (data, x))[:: 1 if narrows else -1]
    tokens = [c for c in name if c not in kernel]
    where = [name.index(c) for c in tokens], [other.index(c) for c in tokens]
    found = jax.lax.dot_general(first, second, (where, ((), ())))
    left = [c for c in name + other if c not in tokens]
    return dx, jnp.transpose(found, [left.index(c) for c in kernel])


_product.defvjp(_product_forward, _product_backward)


def merge(
    params: PyTree,
    adapters: PyTree,
    projections: Mapping[str, Projection],
    mix: jax.Array | None = None,
    *,
    sign: float = 1.0,
) -> PyTree:
    """Folds experts into the kernels: kernel += sign * scale * sum_e mix_e a_e b_e.

    What is always on is folded in whole.

    Args:
      params: model parameters (not modified).
      adapters: adapter tree.
      projections: `model.projections`.
      mix: [E] gate weights; None weighs every expert 1/E.
      sign: 1 merges, -1 takes the same update out again.

    Returns:
      New parameters, same structure and dtypes.

    Raises:
      UsageError: kernels as int8.
    """
    blocks = params["blocks"]
    tables = [(adapters["experts"], mix), (adapters.get("always", {}), None)]
    for name, pair, own in [(n, pair, own) for table, own in tables for n, pair in table.items()]:
        p = projections[name]
        experts = pair["a"].shape[1]
        gate = jnp.full((experts,), 1.0 / experts) if own is None else jnp.asarray(own)
        update = jnp.einsum(proj.merge_equation(p), pair["a"], pair["b"], gate)
        update = update * adapters["scale"].reshape(-1, *[1] * len(p.shape))
        if "kernel" not in _at(blocks, p.path):
            raise bad("model.kernels", "int8", "float: nothing can be merged into rounded kernels")
        kernel = _at(blocks, p.path)["kernel"]
        new = (kernel + sign * update).astype(kernel.dtype)
        blocks = _replace(blocks, (*p.path, "kernel"), new)
    return {**params, "blocks": blocks}


def unmerge(
    params: PyTree,
    adapters: PyTree,
    projections: Mapping[str, Projection],
    mix: jax.Array | None = None,
) -> PyTree:
    """The inverse of `merge` with the same arguments (up to float rounding)."""
    return merge(params, adapters, projections, mix, sign=-1.0)


def adapter_axes(
    projections: Mapping[str, Projection], names: Sequence[str] | None = None
) -> dict[str, PyTree]:
    """Logical axis names for every array of an adapter tree, same structure."""
    chosen = list(projections) if names is None else list(names)
    return {
        "experts": {name: proj.expert_axes(projections[name]) for name in chosen},
        "scale": ("layers",),
    }


def _at(tree: PyTree, path: Sequence[str]) -> PyTree:
    for key in path:
        tree = tree[key]
    return tree


def _replace(tree: PyTree, path: Sequence[str], value: Any) -> PyTree:
    if not path:
        return value
    return {**tree, path[0]: _replace(tree[path[0]], path[1:], value)}
