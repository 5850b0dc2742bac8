"""`plan --mesh=auto`: the meshes that the sharding rules can use on so many devices, and the best.

A mesh is judged by the sum over its programs of the larger of two times: the floor, and what its
collectives need at the full rate of the links (of GPUs NVLink's, also where there are several
hosts). The floor is known without a compiler, so meshes are compiled from the lowest floor on,
until none that is left can be faster than one that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxsafety.core.errors import bad
from jaxsafety.core.sharding import MESH_AXES, MeshConfig
from jaxsafety.models.api import ModelConfig

GIB = 1 << 30


class Known(NamedTuple):
    """What is known of a mesh before anything is compiled.

    `seconds` floor of all programs; `kept` bytes of weights and moments on a chip; `limit` what a
    program may use there.
    """

    seconds: float
    kept: int
    limit: int


def candidates(config: ModelConfig, rows: int, devices: int) -> list[MeshConfig]:
    """Meshes of all devices on which every named axis divides, with the fewest "tensor" first.

    "tensor" are powers of two that divide heads, key and value heads, feed-forward width and
    vocabulary; the other devices are all fsdp, or all data.

    Args:
      config: of the model.
      rows: of a micro-batch, which data x fsdp have to divide.
      devices: how many.

    Raises:
      UsageError: no mesh divides the rows.
    """
    found = []
    sizes = (config.num_heads, config.num_kv_heads, config.mlp_dim, config.vocab_size)
    ways = 1
    while ways <= devices:
        rest = devices // ways
        if not devices % ways and not any(size % ways for size in sizes) and not rows % rest:
            if not config.embed_dim % rest:
                found.append(MeshConfig(fsdp=rest, tensor=ways))
            if rest > 1:
                found.append(MeshConfig(data=rest, tensor=ways))
        ways *= 2
    if not found:
        allowed = f"rows of a step ({rows} here) that the devices divide, or sizes in config.mesh"
        raise bad("--mesh", f"auto, with {devices} devices", allowed)
    return found


def choose(
    meshes: list[MeshConfig],
    known: Callable[[MeshConfig], Known],
    compiled: Callable[[MeshConfig], dict[str, Any]],
) -> dict[str, Any]:
    """The plan of the fastest mesh that fits, or of the one with the least memory if none does.

    Args:
      meshes: some.
      known: tells of a mesh what needs no compiler.
      compiled: makes its plan (`plan.report`).

    Returns:
      The plan, with `tried`, a record per mesh, and `mesh_because`.
    """
    facts = {mesh: known(mesh) for mesh in meshes}
    order = sorted(meshes, key=lambda mesh: facts[mesh].seconds)  # equal ones stay in their order
    plans: dict[MeshConfig, dict[str, Any]] = {}
    tried: dict[MeshConfig, dict[str, Any]] = {}
    best: MeshConfig | None = None
    for mesh in order:
        fact = facts[mesh]
        record: dict[str, Any] = {"mesh": {name: getattr(mesh, name) for name in MESH_AXES}}
        record |= {"seconds_at_least": fact.seconds, "seconds": None, "needed": fact.kept}
        tried[mesh] = record
        if fact.kept > fact.limit:
            record |= {"fits": False, "cause": "not compiled: weights and moments alone are more"}
        elif best is not None and fact.seconds >= tried[best]["seconds"]:
            record |= {"fits": None, "cause": "not compiled: cannot be faster"}
        else:
            plans[mesh] = compiled(mesh)
            record |= _account(plans[mesh])
            better = best is None or record["seconds"] < tried[best]["seconds"]
            if record["fits"] and better:
                best = mesh
    because = "the fastest that fits, by floor and links"
    if best is None:
        because = "none fits; this needs the least memory"
        best = min(order, key=lambda mesh: tried[mesh]["needed"])
    found = plans.get(best) or compiled(best)
    return {**found, "mesh_because": because, "tried": list(tried.values())}


def _account(plan: Mapping[str, Any]) -> dict[str, Any]:
    programs = plan["programs"].values()
    seconds = [max(p["seconds_at_least"], p["seconds_between_chips"] or 0) for p in programs]
    refused = any(p["seconds_between_chips"] is None for p in programs)
    return {
        "seconds": None if refused else sum(seconds),
        "needed": max(p["hbm_per_chip"]["sum"] for p in programs),
        "fits": plan["fits"],
        **({"cause": "the compiler refused it"} if refused else {}),
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """What was chosen, why, and what else was looked at, as text."""
    if "tried" not in found:
        return []
    mesh = found["mesh"]
    options = " ".join(f"--config.mesh.{name}={size}" for name, size in mesh.items())
    if found.get("sampling", "split") != "split":
        options += f" --config.mesh.sampling={found['sampling']}"
    out = [f"mesh {_text(mesh)}: {found['mesh_because']} ({options})"]
    for record in found["tried"]:
        words = [f"at least {record['seconds_at_least']:.3f} s"]
        if record["seconds"] is not None:
            words.append(f"with links {record['seconds']:.3f} s")
        if record["fits"] is not None:
            words.append(f"{record['needed'] / GIB:.2f} GiB a chip")
            words.append("fits" if record["fits"] else "does not fit")
        if "cause" in record:
            words.append(record["cause"])
        out.append(f"  {_text(record['mesh'])}: {', '.join(words)}")
    return out


def _text(mesh: Mapping[str, int]) -> str:
    return " x ".join(f"{name} {size}" for name, size in mesh.items())
