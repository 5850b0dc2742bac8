"""One mesh, one table of logical axis names, and what follows: shardings for any tree.

The mesh is always (data, fsdp, tensor), with size 1 where unused, so a laptop and a pod run the
same code. Axes are Auto (the semantics of pjit): `jax.make_mesh` defaults to Explicit ones, under
which a tensor-parallel matmul raises. `jax.jit` with NamedShardings is pjit; `pjit` below says so.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import (
    AbstractMesh,
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    SingleDeviceSharding,
)

from jaxsafety.core.errors import bad

PyTree = Any
Rule = str | tuple[str, ...] | None

MESH_AXES = ("data", "fsdp", "tensor")
SAMPLING = ("split", "data", "tensor")
RULES: Mapping[str, Rule] = {
    "batch": ("data", "fsdp"),
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
    "layers": None,
    "head_dim": None,
    "rank": None,
    "expert": None,
    "expert_split": "tensor",  # experts side by side instead of each one's width
    "seq": None,
}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; at most one may be -1, the rest of the devices.

    Attributes:
      data: copies of the model, each with rows of the batch of its own.
      fsdp: ways the parameters and the rows are split.
      tensor: ways heads, feed-forward width and vocabulary are split.
      sampling: how weights lie while answers are sampled: "split" as they train; as a copy, whole
        on each of the fsdp ways ("data"), or split there as by tensor ("tensor").

    Example:
      >>> import jaxsafety
      >>> jaxsafety.MeshConfig(fsdp=-1)
      MeshConfig(data=1, fsdp=-1, tensor=1, sampling='split')
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    sampling: str = "split"


def make_mesh(config: MeshConfig = MeshConfig(), devices: Sequence[Any] | None = None) -> Mesh:
    """Builds the (data, fsdp, tensor) mesh on the first devices that it needs.

    Args:
      config: axis sizes; -1 takes all devices that the other axes leave.
      devices: default `jax.devices()`.

    Returns:
      A mesh with Auto axes.

    Raises:
      UsageError: the sizes cannot be had from the devices, or an unknown way of sampling.

    Example:
      >>> import jax
      >>> import jaxsafety
      >>> mesh = jaxsafety.make_mesh(jaxsafety.MeshConfig(data=-1), jax.devices()[:1])
      >>> dict(mesh.shape)
      {'data': 1, 'fsdp': 1, 'tensor': 1}
    """
    if config.sampling not in SAMPLING:
        raise bad("mesh.sampling", config.sampling, ", ".join(SAMPLING))
    devices = list(jax.devices() if devices is None else devices)
    sizes = {name: getattr(config, name) for name in MESH_AXES}
    rest = [name for name, size in sizes.items() if size == -1]
    for name, size in sizes.items():
        if not isinstance(size, int) or (size < 1 and size != -1):
            raise bad(f"mesh.{name}", size, "a positive integer, or -1 for the rest")
    if len(rest) > 1:
        raise bad(f"mesh.{rest[1]}", -1, f"only one -1 (mesh.{rest[0]} has it)")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if rest:
        if len(devices) % fixed or len(devices) < fixed:
            raise bad(
                f"mesh.{rest[0]}",
                -1,
                f"the other axes ({fixed}) must divide {len(devices)} devices",
            )
        sizes[rest[0]] = len(devices) // fixed
    elif fixed > len(devices):
        name = max(sizes, key=lambda key: sizes[key])
        others = fixed // sizes[name]
        raise bad(
            f"mesh.{name}",
            sizes[name],
            f"data*fsdp*tensor of at most {len(devices)} devices, so here at most"
            f" {len(devices) // others} (the other axes take {others})",
        )
    shape = tuple(sizes[name] for name in MESH_AXES)
    if len({d.process_index for d in devices}) > 1 and math.prod(shape) != len(devices):
        allowed = f"data*fsdp*tensor = {len(devices)}, the devices of all processes"
        raise bad("mesh", "x".join(map(str, shape)), allowed)
    return jax.make_mesh(  # the name of the first argument differs between versions
        shape,
        MESH_AXES,
        axis_types=(AxisType.Auto,) * len(MESH_AXES),
        devices=devices[: math.prod(shape)],
    )


def spec(
    axes: Sequence[str | None],
    rules: Mapping[str, Rule] = RULES,
    mesh: Mesh | AbstractMesh | None = None,
    shape: Sequence[int] | None = None,
) -> PartitionSpec:
    """Translates logical axis names into a PartitionSpec.

    Args:
      axes: one logical name (or None) per dimension.
      rules: logical name -> mesh axis, tuple of mesh axes, or None.
      mesh: with it, mesh axes it lacks are dropped; with `shape`, so are those that do not divide.
      shape: the array's shape.

    Returns:
      The spec; a mesh axis is used once, for the first dimension that asks.

    Raises:
      UsageError: an axis name that is not in the rules.
    """
    used: set[str] = set()
    entries: list[Any] = []
    for index, name in enumerate(axes):
        if name is not None and name not in rules:
            raise bad("sharding.axes", name, f"one of {', '.join(sorted(rules))}")
        rule = None if name is None else rules[name]
        wanted = (rule,) if isinstance(rule, str) else tuple(rule or ())
        wanted = tuple(a for a in wanted if a not in used and (mesh is None or a in mesh.shape))
        if mesh is not None and shape is not None:
            ways = math.prod(mesh.shape[a] for a in wanted)
            if shape[index] % ways:
                _warn(str(name), shape[index], ways, ", ".join(wanted))
                wanted = ()
        used.update(wanted)
        entries.append(wanted if len(wanted) > 1 else wanted[0] if wanted else None)
    return PartitionSpec(*entries)


@lru_cache(maxsize=256)
def _warn(name: str, size: int, ways: int, over: str) -> None:
    """Says so once."""
    _logger.warning(
        "axis %r of size %d does not divide %d ways (%s): replicated", name, size, ways, over
    )


def shardings(
    axes: PyTree, shapes: PyTree, mesh: Mesh, rules: Mapping[str, Rule] = RULES
) -> PyTree:
    """NamedShardings for a tree.

    Args:
      axes: per leaf of `shapes` a tuple of logical names; None anywhere replicates what is below.
      shapes: arrays or anything with `.shape`; None holes stay None.
      mesh: the mesh.
      rules: the table of logical names.

    Returns:
      A tree like `shapes`. Axes that do not divide fall back to replicated, with a log line.

    Raises:
      UsageError: unknown names, or a tuple whose length is not the leaf's rank.
    """

    def one(names: Any, leaf: Any) -> NamedSharding:
        if len(names) != len(leaf.shape):
            raise bad("sharding.axes", tuple(names), f"{len(leaf.shape)} names for {leaf.shape}")
        return NamedSharding(mesh, spec(names, rules, mesh, leaf.shape))

    def below(names: Any, subtree: Any) -> PyTree:
        if names is None:
            return jax.tree.map(lambda _: replicated(mesh), subtree)
        return None if subtree is None else one(names, subtree)

    return jax.tree.map(below, axes, shapes, is_leaf=_is_axes)


def optimizer_shardings(
    tx: optax.GradientTransformation, params: PyTree, params_shardings: PyTree, mesh: Mesh
) -> PyTree:
    """Shardings of `tx.init(params)`: moments live with their parameter, counters everywhere."""
    abstract = jax.eval_shape(tx.init, params)

    def masked(x: Any) -> bool:  # another transformation of a partition has this parameter
        return isinstance(x, optax.MaskedNode)

    return optax.tree_map_params(
        tx,
        lambda moment, sharding: moment if masked(moment) else sharding,
        abstract,
        params_shardings,
        transform_non_params=lambda _: replicated(mesh),
        is_leaf=masked,
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding that keeps a full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def constrain(
    x: jax.Array, axes: Sequence[str | None], rules: Mapping[str, Rule] = RULES
) -> jax.Array:
    """Asks the compiler to shard `x` along logical axes, under `jax.set_mesh`.

    A no-op without a mesh or on a mesh of one device. Unknown names always raise: flax's own
    constraint ignores them in silence.

    Raises:
      UsageError: unknown names, or not one name per dimension.
    """
    if len(axes) != x.ndim:
        raise bad("sharding.axes", tuple(axes), f"{x.ndim} names for shape {x.shape}")
    mesh = jax.sharding.get_abstract_mesh()
    wanted = spec(axes, rules)  # raises on unknown names, mesh or not
    if mesh.empty or mesh.size == 1:
        return x
    wanted = spec(axes, rules, mesh, x.shape)
    return jax.lax.with_sharding_constraint(x, wanted)


def global_batch(mesh: Mesh, batch: PyTree) -> PyTree:
    """Places a batch on the mesh, split along its first axis over (data, fsdp).

    Every process holds the whole global batch (a batch is a function of seed and step), and each
    device takes its rows. Scalars and leaves whose first axis does not divide are replicated.

    Args:
      mesh: the mesh.
      batch: a pytree of numpy or jax arrays.

    Returns:
      The same tree as committed jax arrays.
    """

    def place(x: Any) -> jax.Array:
        if not isinstance(x, jax.Array):
            x = np.asarray(x)
        names = ("batch",) + (None,) * (x.ndim - 1) if x.ndim else ()
        sharding = NamedSharding(mesh, spec(names, RULES, mesh, x.shape))
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.jit(lambda k: k, out_shardings=sharding)(x)  # not device_put: see jax's
        if jax.process_count() == 1 or isinstance(x, jax.Array):
            return jax.device_put(x, sharding)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(place, batch)


def beside(params: PyTree, batch: PyTree) -> PyTree:
    """The batch placed on the mesh that parameters live on; as it is where they have none."""
    mesh = mesh_of(params)
    return batch if mesh is None else global_batch(mesh, batch)


def mesh_of(params: PyTree) -> Mesh | None:
    """The mesh of several devices that parameters live on, if they do."""
    for leaf in jax.tree.leaves(params):
        where = getattr(leaf, "sharding", None)
        if isinstance(where, NamedSharding) and isinstance(where.mesh, Mesh):
            return where.mesh if where.mesh.size > 1 else None
    return None


def settle(tree: PyTree, mesh: Mesh) -> PyTree:
    """Arrays where programs outside training take them: on a mesh of one device, on that device.

    No copy. A program is compiled for the places of its arguments, and to the compiler a mesh of
    one device is another place than the device: what was trained there would compile everything
    again that the loaded model has run. On several devices the tree as it is.
    """
    return tree if mesh.size > 1 else jax.device_put(tree, home(mesh))


def home(mesh: Mesh) -> SingleDeviceSharding:
    """The place of `settle` on a mesh of one device."""
    return SingleDeviceSharding(mesh.devices.flat[0])


def rows(mesh: Mesh | None) -> int:
    """How many devices the rows of a batch are split over: data x fsdp, 1 without a mesh."""
    return 1 if mesh is None else math.prod(mesh.shape[name] for name in ("data", "fsdp"))


def pjit(
    fn: Callable[..., Any], in_: Any, out: Any, donate: int | Sequence[int] = ()
) -> Callable[..., Any]:
    """`jax.jit` with shardings, which is what pjit has become."""
    return jax.jit(fn, in_shardings=in_, out_shardings=out, donate_argnums=donate)


def _is_axes(x: Any) -> bool:
    return x is None or isinstance(x, tuple | PartitionSpec)


def scope(mesh: Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """What programs on this mesh are run in, so that `constrain` means it; none on one device."""
    several = mesh is not None and mesh.size > 1
    return jax.set_mesh(mesh) if several else contextlib.nullcontext()
