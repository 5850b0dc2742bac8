"""Sources that copy one another: found by a test with a stated false-alarm rate, and counted once.

If two classes were all that sources have in common, the correlation of two of them would be a
product of what each has to do with the label, r_jk = a_j a_k, and of any four (Spearman's tetrads)

    T = r_jk r_lm - r_jl r_km = 0.

Pairs that share errors make T positive. r is the correlation of votes over the items on which both
vote, so that common abstentions alarm nobody. The threshold is simulated: the generative model is
fitted, votes are drawn from it where votes are (a label by the posterior, then each vote by its
source's confusion), and all T are standardised by their mean and spread over the simulations. The
threshold is what the largest one exceeds in a share `alarm` of the simulations: if no sources
depend on one another, that is how often anything is called a copy (docs/weak.md has what was seen).
Dawid and Skene's model would not do: where coverage depends on the class it gets the shares of the
classes among common items wrong, and called 14 of 60 independent tables copies at a rate of .05.

Which of the two pairs of a tetrad copies, votes cannot say: two honest judges and two copies look
the same as two copies and two honest judges. **Assumed**: those that agree more. So while the test
finds something, the most correlated pair that takes part in it is joined to one source (it votes
for what most of its members do, and abstains at a tie), and the test is made again.

Letters: N items, J sources, S simulations.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.weak import dawid_skene, em, generative, identify
from jaxsafety.weak.labels import Labels
from jaxsafety.weak.votes import ABSTAIN, Votes

LEAST_SHARED = 20  # items on which a pair must vote to have a correlation
LEAST_SOURCES = 4  # of a tetrad
MODELS = {"dawid_skene": dawid_skene.fit, "generative": generative.fit}


class Copies(NamedTuple):
    """What the test found.

    Attributes:
      clusters: names of sources that count as one, two or more each; () if none, None where the
        test cannot be made.
      correlations: [J,J] of votes where both vote; NaN on the diagonal and where it is not known.
      excess: the largest standardised T of all; None where there is none.
      threshold: that it was compared with.
      alarm: the false-alarm rate of the threshold.
      unknown: sources that cannot be compared: one-sided, or with too few items in common.
      cause: why `clusters` is None, or may be too few; "" otherwise.
    """

    clusters: tuple[tuple[str, ...], ...] | None
    correlations: np.ndarray
    excess: float | None
    threshold: float | None
    alarm: float
    unknown: tuple[str, ...] = ()
    cause: str = ""


class _Found(NamedTuple):
    pair: tuple[int, int] | None
    excess: float | None
    threshold: float | None


def correlate(array: np.ndarray) -> np.ndarray:
    """[...,N,J] votes 0, 1 or `ABSTAIN` -> [...,J,J] correlations where both vote.

    NaN on the diagonal, where fewer than `LEAST_SHARED` items are common, and where one of the two
    always votes the same there.
    """
    here = (array != ABSTAIN).astype(np.float32)
    yes = (array == 1).astype(np.float32)
    turned = np.swapaxes(here, -1, -2)
    n = (turned @ here).astype(float)
    first = (np.swapaxes(yes, -1, -2) @ here).astype(float)
    both = (np.swapaxes(yes, -1, -2) @ yes).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = first / n, np.swapaxes(first, -1, -2) / n
        spread = np.sqrt(p * (1 - p) * q * (1 - q))
        r = np.where((n >= LEAST_SHARED) & (spread > 1e-9), (both / n - p * q) / spread, np.nan)
    j = array.shape[-1]
    return np.where(np.eye(j, dtype=bool), np.nan, r)


def _tetrads(j: int) -> np.ndarray:
    """[Q,2,4]: the two pairs (j, k) and (l, m) of a tetrad, and the two that they are against."""
    found = [
        ways
        for a, b, c, d in itertools.combinations(range(j), 4)
        for ways in itertools.permutations([(a, b, c, d), (a, c, b, d), (a, d, b, c)], 2)
    ]
    return np.array(found, np.int64).reshape(-1, 2, 4)


def _differences(r: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """[...,J,J] -> [...,Q] T."""
    j, k, m, n = np.moveaxis(quads, -1, 0)  # [Q,2] each
    products = r[..., j, k] * r[..., m, n]
    return products[..., 0] - products[..., 1]


def _simulate(votes: Votes, labels: Labels, simulations: int, seed: int) -> np.ndarray:
    """[S,J,J] correlations of votes that are independent given the label."""
    assert labels.parameters is not None
    rng = np.random.default_rng(seed)
    n, j = votes.array.shape
    votes_of = labels.parameters.emission[:, :2]  # [J,2,C]
    total = votes_of.sum(axis=1)
    chance = (votes_of[:, 1] / np.where(total > 0, total, 1)).astype(np.float32)  # [J,C]
    unsafe, found = labels.posterior[:, 1], []
    for _ in range(simulations):
        truth = (rng.random(n) < unsafe).astype(np.int64)
        drawn = rng.random((n, j), np.float32) < chance.T[truth]
        found.append(correlate(np.where(votes.voted, drawn, ABSTAIN)))
    return np.stack(found)


def _test(votes: Votes, simulations: int, seed: int, alarm: float) -> _Found:
    r = correlate(votes.array)
    quads = _tetrads(len(votes.sources))
    told = np.isfinite(_differences(r, quads)) if len(quads) else np.zeros(0, bool)
    if not told.any():
        return _Found(None, None, None)
    labels = generative.fit(votes, em.Settings(500, 1e-6, resamples=0))
    drawn = _differences(_simulate(votes, labels, simulations, seed), quads[told])
    quads, seen = quads[told], _differences(r, quads[told])
    with np.errstate(invalid="ignore"):
        known = np.isfinite(drawn)
        many = np.maximum(known.sum(axis=0), 1)
        filled = np.where(known, drawn, 0.0)
        mean = filled.sum(axis=0) / many
        spread = np.sqrt((np.where(known, drawn - mean, 0.0) ** 2).sum(axis=0) / many)
    spread = np.maximum(spread, 1e-3)  # a tetrad that never varies would alarm at nothing
    largest = np.where(known, (drawn - mean) / spread, -np.inf).max(axis=1)
    threshold = float(np.quantile(largest, 1 - alarm, method="higher"))
    excess = (seen - mean) / spread
    top = float(excess.max())
    if top <= threshold:
        return _Found(None, top, threshold)
    involved = quads[excess > threshold]
    pairs = {tuple(sorted(p)) for q in involved[:, 0].tolist() for p in (q[:2], q[2:])}
    # copies: of the pairs that depend on one another, the one that agrees most
    pair = max(sorted(pairs), key=lambda p: r[p])
    return _Found((pair[0], pair[1]), top, threshold)


def find(votes: Votes, *, alarm: float = 0.05, simulations: int = 200, seed: int = 0) -> Copies:
    """Looks for sources that depend on one another beyond the label.

    Args:
      votes: of two classes, by four sources or more.
      alarm: how often something is found where nothing is (all sources independent).
      simulations: S, at least 1 / `alarm`.
      seed: of the simulations.

    Raises:
      UsageError: settings out of range, and what `identify.require` refuses.
    """
    if not 0 < alarm < 1:
        raise bad("copies.alarm", alarm, "between 0 and 1")
    if simulations < 1 / alarm:
        raise bad("copies.simulations", simulations, f"{int(np.ceil(1 / alarm))} or more")
    identify.require(votes)
    nothing = np.full((len(votes.sources),) * 2, np.nan)
    if len(votes.classes) != 2:
        cause = f"{len(votes.classes)} classes: tetrads hold for two"
        return Copies(None, nothing, None, None, alarm, cause=cause)
    r = correlate(votes.array)
    active = [j for j in range(len(votes.sources)) if np.isfinite(r[j]).any()]
    unknown = tuple(name for j, name in enumerate(votes.sources) if j not in active)
    groups = [[j] for j in active]
    first: _Found | None = None
    while len(groups) >= LEAST_SOURCES:
        found = _test(merge(votes, groups), simulations, seed, alarm)
        first = first or found
        if found.pair is None:
            break
        a, b = found.pair
        groups[a] = groups[a] + groups[b]
        del groups[b]
    if first is None or first.excess is None:
        cause = f"fewer than {LEAST_SOURCES} sources with {LEAST_SHARED} items in common"
        return Copies(None, r, None, None, alarm, unknown, cause)
    clusters = tuple(
        tuple(votes.sources[j] for j in sorted(group)) for group in groups if len(group) > 1
    )
    cause = _doubt(votes, r, groups) if clusters else ""
    return Copies(clusters, r, first.excess, first.threshold, alarm, unknown, cause)


def _doubt(votes: Votes, r: np.ndarray, groups: list[list[int]]) -> str:
    """Why there may be more copies than those that were joined; "" if nothing says so."""
    if len(groups) < LEAST_SOURCES:
        return f"{len(groups)} sources are left of the copies: whether these depend is not tested"
    joined = [r[j, k] for group in groups for j, k in itertools.combinations(group, 2)]
    lowest, here = np.nanmin(joined), votes.voted
    for one, other in itertools.combinations(groups, 2):
        for j, k in itertools.product(one, other):
            noise = 2 / np.sqrt(max(1, int((here[:, j] & here[:, k]).sum())))
            if r[j, k] >= lowest - noise:
                pair = f"{votes.sources[j]} and {votes.sources[k]}"
                return f"{pair} agree as much as those that were joined: they may be copies, too"
    return ""


def merge(votes: Votes, groups: list[list[int]]) -> Votes:
    """The votes of groups of sources, by place, each as one source named by its members.

    A group votes for the class that most of its members vote for, and abstains at a tie.
    """
    columns = []
    for group in groups:
        counts = votes.take(group).counts()
        two = np.sort(counts, axis=1)[:, -2:]
        columns.append(np.where(two[:, 1] > two[:, 0], counts.argmax(axis=1), ABSTAIN))
    names = ["+".join(votes.sources[j] for j in group) for group in groups]
    return Votes(names, np.stack(columns, axis=1), votes.classes, votes.items)


def clustered(votes: Votes, copies: Copies) -> Votes:
    """The votes with every cluster of `find` as one source; the others as they are, in order."""
    index = {name: j for j, name in enumerate(votes.sources)}
    groups = [[index[name] for name in cluster] for cluster in copies.clusters or ()]
    taken = {j for group in groups for j in group}
    alone = [[j] for j in range(len(votes.sources)) if j not in taken]
    return merge(votes, sorted(groups + alone))


def fit(
    votes: Votes,
    model: str = "generative",
    settings: em.Settings = em.DEFAULT,
    *,
    alarm: float = 0.05,
    simulations: int = 200,
) -> tuple[Labels, Copies]:
    """Looks for copies, and fits a model in which each cluster has one vote.

    Args:
      votes: of N items.
      model: "dawid_skene" or "generative".
      settings: of the fit; its seed is that of the simulations, too.
      alarm: as in `find`.
      simulations: as in `find`.

    Raises:
      UsageError: an unknown model, what `find` refuses, and fewer than three sources left once
        copies count as one. What was joined, and what could not be tested, is in the warnings.
    """
    if model not in MODELS:
        raise bad("weak.model", model, ", ".join(MODELS))
    copies = find(votes, alarm=alarm, simulations=simulations, seed=settings.seed)
    found = MODELS[model](clustered(votes, copies), settings)
    lines = [f"{' and '.join(cluster)} count as one" for cluster in copies.clusters or ()]
    lines += [f"copies: {copies.cause}"] if copies.cause else []
    return dataclasses.replace(found, warnings=(*lines, *found.warnings)), copies
