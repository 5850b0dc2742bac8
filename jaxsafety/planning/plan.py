"""Compiles the real program of a config for a TPU slice or GPUs that are not there: does it fit?

The training step is the one that `run` makes: same loss, optimizer, shardings and donation; so is
the sampler of on-policy methods. Shapes stand for arrays, so no weights, prompts or devices are
needed: a laptop and the compiler (`pip install 'jaxsafety[tpu]'`, or `[gpu-plan]`) are enough.
Rules behind the estimates: a trained parameter costs 6 FLOPs per token (forward 2, backward 4), a
frozen one in the trained model 4, both 2 more with full remat; in a teacher 2; a sampled token 2 a
parameter. Times are floors at 100 % of the chip: FLOPs / peak, for rollouts also the bytes of
parameters and cache per token / bandwidth. What `run` keeps on the chip beside a program (the
optimizer while sampling, say) counts as "held".
Letters: B rows, T tokens of a row, L layers, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxsafety import registry
from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.experiment import record
from jaxsafety.losses import chunks
from jaxsafety.models.api import Model, ModelConfig, build, init_cache
from jaxsafety.models.formats import hf
from jaxsafety.models.formats.source import UNALIGNED, ModelSource, directory, stored_dtype
from jaxsafety.planning import gpu, hlo, topology
from jaxsafety.planning.topology import Topology
from jaxsafety.protocols import Planned, Stage
from jaxsafety.sampling import decode
from jaxsafety.train.assemble import assemble, lower, places

PyTree = Any


class Program(NamedTuple):
    """What the compiler says of one program, per chip.

    `memory` in bytes by kind; `needed` their sum; `limit` what the chip offers; `reason` the
    compiler's words when it refused; `collectives` kind -> (count, bytes).
    """

    memory: dict[str, int]
    needed: int
    limit: int
    collectives: dict[str, hlo.Traffic]
    reason: str = ""

    @property
    def fits(self) -> bool:
        """Whether a chip holds it."""
        return not self.reason and self.needed <= self.limit


def plan(
    cfg: Any,
    name: str,
    *,
    prompt: int = 0,
    search: bool = True,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Plans an experiment on a slice.

    Args:
      cfg: a ConfigDict as of `run`; its model is read from `model.path` where that is a directory,
        else it is the preset `model.shape`.
      name: of the topology, such as "v5p:2x2x4".
      prompt: tokens of the longest prompt; 0 is 256, or what the context has room for.
      search: whether to look for the smallest larger slice that fits, when this one does not.
      log: where progress goes.

    Returns:
      A JSON-able report: see `report`.

    Raises:
      UsageError: an unknown topology, model or program, or a mesh that the slice cannot have.
    """
    where = topology.parse(name)
    model, parts = _parts(cfg)
    found = _on(where, model, parts, prompt, log)
    mesh = parts["mesh"]
    if not found["fits"] and search and -1 in (mesh.data, mesh.fsdp, mesh.tensor):
        for other in topology.larger(where):
            log(f"does not fit on {where.name}; trying {other.name}")
            try:
                fits = _on(other, model, parts, prompt, log)["fits"]
            except UsageError as error:  # a mesh with fixed sizes may not divide it
                log(f"{other.name}: {error}")
                continue
            if fits:
                found["smallest_that_fits"] = other.name
                break
    return found


def _parts(cfg: Any) -> tuple[Model, dict[str, Any]]:
    """The model and the typed sections of a config."""
    record.check_sections(cfg)
    if registry.resolve(registry.METHODS, cfg.program).planned is None:
        known = (n for n in registry.METHODS if registry.resolve("methods", n).planned)
        raise bad("config.program", cfg.program, f"one with a plan: {', '.join(known)}")
    exp = record.typed(cfg)
    parts = dict(
        method=exp.method,
        optim=exp.optim,
        train=exp.train,
        mesh=exp.mesh,
        make=exp.entry.planned,
        stored=stored_dtype(exp.model),
    )
    return build(model_config(exp.model)), parts


def model_config(source: ModelSource) -> ModelConfig:
    """The shape of a config's model, from its directory or a preset.

    Raises:
      UsageError: neither a directory nor a known preset.
    """
    own = source.path == UNALIGNED or not (source.path or source.shape)
    path = directory(source) if own else Path(source.path)
    if (source.path or not source.shape) and path.exists():
        # Shapes need no weights; where there are some, they decide whether the head is tied.
        weighed = path.is_file() or any(path.glob("*.safetensors"))
        found = hf.stored_config(path) if weighed else hf.read_config(path)
    else:
        presets: dict[str, ModelConfig] = {}
        for kind in registry.MODELS:
            presets.update(registry.resolve(registry.MODELS, kind).presets)
        if source.shape not in presets:
            known = ", ".join(sorted(presets))
            raise bad("model.shape", source.shape, f"{known}; or model.path as a directory")
        found = presets[source.shape]
    how = {name: getattr(source, name) for name in ("dtype", "remat", "kernels")}
    return replace(found, **how)


