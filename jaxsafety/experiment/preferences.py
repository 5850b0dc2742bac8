"""Preference pairs of a setting: of the user's file, or of the organism; and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data.files.pairs import read_pairs
from jaxsafety.data.preferences import Preferred
from jaxsafety.experiment.sections import DataConfig
from jaxsafety.organism.world import World
from jaxsafety.protocols import Setting


def add(setting: Setting, data: DataConfig, seed: int, reads: Sequence[str]) -> Setting:
    """The setting with its pairs, where the method reads some.

    Args:
      setting: with the world, if the source is one.
      data: the section.
      seed: of draws.
      reads: what the method reads of `data`.

    Raises:
      UsageError: a broken file, as many held out as there are, more pairs than the world has.
    """
    if "pairs" not in reads:
        return setting
    if data.pairs:
        found = tuple(read_pairs(data.pairs, "data.pairs"))
        if data.limit and data.limit < len(found):
            order = np.random.default_rng([seed, len(found), 3]).permutation(len(found))
            found = tuple(found[int(i)] for i in sorted(order[: data.limit]))
    elif isinstance(setting.world, World):
        from jaxsafety.benchmarks.organism import preferences

        found = preferences(
            setting.world, data.dialogues, seed, harmful=data.harmful_share, wrapped=data.wrapped
        )
    else:
        return setting  # `sections.check_present` has said so
    learnt, held = hold_out(found, data.holdout, seed)
    return replace(setting, pairs=learnt, held_pairs=held)


def hold_out(
    pairs: tuple[Preferred, ...], share: float, seed: int
) -> tuple[tuple[Preferred, ...], tuple[Preferred, ...]]:
    """(what is trained on, what is only measured); all pairs of one prompt are on one side.

    Args:
      pairs: all of them.
      share: of the different prompts, below 1; or how many of them. 0 is none.
      seed: of the draw.

    Raises:
      UsageError: as many are held out as there are.
    """
    if not share:
        return pairs, ()
    different = list(dict.fromkeys(pair.prompt for pair in pairs))
    count = int(share) if share >= 1 else max(1, round(share * len(different)))
    if count >= len(different):
        allowed = f"fewer than the {len(different)} different prompts, some must be learnt"
        raise bad("data.holdout", share, allowed)
    order = np.random.default_rng([seed, len(different), 2]).permutation(len(different))
    held = {different[int(i)] for i in order[:count]}
    sides = (tuple(p for p in pairs if (p.prompt in held) is kept) for kept in (False, True))
    learnt, measured = sides
    return learnt, measured
