"""A model as it lies while it answers: on the training mesh, or as a copy that suits sampling.

"fsdp" splits weights and rows alike. A training step reads each weight once for thousands of
tokens, so fetching the other chips' parts is cheap; a sampling step reads all of them for one token
of each row. A copy is made once for all tokens: whole on each chip ("data"), or with the same chips
splitting heads, width and vocabulary ("tensor"), where a chip has no room for the whole. It is in
the dtype that is computed in, so that answers are those of the weights as they lie.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import jax
from jax.sharding import Mesh

from jaxsafety.core import sharding, trees
from jaxsafety.data.schema import Answer, Completions, PromptBatch
from jaxsafety.models.api import Model
from jaxsafety.models.layers import COMPUTED
from jaxsafety.protocols import Context, SampleConfig, Served
from jaxsafety.sampling import decode, many

PyTree = Any


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


def generate(
    ctx: Context,
    what: Served,
    prompts: Sequence[Sequence[int]],
    cfg: SampleConfig,
    **options: Any,
) -> list[list[Answer]]:
    """`many.generate` in a run: from a copy where the run asks for one, which is gone afterwards.

    Args:
      ctx: of the run.
      what: answers; on the run's mesh.
      prompts: token ids.
      cfg: decoding options.
      options: others of `many.generate`.
    """
    with copied(ctx.model, what, ctx.mesh, ctx.sampling) as there:
        own = {"layers": there.layers, "steer": there.steer}
        args = ctx.model, there.params, ctx.tokenizer, prompts, cfg
        return many.generate(*args, **own, **options)


def sample(
    ctx: Context, what: Served, prompts: PromptBatch, keys: jax.Array, cfg: SampleConfig
) -> Completions:
    """`decode.sample` in a run, likewise; each device has rows of its own, as a step splits them.

    Args:
      ctx: of the run.
      what: answers; on the run's mesh.
      prompts: [B,P].
      keys: [B].
      cfg: decoding options.
    """
    with copied(ctx.model, what, ctx.mesh, ctx.sampling) as there:
        prompts, keys = sharding.beside(there.params, (prompts, keys))
        said = decode.sample(ctx.model, there.params, prompts, keys, cfg, there.layers, there.steer)
        jax.block_until_ready(said.tokens)
        moved = sharding.mesh_of(there.params) != sharding.mesh_of(what.params)
    return sharding.beside(what.params, said) if moved else said


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
      The same with copies, which live as long as the context and the name that it is given.
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
        return x.astype(model.config.dtype) if name.rsplit("/", 1)[-1] in COMPUTED else x

    return lambda params: trees.map_named(one, params)


@lru_cache(maxsize=16)
def _everywhere(mesh: Mesh) -> Any:
    return jax.jit(lambda x: x, out_shardings=sharding.replicated(mesh))
