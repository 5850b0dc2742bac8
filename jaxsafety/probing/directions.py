"""Stage A of SafeSteer, first half: refusal scores, prompt filter, difference of means.

Arditi et al. 2024 (arXiv 2406.11717) as used by SafeSteer (arXiv 2606.02530), A1 to A5; the labels
of the steps are ours (docs/published.md). Different from the published code: the refusal ids R are
an argument (derived from strings, given, or measured), and the filter can fall back on ranks: where
refusals and compliances share their openers a fixed threshold of 0 may keep nobody.

Letters: X prompts, P post-instruction positions (the template's tokens after the instruction),
L layers, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.models.api import Model
from jaxsafety.probing import forward

PyTree = Any
OPENERS = ("I", "Sorry", "Unfortunately", "As", "It", "My")  # first words of refusals in English


class Directions(NamedTuple):
    """Raw candidate directions.

    Attributes:
      mean_diff: [P,L,D] float64, mean over harmful minus mean over harmless block inputs; index p
        is position p - P (so the last one is -1).
      hidden_norm: [P,L] float64, mean norm of the block inputs over both sets.
    """

    mean_diff: np.ndarray
    hidden_norm: np.ndarray


class Filtered(NamedTuple):
    """Which prompts passed the filter: indices kept, how many were dropped, and how it was done."""

    kept: tuple[int, ...]
    dropped: int
    rule: str  # "threshold" or "rank"


def refusal_score(logits: np.ndarray, refusal_ids: Sequence[int]) -> np.ndarray:
    """Log-odds [X] float64 that the next token opens a refusal (A3).

    s = log(P_R + 1e-8) - log(1 - P_R + 1e-8), P_R the softmax mass of `refusal_ids`.

    Args:
      logits: [X,V] next-token logits.
      refusal_ids: R, token ids that open a refusal.

    Raises:
      UsageError: R is empty or names an id outside the vocabulary.
    """
    ids = sorted(set(refusal_ids))
    if not ids or ids[0] < 0 or ids[-1] >= logits.shape[-1]:
        raise bad("refusal_ids", ids, f"one or more ids in 0..{logits.shape[-1] - 1}")
    mass = np.exp(forward.log_softmax(logits)[:, ids]).sum(axis=-1)
    return np.log(mass + 1e-8) - np.log(np.maximum(1 - mass, 0) + 1e-8)


def filter_prompts(
    scores: np.ndarray,
    harmful: bool,
    *,
    minimum: int = 8,
    fallback: str = "error",
    field: str = "prompts",
    by: str = "score",
) -> Filtered:
    """Keeps harmful prompts with s > 0, or harmless ones with s < 0 (A4).

    Args:
      scores: refusal scores [X].
      harmful: which side these prompts are.
      minimum: fewer survivors than this trigger the fallback.
      fallback: "error", or "rank": keep the `minimum` prompts furthest on their side.
      field: how the error names these prompts.
      by: what the scores are: "score", the refusal score, or "judge", 1 for a refusal and -1 for
        an answer; for the error.

    Returns:
      The kept indices in input order, and which rule chose them.

    Raises:
      UsageError: too few survive (or too few were given) and no fallback helps.
    """
    if fallback not in ("error", "rank"):
        raise bad("filter.fallback", fallback, "error, rank")
    scores = np.asarray(scores, np.float64)
    kept = np.flatnonzero(scores > 0 if harmful else scores < 0)
    if len(kept) >= minimum:
        return Filtered(tuple(kept.tolist()), len(scores) - len(kept), "threshold")
    if fallback == "rank" and len(scores) >= minimum:
        order = np.argsort(-scores if harmful else scores, kind="stable")[:minimum]
        return Filtered(tuple(np.sort(order).tolist()), len(scores) - minimum, "rank")
    side, sign = ("harmful", ">") if harmful else ("harmless", "<")
    wanted = "refuses" if harmful else "answers"
    if by == "judge":
        given = f"{len(kept)} of {len(scores)} {side} prompts that the base {wanted}, by the judge"
        advice = []
    else:
        middle = f"{np.median(scores):.2f}" if len(scores) else "none"
        given = f"{len(kept)} of {len(scores)} {side} prompts with refusal score {sign} 0 "
        given += f"(median score {middle})"
        advice = ["method.direction.filter=judge (by what the base says)"]
    if fallback != "rank":
        advice.append(f"method.direction.fallback=rank (the {minimum} nearest)")
    advice.append(f"a model that {wanted} {side} prompts")
    if by != "judge":
        advice.append("other refusal openers")
    raise bad(field, given, f"at least {minimum}; try " + ", or ".join(advice))


def refusal_tokens(
    tokenizer: Any, openers: Sequence[str] | Sequence[int] = OPENERS
) -> tuple[int, ...]:
    """First-token ids of refusals, from strings (first token of each) or passed through as ids.

    Raises:
      UsageError: nothing to encode, or every opener is unknown to the tokenizer.
    """
    ids: list[int] = []
    unknown = getattr(tokenizer, "unk_id", None)
    for opener in openers:
        if isinstance(opener, str):
            encoded = tokenizer.encode(opener)
            ids += [i for i in encoded[:1] if i != unknown]
        else:
            ids.append(int(opener))
    if not ids:
        raise bad("refusal_openers", list(openers), "strings the tokenizer knows, or token ids")
    return tuple(dict.fromkeys(ids))


def measured_refusal_tokens(
    refused: np.ndarray, complied: np.ndarray, *, coverage: float = 0.9, most: int = 8
) -> tuple[int, ...]:
    """Tokens whose first-position probability is higher before judged refusals than compliances.

    For models whose openers are shared between both kinds of answer no fixed list exists; what is
    left is which openers *shift*.

    Args:
      refused: next-token logits [X,V] of prompts whose answers were judged refusals.
      complied: the same for judged compliances.
      coverage: stop once this part of the total positive shift is covered.
      most: at most this many ids.

    Returns:
      Ids by falling shift.

    Raises:
      UsageError: one of the two sets is empty, or no token is likelier before refusals.
    """
    if not len(refused) or not len(complied):
        given = f"{len(refused)} refusals, {len(complied)} compliances"
        allowed = "at least one of each to measure them from, or method.direction.openers given"
        raise bad("refusal_ids", given, allowed)
    before, otherwise = (np.exp(forward.log_softmax(x)).mean(axis=0) for x in (refused, complied))
    shift = before - otherwise
    order = np.argsort(-shift, kind="stable")
    gain = np.maximum(shift[order], 0)
    if gain.sum() < 1e-6:
        raise bad("refusal_ids", "no token", "a token likelier before refusals than compliances")
    needed = int(np.searchsorted(np.cumsum(gain) / gain.sum(), coverage - 1e-12)) + 1
    return tuple(int(i) for i in order[: min(needed, most)] if shift[i] > 0)


def extract(
    model: Model,
    params: PyTree,
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
    positions: int,
    *,
    batch_size: int = 32,
) -> Directions:
    """Differences of mean block inputs at the last `positions` positions (A5).

    Args:
      model: the model.
      params: its parameters.
      harmful: prompt ids with generation prompt, so that the last positions line up.
      harmless: the other side.
      positions: P, the number of post-instruction tokens.
      batch_size: prompts per forward pass.

    Returns:
      `Directions`, accumulated in float64 and not normalised.

    Raises:
      UsageError: no prompts, or a prompt shorter than `positions`.
    """
    if positions < 1:
        raise bad("positions", positions, ">= 1")
    means, norms = [], 0.0
    for ids in (harmful, harmless):
        total, norm = 0.0, 0.0
        for block in forward.tail_residuals(model, params, ids, positions, batch_size=batch_size):
            block = block.astype(np.float64)  # [L,B,P,D]
            total = total + block.sum(axis=1)
            norm = norm + np.linalg.norm(block, axis=-1).sum(axis=1)
        if not len(ids):
            raise bad("prompts", "none", "harmful and harmless prompts")
        means.append(np.asarray(total) / len(ids))
        norms = norms + np.asarray(norm) / len(ids) / 2
    return Directions((means[0] - means[1]).transpose(1, 0, 2), np.asarray(norms).T)
