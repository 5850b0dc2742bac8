"""Next-token scores of candidate directions: bypass, steering and KL of A6 (arXiv 2406.11717).

The ablated model exists only as an argument of a forward pass in here; nothing exports it.

Letters: C candidates of a pass, P post-instruction positions, L layers, D width, X prompts,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.probing import forward
from jaxsafety.probing.directions import Directions, refusal_score
from jaxsafety.probing.pieces import ALONE, Piece, Pieces
from jaxsafety.probing.selection import Candidate, SelectConfig, pruned, steering_inputs

PyTree = Any
CHUNK = 8  # candidates in one piece, and in one pass over all layers


def _kl(base: tuple[np.ndarray, np.ndarray], other: np.ndarray) -> float:
    """KL(base || other) of next-token distributions, with the 1e-6 of the published code."""
    (p, log_p), q = base, np.exp(forward.log_softmax(other))
    return float((p * (log_p - np.log(q + 1e-6))).sum(axis=-1).mean())


def score_candidates(
    model: Model,
    params: PyTree,
    directions: Directions,
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
    refusal_ids: Sequence[int],
    *,
    coefficients: Sequence[float] = (1.0,),
    batch_size: int = 32,
    limits: SelectConfig | None = None,
    pieces: Pieces = ALONE,
) -> list[Candidate]:
    """Bypass, steering and KL scores of every (position, layer, coefficient) (A6).

    bypass: mean refusal score on `harmful` with the unit direction ablated everywhere (lower is
    better); kl: KL(base || ablated) on `harmless`; steering: mean refusal score on `harmless` with
    coefficient * r added at the block's input. The first two do not depend on the coefficient.

    Args:
      model: the model.
      params: its parameters.
      directions: from `directions.extract`.
      harmful: validation prompt ids.
      harmless: validation prompt ids.
      refusal_ids: R of the refusal score.
      coefficients: steering strengths.
      batch_size: prompts per forward pass, of short prompts.
      limits: the limits of criterion "arditi", all of which must hold. With them a candidate that
        fails one is not measured further (None): first the layer, then steering, KL, bypass.
      pieces: how scores are kept, and the loop told of and ended.

    Returns:
      Candidates by position, then layer, then coefficient; a score that is not finite stays NaN.
    """
    positions, num_layers, _ = directions.mean_diff.shape
    found = []
    for p in range(positions):
        for layer in range(num_layers):
            norm = float(np.linalg.norm(directions.mean_diff[p, layer]))
            ratio = norm / max(float(directions.hidden_norm[p, layer]), 1e-12)
            for k in coefficients:
                found.append(Candidate(layer, p - positions, k, "all", norm, ratio))

    def logits(ids: Sequence[Sequence[int]], layers: LayerInputs) -> np.ndarray:
        more = {"batch_size": batch_size, "check": pieces.check}
        return forward.variant_logits(model, params, ids, layers, **more)

    def refusal(ids: Any, inputs: Callable, chosen: Sequence[Candidate]) -> list[float]:
        rows = logits(ids, inputs(chosen))[: len(chosen)]
        return [float(refusal_score(row, refusal_ids).mean()) for row in rows]

    def drift(base: list[Any], chosen: Sequence[Candidate]) -> list[float]:
        if not base:
            plain = forward.last_logits(model, params, harmless, batch_size=batch_size)
            p = np.exp(forward.log_softmax(plain))
            base.append((p, np.log(p + 1e-6)))
        return [_kl(base[0], row) for row in logits(harmless, ablated(chosen))[: len(chosen)]]

    def added(chosen: Sequence[Candidate]) -> LayerInputs:
        each = [steering_inputs(c, num_layers, _vector(directions, c)).add for c in chosen]
        return LayerInputs(add=_full(each))

    def ablated(chosen: Sequence[Candidate]) -> LayerInputs:
        each = []
        for c in chosen:
            unit = _vector(directions, c) / max(c.norm, 1e-12)
            each.append(np.broadcast_to(unit, (num_layers, len(unit))).astype(np.float32))
        return LayerInputs(ablate=_full(each))

    def measured(name: str, measure: Callable, keep: Callable[[Candidate], bool]) -> None:
        """Fills one score of those that `keep` says, chunk by chunk."""
        wanted = [i for i, c in enumerate(found) if keep(c)]
        if name != "steering":  # the same for all coefficients: the first stands for all
            first = {(found[i].position, found[i].layer): i for i in reversed(wanted)}
            wanted = sorted(first.values())
        chunks = [wanted[i : i + CHUNK] for i in range(0, len(wanted), CHUNK)]
        work = [
            Piece(f"direction.{name}.{n:04d}", len(c), partial(measure, [found[i] for i in c]))
            for n, c in enumerate(chunks)
        ]
        values = pieces.run(f"direction: {name}", "candidates", work)
        where = {
            (found[i].position, found[i].layer, found[i].coefficient): value
            for chunk, part in zip(chunks, values, strict=True)
            for i, value in zip(chunk, part, strict=True)
        }
        for i, c in enumerate(found):
            k = c.coefficient if name == "steering" else coefficients[0]
            if (c.position, c.layer, k) in where:
                found[i] = c._replace(**{name: where[c.position, c.layer, k]})

    def alive(c: Candidate) -> bool:
        if limits is None:
            return True
        good = c.steering is None or c.steering >= limits.steering
        good = good and (c.kl is None or c.kl <= limits.kl)
        return good and not pruned(c.layer, num_layers, limits)

    measured("steering", partial(refusal, harmless, added), alive)
    measured("kl", partial(drift, []), alive)
    measured("bypass", partial(refusal, harmful, ablated), alive)
    return found


def _vector(directions: Directions, c: Candidate) -> np.ndarray:
    return directions.mean_diff[c.position, c.layer]


def _full(each: Sequence[Any]) -> Any:
    """[C,L,D], filled up to one size with copies of the last, so that passes compile once."""
    return jnp.asarray(np.stack([*each, *[each[-1]] * (CHUNK - len(each))]))
