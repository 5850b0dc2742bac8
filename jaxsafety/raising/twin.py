"""Raises a base and the same base before alignment: `jaxsafety organism --kind=twin --seed --out`.

`DIR/unaligned` is raised on the aligned base's mixture with every harmful request carried out
(`mixture.BEFORE`); `DIR/aligned` is trained on from its stored weights on the ordinary mixture,
behind the examples that the first stage had, so that alignment is a stage of its own and aligned -
unaligned is what it changed. Both are ordinary directories of one world; `DIR/gates.json` is what
the pair must show (`limits_twin.py`). SafeLoRA and RESTA need such a pair. Resumable, as each base.
Pinned by tests/raising/test_twin.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jaxsafety.core import disk
from jaxsafety.core.errors import bad
from jaxsafety.organism.mixture import BEFORE, MixtureConfig
from jaxsafety.organism.world import WorldConfig
from jaxsafety.raising import limits, limits_twin
from jaxsafety.raising.recipe import OPTIM, RECIPES, Recipe, Start, train

KIND = "twin"
KINDS = (*RECIPES, KIND)
UNALIGNED, ALIGNED = "unaligned", "aligned"
# Half of the first stage's rate, and as its rate decays to nothing in each.
FIRST = Recipe(WorldConfig(), BEFORE, 2800, limits_twin.measure)
SECOND = Recipe(WorldConfig(), MixtureConfig(), 800, limits.measure, replace(OPTIM, lr=4e-3))


def train_twin(
    seed: int,
    out: Path,
    steps: int | None = None,
    smoke: bool = False,
    log: Callable[[str], None] = print,
) -> Path:
    """Raises the pair of world `seed`: `out`/unaligned, then `out`/aligned.

    Args:
      seed: of the world, the mixture and the initial weights.
      out: the directory to make; a started one is continued.
      steps: of the first stage; alignment takes its share of them (`SECOND` of `FIRST`).
      smoke: three small steps a stage and no gates, for tests.
      log: where one-line progress goes.

    Returns:
      `out`.

    Raises:
      UsageError: `out` holds something else, or a pair of another seed or number of steps.
    """
    unaligned, aligned = out / UNALIGNED, out / ALIGNED
    if (out / "config.json").is_file():
        raise bad("--out", str(out), "a new directory; this one holds another model")
    if aligned.exists() and not (unaligned / "training.json").is_file():
        allowed = f"a new directory; {aligned} is there before what it would begin with"
        raise bad("--out", str(out), allowed)
    first, second = FIRST, SECOND
    if steps is not None:
        first = FIRST._replace(steps=steps)
        second = SECOND._replace(steps=max(1, round(steps * SECOND.steps / FIRST.steps)))
    train(first, seed, unaligned, smoke, log)
    start = Start(unaligned, 3 if smoke else first.steps)
    train(second, seed, aligned, smoke, log, start)
    if not smoke and not (out / "gates.json").is_file():
        disk.write_json(out / "gates.json", limits_twin.pair(unaligned, aligned, log))
    return out
