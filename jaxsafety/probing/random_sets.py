"""Random token sets: random ids, and random ids that carry the same teacher mass as S.

Training on a random subset is not inert (Adam rescales tiny gradients), so a control must match
what the loss sees, the teacher's mass on the set, and hold no refusal token. SafeSteer has no
such control. With `within` a set is drawn of some tokens alone.

Letters: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.probing.votes import Tally, TokenSet, token_set

Names = Callable[[int], str] | None


def word_tokens(tokenizer: Any, words: Sequence[str]) -> tuple[int, ...]:
    """Ids that spell one of the words alone: in lower case or capitalised, after a space or not."""
    ids: set[int] = set()
    for word in words:
        for form in (word, word.capitalize()):
            for text in (form, f" {form}"):
                encoded = tokenizer.encode(text)
                if len(encoded) == 1:
                    ids.update(encoded)
    return tuple(sorted(ids - {getattr(tokenizer, "unk_id", None)}))


def _pool(
    result: Tally, exclude: Sequence[int], size: int, within: Sequence[int] | None = None
) -> np.ndarray:
    """All ids that are not banned, below the floor too, without the excluded ones."""
    allowed = (result.eligible if result.banned is None else ~result.banned).copy()
    if within is not None:
        allowed &= np.isin(np.arange(len(allowed)), list(within))
    allowed[list(exclude)] = False
    pool = np.flatnonzero(allowed)
    if len(pool) < size:
        raise bad("random_set", f"{len(pool)} tokens left to draw from", f">= {size}")
    return pool


def random_set(
    result: Tally,
    size: int,
    *,
    seed: int,
    exclude: Sequence[int] = (),
    names: Names = None,
) -> TokenSet:
    """A control: `size` ids drawn uniformly from all but the banned and those in `exclude`."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(_pool(result, exclude, size), size, replace=False)
    return token_set(result, ids, names)


def mass_matched_random(
    result: Tally,
    ids: Sequence[int],
    *,
    seed: int,
    exclude: Sequence[int] = (),
    within: Sequence[int] | None = None,
    tolerance: float = 0.05,
    reach: float | None = None,
    names: Names = None,
) -> TokenSet:
    """A control: random ids whose total teacher mass equals that of `ids` within `tolerance`.

    Where refusals carry most of the teacher's mass, nothing else may hold as much; with `reach` the
    mass aimed at is then at most that share of what the tokens left can hold, and the nearest set
    found is taken. Starts from a uniform draw and swaps random members for the outsider, among a
    random handful, that brings the mass nearest; so draws differ by seed.

    Args:
      result: the tally S came from.
      ids: S, whose size and mass are matched.
      seed: of the draw.
      exclude: ids that must not appear, e.g. all refusal tokens (and S itself).
      within: the only ids that may appear, without those of `exclude`; None is all.
      tolerance: relative to the mass of `ids`.
      reach: share, 0..1, of the most that is left; None insists on the mass of `ids` and raises.
      names: id -> vocabulary string.

    Raises:
      UsageError: too few tokens are left, or without `reach` they cannot have the mass.
    """
    rng = np.random.default_rng(seed)
    mass = result.mean_teacher_prob
    pool, size = _pool(result, exclude, len(ids), within), len(ids)
    target = float(mass[list(ids)].sum())
    most = float(np.sort(mass[pool])[-size:].sum())
    if reach is not None:
        target = min(target, reach * most)
    members = rng.choice(pool, size, replace=False)
    outside = np.setdiff1d(pool, members)
    best = float(mass[members].sum())
    for trial in range(4000):
        gap = target - best
        if abs(gap) <= tolerance * target:
            return token_set(result, members, names)
        if not len(outside):
            break
        place = int(rng.integers(size))
        # Late trials look at everyone: a single token may close the last bit of the gap.
        few = min(len(outside), 16 if trial < 1000 else len(outside))
        handful = rng.choice(len(outside), few, replace=False)
        change = mass[outside[handful]] - mass[members[place]]
        pick = int(np.argmin(np.abs(gap - change)))
        if abs(gap - change[pick]) < abs(gap):
            best += float(change[pick])
            members[place], outside[handful[pick]] = outside[handful[pick]], members[place]
    if reach is not None:
        return token_set(result, members, names)
    given = f"a mass of {target:.4g} for {size} tokens; reached {best:.4g}"
    raise bad("random_set", given, f"within {tolerance:g}; the tokens left hold at most {most:.4g}")