def _on(
    where: Topology,
    model: Model,
    parts: Mapping[str, Any],
    prompt: int,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Compiles for one slice."""
    mesh = sharding.make_mesh(parts["mesh"], topology.devices(where))
    stage: Planned = parts["make"](parts["method"], model, mesh, prompt)
    stage = stage._replace(variables=_stored(stage.variables, parts["stored"]))
    log(f"compiling the step of {stage.stage} for {where.name}")
    programs = {"step": _step(stage, model, mesh, parts, where)}
    if stage.sample is not None:
        log(f"compiling its rollouts for {where.name}")
        held = {k: programs["step"].memory[k] for k in ("optimizer", "frozen", "held")}
        master = parts["train"].master
        programs["rollout"] = _rollout(stage, model, mesh, where, master, sum(held.values()))
    return report(where, model, stage, mesh, programs)


def _stored(variables: Any, dtype: str) -> Any:
    """Model parameters as they are loaded; what trains becomes the master's dtype in the state."""
    if dtype == "int8":  # the shapes say which; the others stay what they are
        return variables
    cast = lambda x: jax.ShapeDtypeStruct(x.shape, dtype)  # noqa: E731
    own = ("base", "teacher")
    return {k: jax.tree.map(cast, v) if k in own else v for k, v in variables.items()}


def _step(
    stage: Planned, model: Model, mesh: Any, parts: Mapping[str, Any], where: Topology
) -> Program:
    optim = parts["optim"]
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
    made = assemble(whole, model, mesh, parts["train"])
    abstract, where_of = made.abstract, made.shardings
    _, frozen = trees.partition(stage.variables, stage.trainable)
    batch = _placed(stage.batch, jax.tree.map(lambda x: _rows(x, mesh), stage.batch))
    memory = {
        "parameters": _local(abstract.params, where_of.state.params),
        "optimizer": _local(abstract.opt_state, where_of.state.opt_state),
        "frozen": _local(frozen, where_of.frozen),
        "mitigation": _local(abstract.extra, where_of.state.extra),
        "batch": _local(batch, jax.tree.map(lambda x: x.sharding, batch)),
        "activations": _saved(stage, model, mesh, optim.accum),
    }
    # `run` keeps the base for what comes after; as a teacher or frozen base it is counted already.
    alias = "teacher" in frozen or not jax.tree.leaves(abstract.params["base"])
    base = trees.combine(where_of.state.params, where_of.frozen)["base"]
    held = 0 if alias else _local(stage.variables["base"], base)
    placed = _placed(abstract, where_of.state), _placed(frozen, where_of.frozen)
    return _compiled(lambda: lower(made, *placed, batch), memory, where, mesh, held)


def _rollout(
    stage: Planned, model: Model, mesh: Any, where: Topology, master: str, held: int
) -> Program:
    params, spots = _policy(stage, model, mesh, master)
    c, sample = model.config, stage.sample
    assert sample is not None
    batch, width = stage.prompts.tokens.shape
    slots = jax.eval_shape(lambda: init_cache(c, batch, width + sample.max_tokens, c.dtype))
    axes = ("layers", "batch", "kv_heads", None, None)
    spread = NamedSharding(mesh, sharding.spec(axes, sharding.RULES, mesh, slots.k.shape))
    memory = {
        "parameters": _local(params, spots),
        "cache": _local((slots.k, slots.v), (spread, spread)),
    }
    lowered = lambda: lower_rollout(stage, model, mesh, master)  # noqa: E731
    return _compiled(lowered, memory, where, mesh, held)


def _policy(stage: Planned, model: Model, mesh: Any, master: str) -> tuple[PyTree, PyTree]:
    """Parameters that rollouts sample, and where they live."""
    params = _stored({"base": stage.variables["base"]}, master)["base"]
    return params, places({"base": params}, model, mesh)["base"]


def lower_rollout(stage: Planned, model: Model, mesh: Any, master: str) -> jax.stages.Lowered:
    """The rollouts of a stage as the program that a run samples with; call it under the mesh."""
    assert stage.sample is not None
    rows = jax.tree.map(lambda x: _rows(x, mesh), (stage.prompts, stage.keys))
    prompts, keys = _placed((stage.prompts, stage.keys), rows)
    params = _placed(*_policy(stage, model, mesh, master))
    return decode.lower(model, params, prompts, keys, stage.sample)


def _compiled(
    lower: Callable[[], Any], memory: dict[str, int], where: Topology, mesh: Any, held: int
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
        return Program({**memory, "held": held}, needed + held, limit, {}, words[:300])
    stats = compiled.memory_analysis()
    needed = (
        stats.argument_size_in_bytes
        + stats.temp_size_in_bytes
        + stats.output_size_in_bytes
        - stats.alias_size_in_bytes
        + stats.generated_code_size_in_bytes
    )
    memory = {**memory, "temporaries": max(0, needed - sum(memory.values())), "held": held}
    limit = topology.usable(where)
    return Program(memory, needed + held, limit, hlo.collectives(compiled.as_text()))


def report(
    where: Topology, model: Model, stage: Planned, mesh: Any, programs: Mapping[str, Program]
) -> dict[str, Any]:
    """What `plan` returns: topology, mesh, model, and for each program memory, FLOPs and time."""
    fits = all(p.fits for p in programs.values())
    margin = min(1 - p.needed / p.limit for p in programs.values())
    flops = _flops(stage, model)
    out: dict[str, Any] = {
        "topology": where.name,
        "chips": where.chips,
        "mesh": dict(mesh.shape),
        "model": model.config.family,
        "parameters": trees.count(stage.variables["base"]),
        "fits": fits,
        "margin": round(margin, 3),
        "programs": {},
    }
    if where.gpus:
        most = max(p.needed for p in programs.values())
        out["gpu"] = {
            "memory": where.chip.memory,
            "fraction": gpu.fraction(),
            "fraction_needed": round(most / where.chip.memory, 3),
            "jax": jax.__version__,
        }
    for name, program in programs.items():
        each = flops[name] / mesh.size
        seconds = each / where.chip.flops
        if name == "rollout":  # every token reads all parameters and the cache
            reads = sum(program.memory[k] for k in ("parameters", "cache"))
            tokens = stage.sample.max_tokens if stage.sample else 0
            seconds = max(seconds, tokens * reads / where.chip.bandwidth)
        out["programs"][name] = {
            "hbm_per_chip": {**program.memory, "sum": program.needed, "limit": program.limit},
            "fits": program.fits,
            **({"reason": program.reason} if program.reason else {}),
            "flops": flops[name],
            "seconds_at_least": seconds,
            "collectives": {k: t._asdict() for k, t in program.collectives.items()},
        }
    return out


def _flops(stage: Planned, model: Model) -> dict[str, float]:
    """FLOPs of a step and of its rollouts on all chips, by the rules of the module's docstring."""
    c = model.config
    params, _ = trees.partition(stage.variables, stage.trainable)
    # Looking a token up multiplies nothing.
    table = 0 if c.tie_embeddings else c.vocab_size * c.embed_dim
    trained = trees.count(params) - (table if jax.tree.leaves(params["base"]["embed"]) else 0)
    base = trees.count(stage.variables["base"]) - table
    whole = base + trees.count(stage.variables.get("adapters", {}))
    rows, width = _tokens(stage)
    again = 2 * (c.remat == "full")
    attention = c.num_layers * c.num_heads * c.head_dim * width  # like parameters: 2 FLOPs forward
    per_token = (4 + again) * whole + 2 * trained + 2 * stage.forwards * base
    per_token += (6 + again + 2 * stage.forwards) * attention
    if stage.sample is None:
        return {"step": rows * width * per_token}
    sampled = stage.prompts.tokens.shape[1] + stage.sample.max_tokens
    return {"step": rows * width * per_token, "rollout": rows * sampled * 2 * (base + attention)}


def _tokens(stage: Planned) -> tuple[int, int]:
    """Rows of a step's batch and their length; both answers of a pair [B,2,T] are rows."""
    *rows, width = jax.tree.leaves(stage.batch)[0].shape
    return math.prod(rows), width


def _saved(stage: Planned, model: Model, mesh: Any, accum: int) -> int:
    """Bytes per chip that the forward pass keeps with full remat: each layer's input. [L,B,T,D]."""
    c = model.config
    rows, width = _tokens(stage)
    one = rows // accum * width * c.embed_dim * jnp.dtype(c.dtype).itemsize
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
