"""A process of the toy stage: `python toy_of.py WORKDIR OUT HOST:PORT,COUNT,INDEX`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jaxsafety.core import hosts, sharding, trees
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.protocols import Stage, TrainConfig
from jaxsafety.train.loop import run_stage
from jaxsafety.train.metrics import MetricWriter, NoWriter
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=2, progress=False)
STAGE = Stage("s", toy.noisy_loss, ("base",), toy.offline, 4, toy.OPTIM, axes=toy.AXES)


def main(workdir: str, out: str, where: str) -> None:
    """Trains, parameters split over the processes; the leader writes them, whole, to OUT."""
    hosts.start(where)
    mesh = sharding.make_mesh(MeshConfig(1, jax.device_count(), 1))
    ctx = toy.context(workdir, mesh=mesh)
    writer = MetricWriter(workdir, tensorboard=False) if hosts.leader() else NoWriter()
    final = run_stage(STAGE, toy.variables(), dataclasses.replace(ctx, writer=writer), TRAIN)
    kernel = final["base"]["mlp"]["up"]["kernel"]
    assert not kernel.is_fully_addressable and not kernel.is_fully_replicated
    leaves = zip(trees.paths(final), jax.tree.leaves(final), strict=True)
    arrays = {name: trees.host(leaf) for name, leaf in leaves}  # all processes take part
    if hosts.leader():
        np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
