"""How far two judges agree: kappa, AC1, prevalence, confusion, each with a bootstrap interval.

Labels are True, False or None (cannot tell; NaN is None). An answer that one of the two cannot tell
is in no number; it is counted as unscored, with its cause. A coefficient that is not defined is
None with a cause, never NaN, 0 or 1.

Plain numpy. Letters: N answers, K clusters (prompts), R resamples, Q labels.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

NOTHING = "no answer that both can tell"
ONE_LABEL = "both say the same of every answer: chance agrees as well"
FEW = "fewer than half of the resamples hold both labels"


class Cells(NamedTuple):
    """Confusion of two judges, in answers: both yes, the first alone, the second alone, neither."""

    both: int
    first: int
    second: int
    neither: int


class Statistic(NamedTuple):
    """A number with its percentile interval.

    Attributes:
      value: None where it is not defined.
      lo: lower bound; None where `value` is, and where too few resamples have a value.
      hi: upper bound, likewise.
      cause: why something is None, "" where nothing is.
    """

    value: float | None
    lo: float | None
    hi: float | None
    cause: str = ""


@dataclass(frozen=True)
class Agreement:
    """Two judges on the same answers.

    Attributes:
      n: answers that both can tell.
      unscored: cause -> answers that one of them cannot.
      cells: how the n fall.
      agree: share on which they say the same.
      kappa: Cohen's kappa.
      ac1: Gwet's AC1.
      first: prevalence, the share of yes by the first.
      second: the share of yes by the second.
    """

    n: int
    unscored: Mapping[str, int]
    cells: Cells
    agree: Statistic
    kappa: Statistic
    ac1: Statistic
    first: Statistic
    second: Statistic


def count_pairs(first: Sequence[Hashable], second: Sequence[Hashable]) -> np.ndarray:
    """The [Q,Q] table of how often the first says row and the second column.

    Labels stand in the order in which they appear, the first judge's before the second's.

    Raises:
      ValueError: different lengths, or nothing to compare.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"agreement needs two equally long lists: {len(first)}, {len(second)}")
    index = {label: i for i, label in enumerate(dict.fromkeys([*first, *second]))}
    table = np.zeros((len(index), len(index)))
    for (a, b), n in Counter(zip(first, second, strict=True)).items():
        table[index[a], index[b]] = n
    return table


