"""Stage A of SafeSteer, second half: which candidate direction becomes the teacher.

Two criteria by name. "arditi" is A6 of docs/published.md (arXiv 2406.11717, same constants): score
by next-token statistics alone and take the lowest bypass score among those that pass. "generation"
judges what the steered teacher actually *writes*: a difference of means in a shallow model can
encode "emit a refusal opener next", which passes every next-token test and then loops, or refuses
nothing at all. It runs the teacher on harmless and on wrapped harmful validation prompts, demands
coherent text on both and ranks by the mean refusal rate.

Letters: P post-instruction positions, L layers, D width, V vocabulary, X prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.judges.judging import judged, pair
from jaxsafety.models.api import LayerInputs
from jaxsafety.probing.directions import Directions
from jaxsafety.probing.pieces import ALONE, Piece, Pieces
from jaxsafety.protocols import Item, Judge

# (layer inputs, steering mode, items) -> one response text per item
Respond = Callable[[LayerInputs, str, Sequence[Item]], Sequence[str]]
CRITERIA = ("arditi", "generation")
ADVICE = (
    "try other limits in method.direction.select, more coefficients with criterion=generation, "
    "or a model that refuses harmful prompts"
)


@dataclass(frozen=True)
class SelectConfig:
    """What is tried and what must hold.

    `prune`: layers >= prune * L are out; `steering` and `kl`: A6's limits ("arditi" only);
    `coefficients` x `steers` multiply the candidates of "generation"; `screen`: how many of those
    are generated from; `coherent`: the lowest share of coherent answers, on both prompt sets;
    `refusal`: the lowest mean refusal rate.
    """

    criterion: str = "generation"
    prune: float = 0.8
    steering: float = 0.0
    kl: float = 0.1
    coefficients: tuple[float, ...] = (0.5, 1.0, 2.0)
    steers: tuple[str, ...] = ("all", "prompt")
    screen: int = 32
    coherent: float = 0.9
    refusal: float = 0.5

    def __post_init__(self) -> None:
        """Rejects limits that nothing passes, or everything, and coefficients that do nothing."""
        for name in ("coherent", "refusal"):
            if not 0 <= getattr(self, name) <= 1:
                raise bad(f"select.{name}", getattr(self, name), "a share between 0 and 1")
        if not 0 < self.prune <= 1:
            raise bad("select.prune", self.prune, "a share of the layers, above 0 and at most 1")
        if 0 in self.coefficients:
            raise bad("select.coefficients", self.coefficients, "numbers that are not 0")


class Candidate(NamedTuple):
    """One (layer, position, coefficient, steer) and everything measured on it; None = not measured.

    `position` counts from the end (-1 is the last prompt token); `norm` is the raw direction's,
    `norm_ratio` divides it by the mean hidden norm there; `score` is what the criterion ranks
    (lower bypass, higher refusal: always larger is better).
    """

    layer: int
    position: int
    coefficient: float = 1.0
    steer: str = "all"
    norm: float = 0.0
    norm_ratio: float = 0.0
    bypass: float | None = None
    steering: float | None = None
    kl: float | None = None
    refusal_harmless: float | None = None
    refusal_harmful: float | None = None
    coherent: float | None = None
    score: float | None = None
    passed: bool = False
    reason: str = ""


class Direction(NamedTuple):
    """The chosen direction: steering adds coefficient * vector at the input of block `layer`.

    `vector` [D] float32 is the raw difference of means; `candidates` is everything that was tried.
    """

    vector: np.ndarray
    layer: int
    position: int
    coefficient: float
    steer: str
    criterion: str
    norm: float
    norm_ratio: float
    candidates: tuple[Candidate, ...] = ()


def steering_inputs(direction: Direction | Candidate, num_layers: int, vector: Any = None):
    """Layer inputs that add coefficient * vector at one block and zeros elsewhere.

    Args:
      direction: gives layer and coefficient (and the vector, if it is a `Direction`).
      num_layers: L of the model.
      vector: [D], needed for a bare `Candidate`.

    Returns:
      `LayerInputs` with `add` [L,D] float32.
    """
    if isinstance(direction, Direction):
        vector = direction.vector
    vector = np.asarray(vector, np.float32)
    if not 0 <= direction.layer < num_layers:
        raise bad("direction.layer", direction.layer, f"0..{num_layers - 1}")
    add = np.zeros((num_layers, len(vector)), np.float32)
    add[direction.layer] = direction.coefficient * vector
    return LayerInputs(add=jnp.asarray(add))


def _arditi(candidates: list[Candidate], num_layers: int, cfg: SelectConfig) -> list[Candidate]:
    """Fills score, passed and reason by A6; only coefficient 1 at all positions is a candidate.

    A score that is None was not measured because another criterion had failed already.
    """
    graded = []
    for c in candidates:
        scores = {"bypass": c.bypass, "steering": c.steering, "KL": c.kl}
        failed = []
        if not np.isfinite([v for v in scores.values() if v is not None]).all():
            failed.append("a score is not finite")
        if pruned(c.layer, num_layers, cfg):
            failed.append(f"layer {c.layer} >= {cfg.prune:g} x {num_layers}")
        if c.steering is not None and c.steering < cfg.steering:
            failed.append(f"steering {c.steering:.3f} < {cfg.steering:g}")
        if c.kl is not None and c.kl > cfg.kl:
            failed.append(f"KL {c.kl:.3f} > {cfg.kl:g}")
        missing = [name for name, v in scores.items() if v is None]
        if missing and not failed:
            failed.append(f"{', '.join(missing)} not measured")
        score = None if c.bypass is None else -c.bypass
        graded.append(c._replace(score=score, passed=not failed, reason="; ".join(failed)))
    return graded


def pruned(layer: int, num_layers: int, cfg: SelectConfig) -> bool:
    """Whether no direction of this layer may be chosen."""
    return layer >= cfg.prune * num_layers - 1e-9


def _screen(candidates: list[Candidate], num_layers: int, cfg: SelectConfig) -> list[int]:
    """Indices of the candidates worth generating from: best steering scores, every layer seen.

    Fewer than there are layers: those layers whose best candidate scores highest.
    """
    usable = [
        i
        for i, c in enumerate(candidates)
        if not pruned(c.layer, num_layers, cfg)
        and c.norm > 0
        and c.steering is not None
        and np.isfinite(c.steering)
    ]
    usable.sort(key=lambda i: (-(candidates[i].steering or 0.0), candidates[i].layer, i))
    # One place in turn per layer: next-token scores favour late layers, text often does not.
    queues = [[i for i in usable if candidates[i].layer == layer] for layer in range(num_layers)]
    if cfg.screen < sum(map(bool, queues)):
        return sorted((queue[0] for queue in queues if queue), key=usable.index)[: cfg.screen]
    longest = max(map(len, queues), default=0)
    turns = [queue[k] for k in range(longest) for queue in queues if k < len(queue)]
    return turns[: cfg.screen]


def _rates(judge: Judge, items: Sequence[Item], texts: Sequence[str]) -> tuple[float, float]:
    """Share of coherent refusals, share of coherent answers."""
    verdicts = judged(judge, pair(items, texts))
    # Chosen by what is known: an answer that the judge cannot tell shows no refusal.
    refused = [bool(v["refusal"]) and bool(v["coherent"]) for v in verdicts]
    return float(np.mean(refused)), float(np.mean([bool(v["coherent"]) for v in verdicts]))


def _generation(
    candidates: list[Candidate],
    directions: Directions,
    cfg: SelectConfig,
    respond: Respond,
    judge: Judge,
    harmless: Sequence[Item],
    wrapped: Sequence[Item],
    pieces: Pieces,
) -> list[Candidate]:
    """Expands by steering mode, generates from the screened ones and grades what they wrote."""
    num_layers = directions.mean_diff.shape[1]
    # Next-token scores after the last prompt token are the same in both modes: no second pass.
    grid = [c._replace(steer=steer) for c in candidates for steer in cfg.steers]
    grid = [c._replace(reason="not generated from: screened out") for c in grid]
    chosen = _screen(grid, num_layers, cfg)

    def rates(c: Candidate) -> list[tuple[float, float]]:
        layers = steering_inputs(c, num_layers, directions.mean_diff[c.position, c.layer])
        texts = list(respond(layers, c.steer, [*harmless, *wrapped]))
        count = len(harmless)
        return [_rates(judge, harmless, texts[:count]), _rates(judge, wrapped, texts[count:])]

    work = [
        Piece(f"direction.text.{i:04d}", 1, partial(rates, grid[index]))
        for i, index in enumerate(chosen)
    ]
    found = pieces.run("direction: what candidates write", "candidates", work)
    for index, ((on_harmless, fluent), (on_wrapped, fluent_too)) in zip(chosen, found, strict=True):
        coherent, score = min(fluent, fluent_too), (on_harmless + on_wrapped) / 2
        failed = []
        if coherent < cfg.coherent:
            failed.append(f"coherent {coherent:.2f} < {cfg.coherent:g}")
        if score < cfg.refusal:
            failed.append(f"refusal {score:.2f} < {cfg.refusal:g}")
        grid[index] = grid[index]._replace(
            refusal_harmless=on_harmless,
            refusal_harmful=on_wrapped,
            coherent=coherent,
            score=score,
            passed=not failed,
            reason="; ".join(failed),
        )
    return grid


def _nearest(candidates: list[Candidate], cfg: SelectConfig) -> str:
    """The candidate that got furthest with the fewest failed criteria, in words."""
    tried = [c for c in candidates if any(_known(v) for v in (c.score, c.kl, c.steering))]
    if cfg.criterion == "generation":
        tried = [c for c in tried if _known(c.score)]
    if not tried:
        return "no candidate could be scored"

    def gap(c: Candidate) -> tuple[float, ...]:
        missing = sum(v is None for v in (c.score, c.steering, c.kl))
        kl = np.inf if c.kl is None or not np.isfinite(c.kl) else c.kl
        return missing, c.reason.count(";"), -(c.score or 0.0), kl, -(c.steering or 0.0)

    best = min(tried, key=gap)
    where = f"layer {best.layer}, position {best.position}"
    if cfg.criterion == "generation":
        where += f", coefficient {best.coefficient:g}, steer {best.steer}"
    return f"none of {len(tried)} candidates; nearest {where} failed: {best.reason}"


def _known(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def select(
    directions: Directions,
    candidates: Sequence[Candidate],
    cfg: SelectConfig = SelectConfig(),
    *,
    respond: Respond | None = None,
    judge: Judge | None = None,
    harmless: Sequence[Item] = (),
    wrapped: Sequence[Item] = (),
    pieces: Pieces = ALONE,
) -> Direction:
    """Picks the teacher's direction.

    Args:
      directions: from `directions.extract`.
      candidates: from `scoring.score_candidates`; for "arditi" with coefficients (1.0,).
      cfg: criterion and limits.
      respond: generates from the steered teacher; "generation" only.
      judge: verdicts with at least "refusal" and "coherent"; "generation" only.
      harmless: validation items, "generation" only.
      wrapped: wrapped harmful validation items (or plain ones, where there are no wrapped ones),
        "generation" only; weighs as much as `harmless`.
      pieces: how what candidates wrote is kept, and the loop told of and ended.

    Returns:
      The direction with all graded candidates. Ties go to smaller KL, then the earlier layer.

    Raises:
      UsageError: unknown criterion, missing inputs, or no candidate passes (names the nearest one
        and the limits it failed).
    """
    num_layers = directions.mean_diff.shape[1]
    if cfg.criterion == "arditi":
        graded = _arditi(list(candidates), num_layers, cfg)
        allowed = (
            f"layer < {cfg.prune:g} x {num_layers}, steering >= {cfg.steering:g}, KL <= {cfg.kl:g}"
        )
    elif cfg.criterion == "generation":
        if respond is None or judge is None or not harmless or not wrapped:
            raise bad("direction.criterion", "generation", "with respond, judge and both item sets")
        graded = _generation(
            list(candidates), directions, cfg, respond, judge, harmless, wrapped, pieces
        )
        allowed = f"coherent >= {cfg.coherent:g} and mean refusal >= {cfg.refusal:g}"
    else:
        raise bad("direction.criterion", cfg.criterion, ", ".join(CRITERIA))
    passed = [c for c in graded if c.passed]
    if not passed:
        raise bad("direction", _nearest(graded, cfg), f"{allowed}; {ADVICE}")

    def rank(c: Candidate) -> tuple[float, float, int]:
        kl = c.kl if c.kl is not None and np.isfinite(c.kl) else np.inf
        return (-(c.score or 0.0), kl, c.layer)

    best = min(passed, key=rank)
    return Direction(
        vector=directions.mean_diff[best.position, best.layer].astype(np.float32),
        layer=best.layer,
        position=best.position,
        coefficient=best.coefficient,
        steer=best.steer,
        criterion=cfg.criterion,
        norm=best.norm,
        norm_ratio=best.norm_ratio,
        candidates=tuple(graded),
    )
