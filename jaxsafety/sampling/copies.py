"""A model as it lies while it answers: on the training mesh, or as a copy that suits sampling.

"fsdp" splits weights and rows alike. A training step reads each weight once for thousands of
tokens, so fetching the other chips' parts is cheap; a sampling step reads all of them for one token
of each row. A copy is made once for all tokens: whole on each chip ("data"), or with the same chips
splitting heads, width and vocabulary ("tensor"), where a chip has no room for the whole. It is in
the dtype that is computed in, so that answers are those of the weights as they lie.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jax
from jax.sharding import Mesh

from jaxsafety.core import sharding, trees
from jaxsafety.models.api import Model
from jaxsafety.protocols import Served

PyTree = Any
# What a forward pass reads in no other dtype than the one that it computes in; norms are float32.
NARROW = ("kernel", "table", "bias")


def mesh_of(mesh: Mesh, how: str) -> Mesh:
    """The mesh that answers are sampled on: the devices of `mesh`, in their order.

    Args:
      mesh: (data, fsdp, tensor) = (d, f, t).
      how: of `sharding.SAMPLING`. "data" is (d f, 1, t), "tensor" (d, 1, f t), "split" `mesh`
        itself; so are the others where f is 1, as nothing is to be fetched.
    """
    if how == "split" or mesh.shape["fsdp"] == 1:
        return mesh
    d, f, t = (mesh.shape[name] for name in sharding.MESH_AXES)
    shape = (d * f, 1, t) if how == "data" else (d, 1, f * t)
    return Mesh(mesh.devices.reshape(shape), mesh.axis_names, axis_types=mesh.axis_types)


@contextlib.contextmanager
def copied(model: Model, what: Served, mesh: Mesh | None, how: str) -> Iterator[Served]:
    """What is served, to be sampled from within the context, whose mesh is that of `mesh_of`.

    Where nothing is to be copied ("split", no fsdp, no mesh) it is what was given, itself.

    Args:
      model: static.
      what: parameters on `mesh`, and what is served with them.
      mesh: the training's.
      how: see `mesh_of`.

    Yields:
      The same with copies, which live as long as the context.
    """
    there = None if mesh is None else mesh_of(mesh, how)
    if there is None or there is mesh:
        yield what
        return
    params = copier(model, there)(what.params)
    layers = _everywhere(there)(what.layers)
    with sharding.scope(there):
        yield what._replace(params=params, layers=layers)


@lru_cache(maxsize=16)
def copier(model: Model, mesh: Mesh) -> Any:
    """The compiled copy of parameters to `mesh`, which may be called on another of its devices."""
    narrow = jax.eval_shape(_narrowed(model), jax.eval_shape(model.init, jax.random.key(0)))
    places = sharding.shardings(model.axes, narrow, mesh)
    return jax.jit(_narrowed(model), out_shardings=places)


def _narrowed(model: Model) -> Any:
    def one(name: str, x: jax.Array) -> jax.Array:
        return x.astype(model.config.dtype) if name.rsplit("/", 1)[-1] in NARROW else x

    return lambda params: trees.map_named(one, params)


@lru_cache(maxsize=16)
def _everywhere(mesh: Mesh) -> Any:
    return jax.jit(lambda x: x, out_shardings=sharding.replicated(mesh))
