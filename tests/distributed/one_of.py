"""A process of a distributed run: `python one_of.py OUT ARGUMENTS OF jaxsafety...`.

It is the command line; in the end the leader writes all variables, whole, to OUT (npz).
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jaxsafety import cli
from jaxsafety.core import hosts, trees
from jaxsafety.experiment import run
from tests.few import measure_few


def main(out: str, *arguments: str) -> int:
    """Runs `jaxsafety ARGUMENTS`."""
    whole = run.run

    def keep(*args, **kwargs):
        result = whole(*args, **kwargs)
        variables = result["variables"]
        leaves = dict(zip(trees.paths(variables), jax.tree.leaves(variables), strict=True))
        arrays = {name: trees.host(leaf) for name, leaf in leaves.items()}  # all take part
        if hosts.leader():
            np.savez(out, **arrays)
        return result

    run.run = keep
    measure_few()
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
