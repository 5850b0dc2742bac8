"""Compiles the real program of a config for a TPU slice or GPUs that are not there: does it fit?

The training step is the one that `run` makes: same loss, optimizer, shardings and donation; so is
the sampler of on-policy methods. Shapes stand for arrays, so no weights, prompts or devices are
needed: a laptop and the compiler (`pip install 'jaxsafety[tpu]'`, or `[gpu-plan]`) are enough.
FLOPs and the least times are by rules (`floor`), beside them stands what the compiler estimates.
What `run` keeps on the chip beside a program (the optimizer while sampling, say) counts as "held".
Letters: B rows, T tokens of a row, L layers, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxsafety import registry
from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.experiment import record
from jaxsafety.models.api import Model, ModelConfig, build
from jaxsafety.models.formats import hf
from jaxsafety.models.formats.source import UNALIGNED, ModelSource, directory, stored_dtype
from jaxsafety.planning import floor, gpu, guards, meshes, program, topology
from jaxsafety.planning.guards import Guard
from jaxsafety.planning.program import Program
from jaxsafety.planning.topology import Topology
from jaxsafety.protocols import Planned
from jaxsafety.sampling import copies


def plan(
    cfg: Any,
    name: str,
    *,
    prompt: int = 0,
    auto: bool = False,
    search: bool = True,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Plans an experiment on a slice.

    Args:
      cfg: a ConfigDict as of `run`; its model is read from `model.path` where that is a directory,
        else it is the preset `model.shape`.
      name: of the topology, such as "v5p:2x2x4".
      prompt: tokens of the longest prompt; 0 is 256, or what the context has room for.
      auto: whether to choose the mesh (`meshes`), in place of the config's.
      search: whether to look for the smallest larger slice that fits, when this one does not.
      log: where progress goes.

    Returns:
      A JSON-able report: see `report`.

    Raises:
      UsageError: an unknown topology, model or program, or a mesh that the slice cannot have.
    """
    where = topology.parse(name)
    model, parts = _parts(cfg)
    make = _best if auto else _given
    found = make(where, model, parts, prompt, log)
    mesh = parts["mesh"]
    if not found["fits"] and search and (auto or -1 in (mesh.data, mesh.fsdp, mesh.tensor)):
        for other in topology.larger(where):
            log(f"does not fit on {where.name}; trying {other.name}")
            try:
                fits = make(other, model, parts, prompt, log)["fits"]
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
        judge=exp.eval.judge,
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


def _given(
    where: Topology, model: Model, parts: Mapping[str, Any], prompt: int, log: Callable[[str], None]
) -> dict[str, Any]:
    """Compiles for one slice, with the config's mesh."""
    mesh = sharding.make_mesh(parts["mesh"], topology.devices(where))
    return _on(where, model, parts, mesh, _stage(model, parts, mesh, prompt), log)


