"""A stage's programs compiled for devices that are not here, and what the compiler says of them.

The step and the rollouts are those that a run makes: same loss, optimizer, shardings and donation.
What `run` keeps on the chip beside a program (the optimizer while sampling, say) counts as "held".
Letters: B rows, T tokens of a row, L layers, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxsafety.core import sharding, trees
from jaxsafety.judges.guards import reading
from jaxsafety.losses import chunks
from jaxsafety.models.api import LayerInputs, Model, init_cache
from jaxsafety.planning import floor, hlo, topology
from jaxsafety.planning.guards import ROOM, Guard
from jaxsafety.planning.topology import Topology
from jaxsafety.protocols import Planned, Stage
from jaxsafety.sampling import copies, decode
from jaxsafety.train.assemble import Assembled, assemble, lower, places

PyTree = Any


class Program(NamedTuple):
    """What the compiler says of one program, per chip.

    `memory` in bytes by kind; `needed` their sum; `limit` what the chip offers; `reason` the
    compiler's words when it refused; `collectives` kind -> (count, bytes); `optimal` seconds by the
    compiler's own estimate, or None and in `unknown` why. It counts the body of every loop once,
    so it is no time of the whole program.
    """

    memory: dict[str, int]
    needed: int
    limit: int
    collectives: dict[str, hlo.Traffic]
    reason: str = ""
    optimal: float | None = None
    unknown: str = ""

    @property
    def fits(self) -> bool:
        """Whether a chip holds it."""
        return not self.reason and self.needed <= self.limit

    @property
    def sent(self) -> int:
        """Bytes that collectives leave on a chip."""
        return sum(traffic.bytes for traffic in self.collectives.values())


def stored(variables: Any, dtype: str) -> Any:
    """Model parameters as they are loaded; what trains becomes the master's dtype in the state."""
    if dtype == "int8":  # the shapes say which; the others stay what they are
        return variables
    cast = lambda x: jax.ShapeDtypeStruct(x.shape, dtype)  # noqa: E731
    own = ("base", "teacher")
    return {k: jax.tree.map(cast, v) if k in own else v for k, v in variables.items()}


def step(
    stage: Planned,
    model: Model,
    mesh: Any,
    parts: Mapping[str, Any],
    where: Topology,
    judges: int = 0,
) -> Program:
    """Compiles the training step.

    Args:
      stage: as shapes, with the dtypes that are loaded.
      model: the model.
      mesh: of devices of `where`.
      parts: "optim" and "train" of the config.
      where: the slice.
      judges: bytes of those that stay on the first chip.
    """
    optim = parts["optim"]
    made = assembled(stage, model, mesh, parts["train"], optim)
    abstract, where_of = made.abstract, made.shardings
    _, frozen = trees.partition(stage.variables, stage.trainable)
    batch = _placed(stage.batch, jax.tree.map(lambda x: _rows(x, mesh), stage.batch))
    memory = {
        **kept(stage, made),
        "batch": _local(batch, jax.tree.map(lambda x: x.sharding, batch)),
        "activations": _saved(stage, model, mesh, optim.accum),
    }
    # `run` keeps the base for what comes after; as a teacher or frozen base it is counted already.
    alias = "teacher" in frozen or not jax.tree.leaves(abstract.params["base"])
    base = trees.combine(where_of.state.params, where_of.frozen)["base"]
    held = 0 if alias else _local(stage.variables["base"], base)
    placed = _placed(abstract, where_of.state), _placed(frozen, where_of.frozen)
    return _compiled(lambda: lower(made, *placed, batch), memory, where, mesh, held + judges)


def kept(stage: Planned, made: Assembled) -> dict[str, int]:
    """Bytes a chip of what a step begins with, by kind; `made` of `assembled`."""
    abstract, places = made.abstract, made.shardings
    _, frozen = trees.partition(stage.variables, stage.trainable)
    return {
        "parameters": _local(abstract.params, places.state.params),
        "optimizer": _local(abstract.opt_state, places.state.opt_state),
        "frozen": _local(frozen, places.frozen),
        "mitigation": _local(abstract.extra, places.state.extra),
    }


def judged(guard: Guard, rows: floor.Rows, where: Topology, device: Any, held: int) -> Program:
    """Compiles the reading of a batch by a guard on one device, where `held` bytes lie beside it.

    Args:
      guard: whose shape is known.
      rows: of the batch.
      where: the slice.
      device: the first of it.
      held: bytes.
    """
    model = guard.model
    assert model is not None
    mesh = sharding.make_mesh(devices=[device])
    here = NamedSharding(mesh, PartitionSpec())
    size = (rows.rows, rows.tokens)
    tokens = jax.ShapeDtypeStruct(size, jnp.int32, sharding=here)
    mask = jax.ShapeDtypeStruct(size, jnp.bool_, sharding=here)
    params = _placed(guard.params, jax.tree.map(lambda _: here, guard.params))
    memory = {"parameters": guard.weights}
    program = lambda: reading.lower(params, tokens, mask, model, ROOM)  # noqa: E731
    return _compiled(program, memory, where, mesh, held)


