"""TPU slices by name, and what one of their chips can hold and do.

Memory, matrix throughput and memory bandwidth are the published figures of the chips (Cloud TPU
documentation); the compiler keeps some of the memory for itself, which `plan` reads from its own
messages. Slices are the small and middle ones of each generation, in the names of
`jax.experimental.topologies`.
"""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

from jaxsafety.errors import bad

GIB = 1 << 30


class Chip(NamedTuple):
    """One chip: memory in bytes, bfloat16 FLOP/s, bytes/s of its memory."""

    memory: int
    flops: float
    bandwidth: float


CHIPS = {
    "v5e": Chip(16 * GIB, 197e12, 0.82e12),
    "v5p": Chip(95 * GIB, 459e12, 2.76e12),
    "v6e": Chip(32 * GIB, 918e12, 1.6e12),
}
SLICES = {
    "v5e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8"),
    "v6e": ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
}


class Topology(NamedTuple):
    """A slice: generation, shape such as "2x2x4", chips."""

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
    def chip(self) -> Chip:
        """What each is."""
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
      UsageError: the TPU compiler is not installed.
    """
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
