"""The process that fault tests kill: `python method_run.py OUT ARGUMENTS OF jaxsafety...`.

It is the command line; around every rollout it says so, so that a kill can be aimed at it, and in
the end it writes all variables as they were in memory to OUT (npz, float32).
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from jaxsafety import cli  # noqa: E402
from jaxsafety.core import trees  # noqa: E402
from jaxsafety.experiment import run  # noqa: E402
from jaxsafety.methods.safesteer import program as safesteer  # noqa: E402
from jaxsafety.sampling import copies  # noqa: E402
from tests.few import measure_few  # noqa: E402


def main(out: str, *arguments: str) -> int:
    """Runs `jaxsafety ARGUMENTS`."""

    def sample(*args, **kwargs):
        print("rollout begins", flush=True)
        said = jax.block_until_ready(copies.sample(*args, **kwargs))
        print("rollout ends", flush=True)
        return said

    # Only the method's own rollouts speak; measuring goes through `decode`.
    safesteer.copies = SimpleNamespace(**{**vars(copies), "sample": sample})
    whole = run.run

    def keep(*args, **kwargs):
        result = whole(*args, **kwargs)
        variables = result["variables"]
        leaves = zip(trees.paths(variables), jax.tree.leaves(variables), strict=True)
        np.savez(out, **{name: np.asarray(leaf) for name, leaf in leaves})
        return result

    run.run = keep
    measure_few()
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
