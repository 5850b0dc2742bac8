"""What training carries from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from jaxsafety.core import sharding, trees
from jaxsafety.protocols import Extra

PyTree = Any


@struct.dataclass
class TrainState:
    """Everything a resumed run needs; batches are functions of (variables, step).

    `step` int32 scalar, the number of steps done; `params` the trainable part (None in the holes),
    in `train.master` whatever the compute dtype: float32 unless asked otherwise, because bfloat16
    rounds small updates away; `key` the stage's random key, constant, folded with `step`; `extra`
    whatever a mitigation carries.
    """

    step: jax.Array
    params: PyTree
    opt_state: PyTree
    key: jax.Array
    extra: PyTree = ()


def create(
    params: PyTree,
    tx: optax.GradientTransformation,
    key: jax.Array,
    extra: Mapping[str, Extra] = MappingProxyType({}),
    *,
    master: str = "float32",
) -> TrainState:
    """The state at step 0, floats in dtype `master`. Pure: works under `jit` and `eval_shape`."""
    params = masters(params, master)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),
        key=key,
        extra={name: each.init(params) for name, each in extra.items()} if extra else (),
    )


def masters(params: PyTree, dtype: str) -> PyTree:
    """Parameters as they are trained: floats in this dtype."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, params
    )


def state_shardings(
    abstract: TrainState,
    tx: optax.GradientTransformation,
    params_shardings: PyTree,
    mesh: Mesh,
) -> TrainState:
    """Shardings for a state: what mirrors parameters lives with them, the rest is replicated."""
    everywhere: Any = sharding.replicated(mesh)
    return TrainState(
        step=everywhere,
        params=params_shardings,
        opt_state=sharding.optimizer_shardings(tx, abstract.params, params_shardings, mesh),
        key=everywhere,
        extra=_mirrored(abstract.extra, abstract.params, params_shardings, everywhere),
    )


def _mirrored(extra: PyTree, params: PyTree, places: PyTree, everywhere: Any) -> PyTree:
    """Shardings of what mitigations carry; the rule is that of `protocols.Extra`."""
    shapes = [x.shape for x in jax.tree.leaves(params)]
    known = list(zip(trees.paths(params), shapes, jax.tree.leaves(places), strict=True))

    def place(name: str, x: Any) -> Any:
        same = [p for n, shape, p in known if f"/{name}".endswith(f"/{n}") and shape == x.shape]
        return same[0] if same else everywhere

    return trees.map_named(place, extra)


def abstract_state(state: TrainState, shardings: TrainState) -> TrainState:
    """Shapes, dtypes and shardings of a state: the target of a restore."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings
    )


def beginner(
    tx: optax.GradientTransformation,
    shardings: TrainState,
    extra: Mapping[str, Extra] = MappingProxyType({}),
    *,
    master: str = "float32",
) -> Callable[[PyTree, jax.Array], TrainState]:
    """`(params, key) -> state` of step 0 in its places, jitted; `master` as in `create`."""
    return jax.jit(lambda p, k: create(p, tx, k, extra, master=master), out_shardings=shardings)


def fresh(
    begin: Callable[[PyTree, jax.Array], TrainState],
    params: PyTree,
    key: jax.Array,
    shardings: TrainState,
) -> TrainState:
    """A placed state whose buffers are its own, by `begin` (of `beginner`).

    The step donates its state. `jit` forwards untouched inputs to its outputs without a copy,
    and the same buffer may also be the teacher, so the parameters are copied first; in their
    places, so that no device ever holds the whole, and every start compiles to one program.
    """
    return begin(trees.copy(jax.device_put(params, shardings.params)), key)
