"""A finished model as it is measured again or talked to: what it is served with, its devices.

A run shards its model and keeps it in the dtype it computes in; whoever opens the result does the
same, or what fitted while training would not fit afterwards, and answers on the mesh that the run
sampled on. Without a run, weights stay as they are stored, whole on each device or split over all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig, make_mesh
from jaxsafety.experiment.beside import NOTHING, Beside, inputs
from jaxsafety.experiment.identity import model_fingerprint
from jaxsafety.models.api import Model, ModelConfig, build
from jaxsafety.models.formats import hf
from jaxsafety.models.formats import load as formats
from jaxsafety.protocols import Served
from jaxsafety.sampling import copies

WHOLE = 0.5  # of a device's free memory: the rest is for caches and what a step needs


class Loaded(NamedTuple):
    """A model that answers: `what` holds its parameters and all that it is served with."""

    model: Model
    tokenizer: Any
    what: Served


def load(
    path: Path,
    *,
    dtype: str = "float32",
    mesh: Mesh | None = None,
    beside: Beside = NOTHING,
    variables: Mapping[str, Any] | None = None,
    template: str = "",
    kernels: str = "float",
) -> Loaded:
    """Reads a model directory to be run.

    Args:
      path: a Hugging Face directory.
      dtype: compute dtype. The parameters are kept in bfloat16 where it is bfloat16, as `run` does.
        With float32 they are kept as stored, which changes no number; on a CPU in float32, because
        there converting them at every step costs more than the memory it saves.
      mesh: where the parameters live; None or one device is the default device.
      beside: what it is served with beside its parameters, of `beside.find`.
      variables: of the chat template.
      template: as of `jaxsafety.load`.
      kernels: "int8" are read as `param_dtype="int8"`.

    Raises:
      UsageError: see `jaxsafety.load` and `beside.inputs`.
    """
    narrow = dtype == "bfloat16"
    if not narrow and jax.default_backend() != "cpu":
        narrow = hf.stored_dtype(path) == "bfloat16"
    kept = "int8" if kernels == "int8" else "bfloat16" if narrow else "float32"
    model, params, tokenizer = formats.load(
        path,
        dtype=dtype,
        param_dtype=kept,
        mesh=several(mesh),
        variables=variables,
        template=template,
    )
    # Hashed only where adapters have to fit.
    fingerprint = "" if beside.adapters is None else model_fingerprint(path)
    layers = inputs(beside, model, fingerprint)
    return Loaded(model, tokenizer, Served(params, layers, beside.steer, beside.encode))


def several(mesh: Mesh | None) -> Mesh | None:
    """The mesh if it has more than one device."""
    return mesh if mesh is not None and mesh.size > 1 else None


def mesh_of_run(config: MeshConfig, log: Callable[[str], None] = print) -> Mesh:
    """The mesh that a run answers on, or all devices where these are other ones than it had."""
    try:
        return copies.mesh_of(make_mesh(config), config.sampling)
    except UsageError as error:
        log(f"{error}: spread over all devices here instead")
        return make_mesh(MeshConfig(fsdp=-1))


def mesh_here(config: ModelConfig, rows: int = 1) -> Mesh:
    """All devices, for a model without a run.

    On a CPU it is one: its devices share their memory, so that sharding gains nothing. Elsewhere
    each has the whole model where that takes `WHOLE` of its free memory or less, since with split
    weights every token of an answer waits for all of them; where it takes more they are split.

    Args:
      config: of the model.
      rows: how many are answered at once. One row cannot be split: then the heads are, where they
        divide.
    """
    if jax.default_backend() == "cpu":
        return make_mesh(MeshConfig())
    if rows == 1 and config.num_kv_heads % jax.device_count() == 0:
        return make_mesh(MeshConfig(tensor=-1))
    shapes = jax.eval_shape(build(config).init, jax.random.key(0))
    least, room = 4 * trees.count(shapes), _memory()  # as float32, the widest they are kept in
    whole = room is not None and least <= WHOLE * room
    return make_mesh(MeshConfig(data=-1) if whole else MeshConfig(fsdp=-1))


def _memory() -> int | None:
    """Bytes that JAX may still take of a device here; None where the device does not say."""
    told = jax.local_devices()[0].memory_stats() or {}
    return told["bytes_limit"] - told.get("bytes_in_use", 0) if "bytes_limit" in told else None
