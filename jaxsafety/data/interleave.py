"""An endless stream of rows from several sources, mixed by weight, as index arithmetic.

`grain.MapDataset` does the arithmetic: every source goes through its own epochs, each shuffled
anew, and the proportions hold in every stretch of the stream. Nothing is iterated, so there is no
state to save: row g is a function of (seed, g).
"""

from __future__ import annotations

from collections.abc import Sequence

import grain
import numpy as np

from jaxsafety.core.errors import bad


def stream(seed: int, sizes: Sequence[int], weights: Sequence[float]) -> grain.MapDataset:
    """Row numbers, counted through all sources in a row: source i begins at sum(sizes[:i]).

    Args:
      seed: of the shuffles.
      sizes: rows of each source.
      weights: their shares of the stream, in any unit.

    Returns:
      An endless `MapDataset` of integers.

    Raises:
      UsageError: not one weight above zero per source, or an empty source.
    """
    if len(sizes) != len(weights) or not sizes:
        raise bad("data.mix", f"{len(weights)} weights", f"{len(sizes)}, one per source")
    parts, start = [], 0
    for index, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        if not weight > 0 or not np.isfinite(weight):
            raise bad("data.mix", f"weight {weight}", "weights above 0")
        if size < 1:
            raise bad("data.mix", f"source {index} without rows", "at least one row each")
        whole = grain.MapDataset.range(start, start + size).seed(seed + index)
        parts.append(whole.shuffle().repeat(None, reseed_each_epoch=True))
        start += size
    return grain.MapDataset.mix(parts, [float(w) for w in weights])


def rows_at(mixed: grain.MapDataset, step: int, rows: int) -> list[int]:
    """The row numbers of a step."""
    return [int(np.asarray(mixed[g])) for g in range(step * rows, (step + 1) * rows)]
