"""TPU slices and GPUs by name, and what one of their devices can hold and do.

Matrix throughput and bandwidths are the published figures of the chips (Cloud TPU documentation,
NVIDIA's data sheets), halved for TPU7x, whose chips are two devices each; of links between chips it
is one direction, half of what is printed where both are added up. Memory of
a TPU is what the compiler lets a program use, which is not the advertised size: it says so itself
when a program is too large, and `plan` asks it once per topology; the table holds what libtpu
0.0.42.1 answered. The GPU compiler refuses nothing, so there it is the part of the card that JAX
takes at its start. Slices are the small and middle ones of each generation, in the names of
`jax.experimental.topologies`; GPUs are counted, eight a host.
"""

from __future__ import annotations

import math
import os
import re
from functools import lru_cache
from typing import Any, NamedTuple

from jaxsafety.core.errors import bad
from jaxsafety.planning import gpu

GIB = 1 << 30
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": GIB, "T": 1 << 40}


class Chip(NamedTuple):
    """One device; `devices` make one chip.

    `memory` usable bytes; `flops` bfloat16 FLOP/s; `bandwidth` of its memory and `link` to other
    chips in bytes/s.
    """

    memory: int
    flops: float
    bandwidth: float
    link: float
    devices: int = 1


CHIPS = {
    "v5e": Chip(int(15.75 * GIB), 197e12, 0.82e12, 200e9),
    "v5p": Chip(int(95.74 * GIB), 459e12, 2.76e12, 600e9),
    "v6e": Chip(int(31.25 * GIB), 918e12, 1.6e12, 400e9),
    "tpu7x": Chip(int(94.75 * GIB), 2307e12 / 2, 7.38e12 / 2, 600e9 / 2, devices=2),
    **{
        name: Chip(card.memory, gpu.FLOPS[name], card.bandwidth, gpu.LINKS[name])
        for name, card in gpu.CARDS.items()
    },
}
SLICES = {
    "v5e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8"),
    "v6e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "tpu7x": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8"),
    **dict.fromkeys(gpu.CARDS, gpu.COUNTS),
}


class Topology(NamedTuple):
    """A slice, shape such as "2x2x4"; or so many GPUs, shape such as "8"."""

    generation: str
    shape: str

    @property
    def name(self) -> str:
        """Such as "v5p:2x2x4"."""
        return f"{self.generation}:{self.shape}"

    @property
    def chips(self) -> int:
        """How many."""
        return math.prod(int(n) for n in self.shape.split("x"))

    @property
    def gpus(self) -> bool:
        """Whether it is GPUs."""
        return self.generation in gpu.CARDS

    @property
    def chip(self) -> Chip:
        """What each of its devices is."""
        return CHIPS[self.generation]


def parse(name: str) -> Topology:
    """A topology from its name.

    Raises:
      UsageError: a generation or shape that is not listed.
    """
    generation, _, shape = name.partition(":")
    if generation not in SLICES:
        raise bad("--topology", name, ", ".join(f"{g}:SHAPE" for g in SLICES))
    if shape not in SLICES[generation]:
        raise bad("--topology", name, ", ".join(f"{generation}:{s}" for s in SLICES[generation]))
    return Topology(generation, shape)


def larger(topology: Topology) -> tuple[Topology, ...]:
    """The listed slices of the same generation with more chips, ascending."""
    every = (Topology(topology.generation, shape) for shape in SLICES[topology.generation])
    return tuple(t for t in every if t.chips > topology.chips)


def devices(topology: Topology) -> list[Any]:
    """Devices to compile for, none of which is there.

    Raises:
      UsageError: the compiler for them is not installed.
    """
    if topology.gpus:
        return gpu.devices(topology.generation, topology.chips)
    # Or libtpu asks a metadata server which slice it is on, and waits for the answer.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is touched
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(topology.name, platform="tpu")
    except Exception as error:  # a missing or unusable libtpu raises several types
        given = f"{topology.name}: {' '.join(str(error).split())[:200]}"
        raise bad("--topology", given, "pip install 'jaxsafety[tpu]'") from error
    return list(found.devices)


@lru_cache
def usable(topology: Topology) -> int:
    """Bytes that a program may use on one device: the compiler's word, or else the table's.

    Asked by compiling what fits nowhere; the answer takes a tenth of a second. Of a GPU it is the
    part that JAX takes (`gpu.fraction`).
    """
    if topology.gpus:
        return int(gpu.fraction() * topology.chip.memory)
    import jax
    import jax.numpy as jnp

    place = jax.sharding.SingleDeviceSharding(devices(topology)[0])
    whole = jax.ShapeDtypeStruct((1 << 20, 1 << 17), jnp.float32, sharding=place)  # 512 GiB
    try:
        jax.jit(lambda x: x + 1).lower(whole).compile()
    except jax.errors.JaxRuntimeError as error:
        return limit(str(error)) or topology.chip.memory
    return topology.chip.memory


def limit(words: str) -> int:
    """The memory that the compiler says there is, in bytes, from its refusal; 0 if it does not."""
    found = re.search(r"available HBM \(([\d.]+)([KMGT])", words)
    found = found or re.search(r"[Uu]sed [\d.]+[KMGT] of ([\d.]+)([KMGT]) hbm", words)
    return int(float(found[1]) * UNITS[found[2]]) if found else 0


def read_needed(words: str) -> int:
    """The memory that the refused program needs, in bytes, by the compiler's words; 0 if unsaid."""
    found = re.search(r"[Uu]sed ([\d.]+)([KMGT]) of", words)
    found = found or re.search(r"total memory required[^(]*\(([\d.]+)([KMGT])", words)
    return int(float(found[1]) * UNITS[found[2]]) if found else 0
