"""S voted for again while the student trains: `method.tokens.revote` updates between two votes.

The paper votes once, teacher against base (arXiv 2606.02530, C5), and 0 is that. Here the teacher
is compared with the student as it is: tokens that it has learnt to prefer as the teacher does stop
standing out, and what is left of the difference is voted in. The rollouts that vote are the
teacher's, the same each time.

A vote is an artifact, `revote.<updates>`, made before the update that uses it. A run that is
killed reads it back, and where it comes again to a vote that was not kept it has the student of
that step, so it goes on with the same bits. The optimizer goes on too, which further stages would
begin anew. Pinned by tests/methods/test_safesteer_revote.py.
Letters: C ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.methods.safesteer.teacher import TokenConfig, find_tokens
from jaxsafety.protocols import Context, Variables


def revoting(
    cfg: TokenConfig, ctx: Context, found: Mapping[str, Any], first: Sequence[int]
) -> Callable[[Variables, int], np.ndarray]:
    """`(variables, step) -> [C] int32`: S of an update, of as many ids at every one.

    Args:
      cfg: settings of the vote; its `revote` is above 0.
      ctx: of the run; keeps the votes.
      found: the direction, as stage A leaves it.
      first: S of the vote before training. A later set of fewer ids is filled up with its first.
    """

    def ids(variables: Variables, step: int) -> np.ndarray:
        at = step // cfg.revote * cfg.revote
        if not at:
            return np.asarray(first, np.int32)

        def vote() -> dict[str, Any]:
            if step != at:  # the student of that update is gone
                given = f"a run at update {step} without artifacts/revote.{at}.json"
                raise bad("workdir", given, "one with every vote it made")
            return find_tokens(cfg, ctx, found, student=variables["base"])

        chosen = ctx.artifact(f"revote.{at}", vote)["ids"]
        if step == at:
            stayed = len(set(chosen) & set(first))
            ctx.log(f"S voted again after {at} updates: {stayed} of its {len(first)} ids stayed")
        full = [*chosen, *chosen[:1] * (len(first) - len(chosen))]
        return np.asarray(full[: len(first)], np.int32)

    return ids