def _best(
    where: Topology, model: Model, parts: Mapping[str, Any], prompt: int, log: Callable[[str], None]
) -> dict[str, Any]:
    """The same with the mesh that does best."""
    devices = topology.devices(where)
    rows = jax.tree.leaves(_stage(model, parts, None, prompt).batch)[0].shape[0]
    listed = meshes.candidates(model.config, rows // parts["optim"].accum, len(devices))

    def staged(config: MeshConfig) -> tuple[Any, Planned]:
        mesh = sharding.make_mesh(config, devices)
        return mesh, _stage(model, parts, mesh, prompt)

    def known(config: MeshConfig) -> meshes.Known:
        mesh, stage = staged(config)
        made = program.assembled(stage, model, mesh, parts["train"], parts["optim"])
        how = parts["mesh"].sampling
        least = program.least(stage, model, mesh, where, parts["train"].master, how)
        kept = sum(program.kept(stage, made).values())
        kept += sum(guard.weights for guard in _guards(stage, parts))
        return meshes.Known(sum(least.values()), kept, topology.usable(where))

    def compiled(config: MeshConfig) -> dict[str, Any]:
        mesh, stage = staged(config)
        log(f"mesh data {config.data} x fsdp {config.fsdp} x tensor {config.tensor}")
        return _on(where, model, parts, mesh, stage, log)

    return meshes.choose(listed, known, compiled)


def _stage(model: Model, parts: Mapping[str, Any], mesh: Any, prompt: int) -> Planned:
    stage: Planned = parts["make"](parts["method"], model, mesh, prompt)
    return stage._replace(variables=program.stored(stage.variables, parts["stored"]))


def _on(
    where: Topology,
    model: Model,
    parts: Mapping[str, Any],
    mesh: Any,
    stage: Planned,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Compiles a stage's programs for a mesh of a slice."""
    known = _guards(stage, parts)
    weights = sum(guard.weights for guard in known)
    log(f"compiling the step of {stage.stage} for {where.name}")
    made = {"step": program.step(stage, model, mesh, parts, where, weights)}
    if stage.sample is not None:
        log(f"compiling its rollouts for {where.name}")
        beside, how = made["step"].memory, parts["mesh"].sampling
        args = (stage, model, mesh, where, parts["train"].master, beside, how)
        made["rollout"] = program.rollout(*args)
        if copies.mesh_of(mesh, how) is not mesh:
            made["copy"] = program.copy(*args)
    out = report(where, model, stage, mesh, parts, made)
    return _judged(out, known, where, mesh, made["step"].memory, log) if known else out


def _guards(stage: Planned, parts: Mapping[str, Any]) -> list[Guard]:
    """That stay on the first chip: the measurement's, and those that the method learns from."""
    return guards.named([*filter(None, [parts["judge"]]), *stage.judges])


def _judged(
    out: dict[str, Any],
    known: Sequence[Guard],
    where: Topology,
    mesh: Any,
    memory: Mapping[str, int],
    log: Callable[[str], None],
) -> dict[str, Any]:
    """The report with the guards' programs, or why there is none; `memory` is the step's."""
    kept = sum(memory[k] for k in ("parameters", "optimizer", "frozen", "mitigation", "held"))
    for guard in known:
        if guard.model is None:
            out.setdefault("not_counted", {})[guard.text] = guard.cause
            continue
        log(f"compiling the guard {guard.name} for a device of {where.name}")
        rows = guards.asked(guard.model, out["rows"]["step"]["tokens"])
        beside = kept - guard.weights  # among what is held it is counted already
        made = program.judged(guard, rows, where, mesh.devices.flat[0], beside)
        flops = guards.flops(guard.model, guard.params, rows)
        name = f"guard {guard.name}"
        out["programs"][name] = _account(made, where, flops, flops / where.chip.flops)
        out["rows"][name] = rows._asdict()
        out["fits"] = out["fits"] and made.fits
        out["margin"] = min(out["margin"], round(1 - made.needed / made.limit, 3))
    return out


def behind(
    where: Topology, model: Model, stage: Planned, mesh: Any, parts: Mapping[str, Any]
) -> dict[str, Any]:
    """What is assumed and what follows without a compiler.

    Returns:
      `stage`, its `steps` and how many such `trainings` a run has; `rows` by program, of which
      `said` tokens each are sampled; `dtypes` of the weights as they are loaded, of what trains,
      and of computing; `replicated` bytes a chip (`program`); `seconds_at_least` by program.
    """
    train = parts["train"]
    made = program.assembled(stage, model, mesh, train, parts["optim"])
    return {
        "stage": stage.stage,
        "steps": stage.steps,
        "trainings": stage.trainings,
        "rows": {name: rows._asdict() for name, rows in floor.rows(stage).items()},
        "dtypes": {
            "stored": parts["stored"],
            "trained": train.master,
            "computed": model.config.dtype,
        },
        "replicated": program.replicated(stage, made, mesh),
        "seconds_at_least": program.least(
            stage, model, mesh, where, train.master, parts["mesh"].sampling
        ),
    }


def report(
    where: Topology,
    model: Model,
    stage: Planned,
    mesh: Any,
    parts: Mapping[str, Any],
    programs: Mapping[str, Program],
) -> dict[str, Any]:
    """What `plan` returns: topology, mesh, model, what is `behind`, and each program's account.

    Bytes and counts are a chip's. `seconds_between_chips` is bytes that collectives leave on a chip
    / the published bandwidth of its links in one direction; it is no part of the floor, since
    sending may overlap with computing. Null stands with a cause beside it.
    """
    known = behind(where, model, stage, mesh, parts)
    seconds = known.pop("seconds_at_least")
    fits = all(p.fits for p in programs.values())
    margin = min(1 - p.needed / p.limit for p in programs.values())
    flops = {**floor.flops(stage, model), "copy": 0.0}
    out: dict[str, Any] = {
        "topology": where.name,
        "chips": where.chips,
        "mesh": dict(mesh.shape),
        "sampling": parts["mesh"].sampling,
        "model": model.config.family,
        "parameters": trees.count(stage.variables["base"]),
        "fits": fits,
        "margin": round(margin, 3),
        **known,
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
    for name, made in programs.items():
        out["programs"][name] = _account(made, where, flops[name], seconds[name])
    return out


def _account(made: Program, where: Topology, flops: float, seconds: float) -> dict[str, Any]:
    """Of a program that the compiler refused, "reason" is why its traffic is null."""
    sent = {k: t._asdict() for k, t in made.collectives.items()}
    return {
        "hbm_per_chip": {**made.memory, "sum": made.needed, "limit": made.limit},
        "fits": made.fits,
        **({"reason": made.reason} if made.reason else {}),
        "flops": flops,
        "seconds_at_least": seconds,
        "optimal_seconds": made.optimal,
        **({"optimal_seconds_cause": made.unknown} if made.optimal is None else {}),
        "seconds_between_chips": None if made.reason else made.sent / where.chip.link,
        "collectives": None if made.reason else sent,
    }
