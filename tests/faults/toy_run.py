"""The process that fault tests kill: `python toy_run.py WORKDIR OUT [SECONDS_PER_STEP]`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from jaxsafety.core import trees  # noqa: E402
from jaxsafety.protocols import TrainConfig  # noqa: E402
from jaxsafety.train.checkpoint import Checkpoints  # noqa: E402
from jaxsafety.train.loop import run_program  # noqa: E402
from tests.train import toy  # noqa: E402


def main(workdir: str, out: str, pause: str = "0.0") -> None:
    """Runs the toy program and writes its final variables to OUT (npz)."""
    say = lambda line: print(line, flush=True)  # noqa: E731
    say("ready")

    def hook(step):
        say(f"step {step}")
        time.sleep(float(pause))  # stands for a rollout; most kills should land inside the work

    save = Checkpoints.save

    def told(self, step, *args, **kwargs):
        say(f"saving {step}")
        save(self, step, *args, **kwargs)

    Checkpoints.save = told
    program = toy.program(steps=12, hook=hook)
    train = TrainConfig(checkpoint_every=3, progress=False)
    final = run_program(program, toy.context(workdir, log=say, tensorboard=True), train)
    leaves = zip(trees.paths(final), jax.tree.leaves(final), strict=True)
    np.savez(out, **{name: np.asarray(leaf) for name, leaf in leaves})


if __name__ == "__main__":
    main(*sys.argv[1:])