def assembled(stage: Planned, model: Model, mesh: Any, train: Any, optim: Any) -> Assembled:
    """The parts of a stage's step, for a mesh."""
    whole = Stage(
        stage.stage,
        stage.loss,
        stage.trainable,
        lambda variables, step: stage.batch,
        stage.steps,
        optim,
        start=stage.variables,
        axes=stage.axes,
        mitigation=stage.mitigation,
    )
    return assemble(whole, model, mesh, train)


def rollout(
    stage: Planned,
    model: Model,
    mesh: Any,
    where: Topology,
    master: str,
    beside: dict[str, int],
    how: str = "split",
) -> Program:
    """Compiles the rollouts of a stage that samples.

    Args:
      stage: as shapes, with the dtypes that are loaded.
      model: the model.
      mesh: of devices of `where`.
      where: the slice.
      master: dtype of what trains.
      beside: `memory` of its step, of which the optimizer and other models stay on the chip.
      how: `MeshConfig.sampling`; beside a copy all that trains stays, too.
    """
    held = beside["optimizer"] + beside["frozen"] + beside["held"]
    there = copies.mesh_of(mesh, how)
    read, spots = _policy(stage, model, mesh, master, how)
    if there is mesh:
        _, frozen = trees.partition(read, stage.trainable)
        held -= _local(frozen, trees.partition(spots, stage.trainable)[1])  # read here, held once
    else:
        held += beside["parameters"]
    memory = {
        "parameters": _local(read, spots),
        "cache": cache_bytes(stage, model, there),
    }
    lowered = lambda: lower_rollout(stage, model, mesh, master, how)  # noqa: E731
    trips = floor.rows(stage)["rollout"].said - 1  # the first token is the prefill's
    return _compiled(lowered, memory, where, there, held, trips)


def copy(
    stage: Planned,
    model: Model,
    mesh: Any,
    where: Topology,
    master: str,
    beside: dict[str, int],
    how: str,
) -> Program:
    """Compiles the copy that rollouts are sampled from, made once an update; see `rollout`."""
    read, spots = _policy(stage, model, mesh, master)
    base, own = _placed(read["base"], spots["base"]), _local(read["base"], spots["base"])
    held = sum(beside[name] for name in ("parameters", "optimizer", "frozen", "held")) - own
    memory = {"parameters": own}
    program = copies.copier(model, copies.mesh_of(mesh, how))
    return _compiled(lambda: program.lower(base), memory, where, mesh, held)


def replicated(stage: Planned, made: Assembled, mesh: Any) -> dict[str, int]:
    """Bytes a chip of trained and frozen arrays of which other chips hold the same part.

    Of LoRA's two factors, say, each is split as the side of the kernel that it stands on, and
    "fsdp" splits one side only. `made` of `assembled`.
    """
    _, frozen = trees.partition(stage.variables, stage.trainable)
    state = made.shardings.state

    def several(tree: PyTree, places: PyTree) -> int:
        def one(x: Any, where: Any) -> int:
            own = int(np.prod(where.shard_shape(x.shape)))
            return 0 if own * mesh.size == int(np.prod(x.shape)) else own * x.dtype.itemsize

        return sum(jax.tree.leaves(jax.tree.map(one, tree, places)))

    return {
        "parameters": several(made.abstract.params, state.params),
        "frozen": several(frozen, made.shardings.frozen),
    }


def cache_bytes(stage: Planned, model: Model, mesh: Any) -> int:
    """Bytes of the rollouts' keys and values on one chip."""
    c, asked = model.config, floor.rows(stage)["rollout"]
    slots = jax.eval_shape(lambda: init_cache(c, asked.rows, asked.tokens, c.dtype))
    axes = ("layers", "batch", "kv_heads", None, None)
    spread = NamedSharding(mesh, sharding.spec(axes, sharding.RULES, mesh, slots.k.shape))
    return _local((slots.k, slots.v), (spread, spread))


def least(
    stage: Planned, model: Model, mesh: Any, where: Topology, master: str, how: str = "split"
) -> dict[str, float]:
    """Program -> the least seconds that it takes, by `floor` alone; nothing is compiled.

    A copy writes its bytes: what the chips send each other for it is no part of the floor.
    """
    weights = cache = 0
    if stage.sample is not None:
        read, spots = _policy(stage, model, mesh, master, how)
        weights = floor.gathered(model, read, spots)
        cache = cache_bytes(stage, model, copies.mesh_of(mesh, how))
    found = floor.seconds(stage, model, mesh, where.chip, weights, cache)
    if stage.sample is not None and copies.mesh_of(mesh, how) is not mesh:
        found["copy"] = _local(read["base"], spots["base"]) / where.chip.bandwidth
    return found