def _shares(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[...,Q,Q] counts -> [...] share of agreement, [...,Q] shares of the first, of the second."""
    total = np.maximum(table.sum(axis=(-1, -2)), 1)
    agree = np.trace(table, axis1=-2, axis2=-1) / total
    return agree, table.sum(axis=-1) / total[..., None], table.sum(axis=-2) / total[..., None]


def _beyond(agree: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """(p_a - p_e) / (1 - p_e), NaN where chance agrees always."""
    whole = np.isclose(chance, 1.0, rtol=0, atol=1e-12)
    return np.where(whole, np.nan, (agree - chance) / np.where(whole, 1.0, 1 - chance))


def _kappa(table: np.ndarray) -> np.ndarray:
    agree, rows, columns = _shares(table)
    return _beyond(agree, (rows * columns).sum(axis=-1))


def _ac1(table: np.ndarray) -> np.ndarray:
    agree, rows, columns = _shares(table)
    mean = (rows + columns) / 2
    return _beyond(agree, (mean * (1 - mean)).sum(axis=-1) / max(1, table.shape[-1] - 1))


def kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Cohen's kappa of two judges' labels [N]; None when both always say the same one thing.

    kappa = (p_a - p_e) / (1 - p_e), p_a the share of agreement and p_e the sum over labels of the
    product of both judges' shares (Cohen 1960, A coefficient of agreement for nominal scales).

    Raises:
      ValueError: different lengths, or nothing to compare.
    """
    table = count_pairs(first, second)
    return float(_kappa(table)) if len(table) > 1 else None


def ac1(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Gwet's AC1 of two judges' labels [N]: agreement beyond chance where one label is frequent.

    AC1 = (p_a - p_e) / (1 - p_e) with p_e = sum_q pi_q (1 - pi_q) / (Q - 1), where pi_q is the mean
    share of label q over both judges and Q the number of labels that occur (Gwet 2008, Computing
    inter-rater reliability and its variance in the presence of high agreement, eq. 4 to 6). Kappa
    falls with a skewed share even if the judges hardly differ; AC1 does not. None when both always
    say the same one thing.

    Raises:
      ValueError: different lengths, or nothing to compare.
    """
    table = count_pairs(first, second)
    return float(_ac1(table)) if len(table) > 1 else None


def compare(
    first: Sequence[bool | None],
    second: Sequence[bool | None],
    *,
    causes: Sequence[str] | None = None,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Agreement:
    """Two judges' labels of the same answers, with percentile bootstrap intervals.

    Args:
      first: [N] labels.
      second: [N] labels of the same answers.
      causes: [N] why an answer is unscored; "cannot tell" without.
      clusters: [N] prompts; all answers to a drawn prompt come along. None: each answer its own.
      resamples: R. A resample in which both say the same one thing has no kappa and is left out of
        kappa's interval; its AC1 is 1, as the two labels are known beforehand.
      seed: of numpy's generator; the same seed gives the same intervals.
      level: coverage, 0..1.

    Raises:
      ValueError: lists of different lengths.
    """
    lengths = {len(x) for x in (first, second, causes, clusters) if x is not None}
    if len(lengths) > 1:
        raise ValueError(f"agreement needs equally long lists: {sorted(lengths)}")
    a, b = _numbers(first), _numbers(second)
    told = ~(np.isnan(a) | np.isnan(b))
    lost = Counter(
        (causes[i] if causes else "") or "cannot tell" for i in np.flatnonzero(~told).tolist()
    )
    kind = (2 * a[told] + b[told]).astype(np.int64)  # 0 neither, 1 second, 2 first, 3 both
    n = np.bincount(kind, minlength=4)
    cells = Cells(int(n[3]), int(n[2]), int(n[1]), int(n[0]))
    if not len(kind):
        none = Statistic(None, None, None, NOTHING)
        return Agreement(0, dict(lost), cells, none, none, none, none, none)
    groups = None if clusters is None else [c for c, t in zip(clusters, told, strict=True) if t]
    drawn = _resample(_by_cluster(kind, groups), resamples, seed)
    point, both = n.reshape(1, 2, 2).astype(float), np.concatenate([n[None], drawn])
    tables = both.reshape(-1, 2, 2).astype(float)
    agree, rows, columns = _shares(tables)
    one = _kappa(point)[0]  # NaN where a single label occurs
    told_by = {"agree": agree, "first": rows[:, 1], "second": columns[:, 1]}
    plain = {name: _statistic(values, level) for name, values in told_by.items()}
    if np.isnan(one):
        undefined = Statistic(None, None, None, ONE_LABEL)
        return Agreement(len(kind), dict(lost), cells, kappa=undefined, ac1=undefined, **plain)
    coefficients = {"kappa": _kappa(tables), "ac1": _ac1(tables)}
    found = {name: _statistic(values, level) for name, values in coefficients.items()}
    return Agreement(len(kind), dict(lost), cells, **plain, **found)


def _numbers(labels: Sequence[bool | None]) -> np.ndarray:
    """[N] labels -> [N] of 1, 0 and NaN."""
    return np.array([np.nan if x is None else float(x) for x in labels], float)


def _by_cluster(
    kind: np.ndarray, clusters: Sequence[Hashable] | None, kinds: int = 4
) -> np.ndarray:
    """[N] kinds 0..3 -> [K,4] how many of each in a cluster."""
    if clusters is None:
        return np.eye(kinds, dtype=np.int64)[kind]
    seen: dict[Hashable, int] = {}
    index = np.array([seen.setdefault(c, len(seen)) for c in clusters], np.int64)
    return np.bincount(index * kinds + kind, minlength=kinds * len(seen)).reshape(-1, kinds)


def _resample(table: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """[K,4] counts -> [R,4] counts of K drawn clusters.

    Clusters with equal counts are drawn together: how many of each sort come is multinomial, the
    same law as drawing them one by one, and there are few sorts.
    """
    sorts, number = np.unique(table, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    return rng.multinomial(len(table), number / len(table), resamples) @ sorts


def _statistic(values: np.ndarray, level: float) -> Statistic:
    """[1+R] values, the estimate first, to one with an interval."""
    drawn = values[1:][~np.isnan(values[1:])]
    if 2 * len(drawn) < len(values) - 1 or not len(drawn):
        return Statistic(float(values[0]), None, None, FEW)
    lo, hi = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return Statistic(float(values[0]), float(lo), float(hi))


def label_coherence(flag: Any) -> str:
    """The stratum of an answer: "coherent", "incoherent", or "coherence unknown" for None and NaN.

    Args:
      flag: the verdict's "coherent".
    """
    if flag is None or flag != flag:
        return "coherence unknown"
    return "coherent" if flag else "incoherent"


def compare_strata(
    first: Sequence[bool | None],
    second: Sequence[bool | None],
    strata: Sequence[str],
    *,
    causes: Sequence[str] | None = None,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Agreement]:
    """`compare` of all answers under "all", then of each stratum, in order of appearance.

    Args:
      first: [N] labels.
      second: [N] labels.
      strata: [N] stratum of each answer (`label_coherence`).
      causes: [N], as in `compare`.
      clusters: [N], as in `compare`.
      resamples: R.
      seed: of every interval.

    Raises:
      ValueError: lists of different lengths.
    """
    if len(strata) != len(first):
        raise ValueError(f"agreement needs a stratum per answer: {len(strata)}, {len(first)}")

    def part(chosen: Sequence[int]) -> Agreement:
        return compare(
            [first[i] for i in chosen],
            [second[i] for i in chosen],
            causes=causes and [causes[i] for i in chosen],
            clusters=clusters and [clusters[i] for i in chosen],
            resamples=resamples,
            seed=seed,
        )

    if len(second) != len(first):
        raise ValueError(f"agreement needs equally long lists: {len(first)}, {len(second)}")
    found = {"all": part(range(len(first)))}
    for name in dict.fromkeys(strata):
        found[name] = part([i for i, stratum in enumerate(strata) if stratum == name])
    return found


def contrast_coherence(
    first: Sequence[bool | None],
    second: Sequence[bool | None],
    coherent: Sequence[bool | None],
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Statistic:
    """Kappa on incoherent answers minus kappa on coherent ones; below 0: judges err on incoherence.

    Both strata are resampled together, so that prompts with answers in both count as one. Kappa
    depends on how frequent the labels are, and the strata differ in that: look at AC1 and at the
    prevalences (`compare_strata`) before calling a difference one of the judges.

    Args:
      first: [N] labels.
      second: [N] labels.
      coherent: [N] of the same answers; an answer with any of the three unknown is left out.
      clusters: [N], as in `compare`.
      resamples: R; those in which one stratum has no kappa are left out.
      seed: of numpy's generator.
      level: coverage, 0..1.

    Returns:
      The difference; None with the stratum that has no kappa as its cause.

    Raises:
      ValueError: lists of different lengths.
    """
    lengths = {len(x) for x in (first, second, coherent, clusters) if x is not None}
    if len(lengths) > 1:
        raise ValueError(f"agreement needs equally long lists: {sorted(lengths)}")
    a, b, k = _numbers(first), _numbers(second), _numbers(coherent)
    told = ~np.isnan(a + b + k)
    kind = (4 * (1 - k[told]) + 2 * a[told] + b[told]).astype(np.int64)  # coherent ones first
    groups = None if clusters is None else [c for c, t in zip(clusters, told, strict=True) if t]
    counts = np.bincount(kind, minlength=8)[None]
    if len(kind):
        drawn = _resample(_by_cluster(kind, groups, 8), resamples, seed)
        counts = np.concatenate([counts, drawn])
    tables = counts.reshape(-1, 2, 2, 2).astype(float)
    kappas = np.where(tables.sum(axis=(-1, -2)) > 0, _kappa(tables), np.nan)
    for i, name in enumerate(("coherent", "incoherent")):
        if np.isnan(kappas[0, i]):
            why = ONE_LABEL if tables[0, i].any() else NOTHING
            return Statistic(None, None, None, f"{name} answers: {why}")
    return _statistic(kappas[:, 1] - kappas[:, 0], level)


def compare_all(
    votes: Mapping[str, Sequence[bool | None]],
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[tuple[str, str], Agreement]:
    """The matrix of many judges: every pair once, in the order of the judges.

    Args:
      votes: judge -> [N] labels of the same answers.
      clusters: [N], as in `compare`.
      resamples: R.
      seed: of every interval.
    """
    options: dict[str, Any] = {"clusters": clusters, "resamples": resamples, "seed": seed}
    pairs = itertools.combinations(votes, 2)
    return {(a, b): compare(votes[a], votes[b], **options) for a, b in pairs}


def find_disagreements(
    first: Sequence[bool | None],
    second: Sequence[bool | None],
    *,
    groups: Sequence[Hashable] | None = None,
    limit: int = 3,
) -> tuple[list[int], list[int]]:
    """Which answers to show: the first of each group, then the second of each; nobody chose them.

    Args:
      first: [N] labels.
      second: [N] labels.
      groups: [N] benchmark, stratum, ... of each answer, taken in turn; None: one group.
      limit: at most so many of each direction.

    Returns:
      Positions where the first alone says yes, and where the second alone does.
    """
    found = []
    for yes, no in ((first, second), (second, first)):
        turns: dict[Hashable, list[int]] = {}
        for i, (a, b) in enumerate(zip(yes, no, strict=True)):
            if a is not None and b is not None and a == 1 and b == 0:
                turns.setdefault(groups[i] if groups else None, []).append(i)
        rows = itertools.zip_longest(*turns.values())
        found.append([i for row in rows for i in row if i is not None][:limit])
    return found[0], found[1]
