"""A plan as a person reads it in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxsafety.planning import meshes

GIB = 1 << 30


def table(found: Mapping[str, Any]) -> str:
    """What `plan.plan` returned, as text."""
    mesh = " x ".join(f"{k} {v}" for k, v in found["mesh"].items())
    if found.get("sampling", "split") != "split":
        mesh += f", copies for sampling: {found['sampling']}"
    lines = [
        f"{found['model']}, {found['parameters'] / 1e9:.2f} B parameters, on {found['topology']}"
        f" ({found['chips']} {'GPUs' if 'gpu' in found else 'chips'}, {mesh})"
    ]
    for name, program in found["programs"].items():
        memory = program["hbm_per_chip"]
        kinds = (k for k in memory if k not in ("sum", "limit"))
        text = ", ".join(f"{k} {memory[k] / GIB:.2f}" for k in kinds)
        fits = "fits" if program["fits"] else "DOES NOT FIT"
        held = f"{memory['sum'] / GIB:.2f} of {memory['limit'] / GIB:.2f} GiB a chip"
        lines += [
            f"{name}: {held}, {fits}",
            f"  GiB: {text}",
            f"  {program['flops'] / 1e12:.1f} TFLOP, at least {program['seconds_at_least']:.3f} s",
            f"  {_estimated(program)}",
        ]
        if program.get("reason"):
            lines.append(f"  compiler: {program['reason']}")
        for kind, traffic in (program["collectives"] or {}).items():
            size = traffic["bytes"] / GIB
            lines.append(f"  {kind}: {traffic['count']}, {size:.2f} GiB a chip in all")
        if program["collectives"]:
            seconds = program["seconds_between_chips"]
            lines.append(f"  between chips: {seconds:.3f} s at the full rate of their links")
    lines += _copies(found)
    for text, cause in found.get("not_counted", {}).items():
        lines.append(f"not counted: the judge {text}: {cause}")
    lines += _behind(found)
    lines += meshes.lines(found)
    if "gpu" in found:
        lines += _gpu(found["gpu"])
    if found["fits"]:
        lines.append(f"fits with a margin of {found['margin']:.0%}")
    else:
        other = found.get("smallest_that_fits", "none of those listed")
        lines.append(f"smallest listed slice that fits: {other}")
    return "\n".join(lines)


def _copies(found: Mapping[str, Any]) -> list[str]:
    """What to try where sampling waits for the links more than for the memory."""
    asked = found["programs"].get("rollout")
    if not asked or found.get("sampling", "split") != "split":
        return []
    if (asked["seconds_between_chips"] or 0.0) <= asked["seconds_at_least"]:
        return []
    return [
        "rollouts fetch weights from other chips for every token: a copy to sample from is made"
        " once, whole (--config.mesh.sampling=data) or by heads (--config.mesh.sampling=tensor)"
    ]


def _estimated(program: Mapping[str, Any]) -> str:
    seconds = program["optimal_seconds"]
    if seconds is None:
        return f"no time by the compiler: {program['optimal_seconds_cause']}"
    return f"by the compiler {seconds:.3f} s, with the body of every loop counted once"


def _behind(found: Mapping[str, Any]) -> list[str]:
    """What the figures assume."""
    parts = []
    for name, rows in found["rows"].items():
        said = f", {rows['said']} of them sampled" if rows["said"] else ""
        parts.append(f"{name} {rows['rows']} rows of {rows['tokens']} tokens{said}")
    dtypes = ", ".join(f"{k} {v}" for k, v in found["dtypes"].items())
    whole = sum(found["replicated"].values()) / GIB
    steps, times = found["steps"], found["trainings"]
    seconds = steps * times * found["programs"]["step"]["seconds_at_least"]
    return [
        f"{found['stage']}: {steps} steps, {times} such training{'s' * (times > 1)} in a run:"
        f" at least {seconds:.1f} s of steps",
        f"assumed: {'; '.join(parts)}",
        f"weights: {dtypes}; {whole:.2f} GiB a chip lie on other chips too",
    ]


def _gpu(card: Mapping[str, Any]) -> list[str]:
    """What the figures of a GPU leave out: they are the compiler's, of programs that never ran."""
    whole = card["memory"] / GIB
    return [
        f"the limit is {card['fraction']:g} of the card's {whole:.2f} GiB, what JAX takes at its"
        f" start; this needs {card['fraction_needed']:.2f} (XLA_CLIENT_MEM_FRACTION)",
        f"compiled with jax {card['jax']}, not run: without the CUDA context, NCCL's buffers,"
        " cuDNN's workspace, fragmentation, and the kernels that tuning on a card would choose;"
        " keep a tenth free",
    ]