def _policy(
    stage: Planned, model: Model, mesh: Any, master: str, how: str = "split"
) -> tuple[PyTree, PyTree]:
    """Variables that rollouts read (base, and adapters where it has some), and where they live.

    What trains has the master's dtype; a base beside adapters stays as it is stored. Copies have
    the dtype that is computed in, and their adapters lie whole on every chip.
    """
    read = {k: v for k, v in stage.variables.items() if k in ("base", "adapters")}
    params, frozen = trees.partition(read, stage.trainable)
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, master), params)
    read = trees.combine(params, frozen)
    there = copies.mesh_of(mesh, how)
    if there is mesh:
        return read, places(read, model, mesh, stage.axes)
    read["base"] = jax.eval_shape(copies.copier(model, there), read["base"])
    whole = jax.tree.map(lambda _: sharding.replicated(there), read)
    return read, {**whole, "base": sharding.shardings(model.axes, read["base"], there)}


def lower_rollout(
    stage: Planned, model: Model, mesh: Any, master: str, how: str = "split"
) -> jax.stages.Lowered:
    """The rollouts of a stage as the program that a run samples with.

    To be called under their mesh, `copies.mesh_of(mesh, how)`.
    """
    assert stage.sample is not None
    there = copies.mesh_of(mesh, how)
    rows = jax.tree.map(lambda x: _rows(x, there), (stage.prompts, stage.keys))
    prompts, keys = _placed((stage.prompts, stage.keys), rows)
    read = _placed(*_policy(stage, model, mesh, master, how))
    layers = LayerInputs(adapters=read.get("adapters"))
    return decode.lower(model, read["base"], prompts, keys, stage.sample, layers)


def _compiled(
    lower: Callable[[], Any],
    memory: dict[str, int],
    where: Topology,
    mesh: Any,
    held: int,
    trips: int = 1,
) -> Program:
    """Compiles and reads the compiler's own account; "temporaries" is what we cannot name."""
    try:
        # Only here: what runs at once under this mesh would run on devices that are not there.
        with chunks.on_accelerator(), jax.set_mesh(mesh):
            lowered = lower()
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        words = " ".join(str(error).split())
        if "RESOURCE_EXHAUSTED" not in words:
            raise
        needed = topology.read_needed(words) or sum(memory.values())
        limit = topology.limit(words) or topology.usable(where)
        words = words[:300]
        why = "the compiler refused the program"
        return Program({**memory, "held": held}, needed + held, limit, {}, words, unknown=why)
    stats = compiled.memory_analysis()
    needed = (
        stats.argument_size_in_bytes
        + stats.temp_size_in_bytes
        + stats.output_size_in_bytes
        - stats.alias_size_in_bytes
        + stats.generated_code_size_in_bytes
    )
    memory = {**memory, "temporaries": max(0, needed - sum(memory.values())), "held": held}
    limit, sent = topology.usable(where), hlo.collectives(compiled.as_text(), max(trips, 1))
    optimal, unknown = estimate(compiled.cost_analysis())
    return Program(memory, needed + held, limit, sent, "", optimal, unknown)


def estimate(costs: Any) -> tuple[float | None, str]:
    """The compiler's estimate of a program's seconds from its cost analysis; or None, and why."""
    found = (costs or {}).get("optimal_seconds")
    if found is None:
        return None, "this compiler estimates no time"
    if found < 0:  # each operation that it knows no time of counts as -1
        return None, f"the compiler has no estimate of some operations: it said {found:.4f}"
    return float(found), ""


def _saved(stage: Planned, model: Model, mesh: Any, accum: int) -> int:
    """Bytes per chip that the forward pass keeps with full remat: each layer's input. [L,B,T,D]."""
    c = model.config
    step = floor.rows(stage)["step"]
    one = step.rows // accum * step.tokens * c.embed_dim * jnp.dtype(c.dtype).itemsize
    return c.num_layers * one // sharding.rows(mesh)


def _rows(x: Any, mesh: Any) -> NamedSharding:
    if not x.ndim:
        return NamedSharding(mesh, PartitionSpec())
    names = ("batch",) + (None,) * (x.ndim - 1)
    return NamedSharding(mesh, sharding.spec(names, sharding.RULES, mesh, x.shape))


def _placed(tree: PyTree, places: PyTree) -> PyTree:
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, places
    )


def _local(tree: PyTree, places: PyTree) -> int:
    """Bytes of one chip's share."""

    def one(x: Any, where: Any) -> int:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return 8
        return int(np.prod(where.shard_shape(x.shape))) * x.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(one, tree, places)))
