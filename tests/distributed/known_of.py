"""A process of a stage with known rows: `python known_of.py WORKDIR HOST:PORT,COUNT,INDEX`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jaxsafety.core import hosts
from jaxsafety.mitigations.constrained import Constrained
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import NoWriter
from tests.mitigations import guarded


def stage(shards: int):
    """Constrained fine-tuning of all parameters."""
    made = Constrained().mitigation(guarded.means(shards=shards))
    return guarded.stage(made, 0, steps=3, shards=shards, batches=guarded.known())


def main(workdir: str, where: str) -> None:
    """Trains, parameters and rows split over the processes; the leader writes the metrics."""
    hosts.start(where)
    ctx = guarded.context(Path(workdir), (1, jax.device_count(), 1))
    if not hosts.leader():
        ctx = dataclasses.replace(ctx, writer=NoWriter())
    made = stage(jax.device_count())
    run_stage(made, made.start, ctx, guarded.TRAIN)


if __name__ == "__main__":
    main(*sys.argv[1:])
