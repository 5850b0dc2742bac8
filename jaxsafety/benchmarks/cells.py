"""Unsafe rates by arm, seed, benchmark and judge, and what changes from one arm to another.

Part of our protocol for capability-grounded measurement (docs/anchored.md). A cell holds one
judge's verdicts u and the coherence k of the same answers. Of the answers of which both are known
(M of N):

    raw = sum(u) / M     cond = sum(u k) / sum(k)     lo = sum(u k) / M
    hi = (sum(u k) + sum(1 - k)) / M                  incoh = sum(1 - k) / M

`outcomes.bounds` computes them; here they are also resampled. What a judge cannot tell (NaN) is in
no rate and counted; a rate of nothing is None with a cause.

A change is metric(arm) - metric(base), each pooled over its seeds. Its interval comes from a
bootstrap over prompts *crossed* with seeds: prompts are drawn once for all arms and judges, seeds
once for all arms that have the same ones. Drawn plainly this is wrong in three ways, which are
mended, and the coverage measured in the tests:

- S of S seeds tell the variance of their mean a factor (S - 1) / S too small, a fifth at 5 seeds;
  here S - 1 are drawn (Rao, Wu 1988, JASA 83, 231).
- What is neither the prompt's nor the seed's, E, is counted three times, by each drawing and by
  both (Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1, 386); with verdicts of
  0 and 1 that is most of the variance, and the interval up to 1.7 times too wide. It is scaled by
  sqrt((V - 2 V_E) / V), V_E from the residuals of the two-way layout, at least by sqrt(1/3).
- Few seeds have a tail that is no normal one's: Student's t, with Satterthwaite's degrees of
  freedom for the share of the variance that comes from seeds.

With one seed nothing is known of seeds, and the interval is of prompts alone. Where no resample
differs (as with 0 of K unsafe in both arms), it reaches as far as if a share of prompts, Wilson's
upper bound of 0 of K, changed by anything from -1 to 1.

Plain numpy. Letters: N answers, K prompts, S seeds, R resamples. Pinned by
tests/benchmarks/test_cells.py, which also has the coverage.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from jaxsafety.benchmarks import outcomes

METRICS = ("raw", "cond", "lo", "hi", "incoh")
READINGS = ("lo", "hi")  # incoherent answers taken as safe, and as unsafe
UNTOLD = "the judge cannot tell any of the answers"
INCOHERENT = "no answer is coherent"
FEW = "fewer than half of the resamples have a value"
_AT_ONCE = 1 << 21  # drawn prompts held in memory at a time


class Key(NamedTuple):
    """Where a cell stands."""

    arm: str
    seed: int
    benchmark: str
    judge: str


@dataclass(frozen=True, eq=False)
class Cell:
    """One judge on one arm's answers.

    Attributes:
      unsafe: [N] of 1, 0 and NaN.
      coherent: [N] likewise, of the same answers.

    Raises:
      ValueError: other values, or different lengths.
    """

    unsafe: np.ndarray
    coherent: np.ndarray

    def __post_init__(self) -> None:
        """Reads lists with None and checks them."""
        for name in ("unsafe", "coherent"):
            values = np.asarray(getattr(self, name), float)
            if values.ndim != 1 or not (np.isnan(values) | (values == 0) | (values == 1)).all():
                raise ValueError(f"a cell's {name} is a list of 1, 0 and NaN")
            object.__setattr__(self, name, values)
        if self.unsafe.shape != self.coherent.shape:
            raise ValueError(f"{len(self.unsafe)} verdicts, {len(self.coherent)} of coherence")


@dataclass(frozen=True, eq=False)
class Table:
    """All cells of a study.

    Attributes:
      cells: by arm, seed, benchmark and judge.
      prompts: benchmark -> [N] prompt of each answer, where prompts have several; without, each
        answer is its own.

    Raises:
      ValueError: cells of one benchmark with different numbers of answers.
    """

    cells: Mapping[Key, Cell]
    prompts: Mapping[str, Sequence[Hashable]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that the answers of a benchmark stand beside each other."""
        sizes = {name: len(labels) for name, labels in self.prompts.items()}
        for key, cell in self.cells.items():
            size = sizes.setdefault(key.benchmark, len(cell.unsafe))
            if size != len(cell.unsafe):
                raise ValueError(f"{key.benchmark}: {len(cell.unsafe)} answers beside {size}")


class Tally(NamedTuple):
    """How the N answers of a cell fall; sums to N."""

    unsafe: int
    safe: int
    incoherent: int
    untold: int


def tally(cell: Cell) -> Tally:
    """Coherent and unsafe, coherent and not, incoherent, and either of the two unknown."""
    u, k = cell.unsafe, cell.coherent
    told = ~(np.isnan(u) | np.isnan(k))
    coherent, incoherent = told & (k == 1), told & (k == 0)
    unsafe = int((coherent & (u == 1)).sum())
    safe = int((coherent & (u == 0)).sum())
    return Tally(unsafe, safe, int(incoherent.sum()), int((~told).sum()))


class Rates(NamedTuple):
    """The metrics of one cell, or of several; None where nothing is known, and why.

    n: answers they are of (for cond: those that are coherent); nulls: answers left out.
    """

    raw: float | None
    cond: float | None
    lo: float | None
    hi: float | None
    incoh: float | None
    n: int
    nulls: int
    cause: str = ""


def summarise(cells: Iterable[Cell]) -> Rates:
    """The five metrics over all answers of the cells (one, or those of several seeds)."""
    pairs = [
        {"unsafe": u, "coherent": k}
        for cell in cells
        for u, k in zip(cell.unsafe.tolist(), cell.coherent.tolist(), strict=True)
    ]
    found = outcomes.bounds(pairs)
    nulls = sum(math.isnan(p["unsafe"] + p["coherent"]) for p in pairs)
    raw, cond, lo, hi, incoh = (None if math.isnan(x) else x for x in found)
    cause = UNTOLD if raw is None else INCOHERENT if cond is None else ""
    return Rates(raw, cond, lo, hi, incoh, len(pairs) - nulls, nulls, cause)


def summarise_table(table: Table) -> dict[Key, Rates]:
    """`summarise` of every cell."""
    return {key: summarise([cell]) for key, cell in table.cells.items()}


class Change(NamedTuple):
    """A difference between two arms in one cell.

    Attributes:
      value: metric(arm) - metric(base); None where one of the two is.
      lo: of its interval; None where `value` is, or where too few resamples have a value.
      hi: likewise.
      seeds: seeds of the arm; with one the interval is of prompts alone.
      nulls: answers of both arms that are in no rate.
      cause: why something is None, "" where nothing is.
    """

    value: float | None
    lo: float | None
    hi: float | None
    seeds: int
    nulls: int
    cause: str = ""

    @property
    def sign(self) -> int | None:
        """1 or -1 if the interval lies on one side of 0, 0 if it holds it (undecided), or None."""
        if self.lo is None or self.hi is None:
            return None
        return int(self.lo > 0) - int(self.hi < 0)


def _parts(cell: Cell, index: np.ndarray, size: int) -> np.ndarray:
    """[N] verdicts -> [4,K] per prompt: answers told, coherent, unsafe, both."""
    told = ~(np.isnan(cell.unsafe) | np.isnan(cell.coherent))
    u, k = np.where(told, cell.unsafe, 0.0), np.where(told, cell.coherent, 0.0)
    return np.stack([np.bincount(index, x, size) for x in (told.astype(float), k, u, u * k)])


def _terms(parts: np.ndarray, metric: str, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """[...,4] sums -> [...] what a metric counts, [...] and of what."""
    told, coherent, unsafe, both = np.moveaxis(parts.astype(float), axis, 0)
    return {
        "raw": (unsafe, told),
        "cond": (both, coherent),
        "lo": (both, told),
        "hi": (both + told - coherent, told),
        "incoh": (told - coherent, told),
    }[metric]


def _rate(parts: np.ndarray, metric: str) -> np.ndarray:
    """[...,4] sums -> [...] a metric, NaN where it is of nothing."""
    top, of = _terms(parts, metric)
    return np.where(of > 0, top / np.where(of > 0, of, 1.0), np.nan)


@dataclass(frozen=True, eq=False)
class Resampled:
    """A table and its resamples; every arm, judge and metric on the same draws.

    Attributes:
      sums: (arm, benchmark, judge) -> [1+R,4] sums over answers, those of the table itself first.
      parts: (arm, benchmark, judge) -> [S,4,K] of the table, seed by seed and prompt by prompt.
      seeds: (arm, benchmark, judge) -> its seeds.
      nulls: (arm, benchmark, judge) -> answers left out.
    """

    sums: Mapping[tuple[str, str, str], np.ndarray]
    parts: Mapping[tuple[str, str, str], np.ndarray]
    seeds: Mapping[tuple[str, str, str], tuple[int, ...]]
    nulls: Mapping[tuple[str, str, str], int]

    def rate(self, arm: str, benchmark: str, judge: str, metric: str) -> np.ndarray:
        """[1+R] a metric, the table's own value first; NaN where it is of nothing."""
        return _rate(self.sums[arm, benchmark, judge], metric)

    def change(
        self, arm: str, base: str, benchmark: str, judge: str, metric: str, level: float = 0.95
    ) -> Change:
        """metric(arm) - metric(base), with its interval.

        Raises:
          KeyError: a cell that is not in the table.
        """
        here, there = (arm, benchmark, judge), (base, benchmark, judge)
        seeds, nulls = len(self.seeds[here]), self.nulls[here] + self.nulls[there]
        values = self.rate(*here, metric) - self.rate(*there, metric)
        if np.isnan(values[0]):
            told = self.sums[here][0, 0] and self.sums[there][0, 0]
            cause = INCOHERENT if told else UNTOLD
            return Change(None, None, None, seeds, nulls, cause)
        value, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
        if not len(drawn) or 2 * len(drawn) < len(values) - 1:
            return Change(value, None, None, seeds, nulls, FEW)
        lo, hi = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2]).tolist()
        if float(np.ptp(drawn)) < 1e-12:  # resamples that all agree are no certainty
            spare = outcomes.wilson(0, self.parts[here].shape[-1], level)[1]
            lo, hi = value - spare * (1 + value), value + spare * (1 - value)
            return Change(value, lo, hi, seeds, nulls)
        scale = _scale(self._influence(here, there, metric), float(drawn.var()), level)
        lo, hi = min(lo, value), max(hi, value)
        return Change(
            value, value - scale * (value - lo), value + scale * (hi - value), seeds, nulls
        )

    def _influence(
        self, here: tuple[str, str, str], there: tuple[str, str, str], metric: str
    ) -> list[np.ndarray]:
        """[S,K] what each seed's prompt adds to the change; of each arm where seeds differ."""
        both = []
        for where in (here, there):
            top, of = _terms(self.parts[where], metric, axis=1)
            both.append((top - top.sum() / of.sum() * of) / of.mean())
        return [both[0] - both[1]] if self.seeds[here] == self.seeds[there] else both


def _scale(influence: Sequence[np.ndarray], variance: float, level: float) -> float:
    """By what the crossed bootstrap's interval is multiplied (this file's text, second and third).

    df = V^2 / sum_i (V_i^2 / (S_i - 1)), V_i = s_i^2 / S_i of the seeds' means, V the whole;
    prompts are many and count as known.
    """
    noise, inner, least = 0.0, 0.0, np.inf
    for z in influence:
        seeds, prompts = z.shape
        if min(seeds, prompts) < 2:
            continue
        rest = z - z.mean(axis=0) - z.mean(axis=1)[:, None] + z.mean()
        noise += float((rest**2).sum()) / ((seeds - 1) * (prompts - 1) * seeds * prompts)
        inner += (float(z.mean(axis=1).var(ddof=1)) / seeds) ** 2 / (seeds - 1)
        least = min(least, seeds - 1)
    real = max(variance - 2 * noise, variance / 3)
    tail = 0.5 + level / 2
    df = max(real**2 / inner, least) if inner else np.inf
    wide = float(stdtrit(df, tail)) / NormalDist().inv_cdf(tail) if np.isfinite(df) else 1.0
    return wide * math.sqrt(real / variance)


def resample(table: Table, *, resamples: int = 10_000, seed: int = 0) -> Resampled:
    """Draws prompts and seeds, crossed, for all cells at once.

    Args:
      table: of S seeds and K prompts.
      resamples: R.
      seed: of numpy's generator, with each benchmark's name; the same seed gives the same draws.
    """
    groups: dict[tuple[str, str, str], list[int]] = {}
    for key in sorted(table.cells):
        groups.setdefault((key.arm, key.benchmark, key.judge), []).append(key.seed)
    sums: dict[tuple[str, str, str], np.ndarray] = {}
    kept: dict[tuple[str, str, str], np.ndarray] = {}
    drawn: dict[tuple[int, ...], np.ndarray] = {}
    for benchmark in sorted({b for _, b, _ in groups}):
        mine = [g for g in groups if g[1] == benchmark]
        some = table.cells[Key(mine[0][0], groups[mine[0]][0], benchmark, mine[0][2])]
        index, size = _index(table.prompts.get(benchmark), len(some.unsafe))
        parts = {
            g: np.stack(
                [_parts(table.cells[Key(g[0], s, benchmark, g[2])], index, size) for s in groups[g]]
            )
            for g in mine
        }  # [S,4,K]
        for g in mine:
            labels = tuple(groups[g])
            if labels not in drawn:
                drawn[labels] = _draw_seeds(labels, resamples, seed)
            sums[g] = np.empty((1 + resamples, 4), np.float32)
            sums[g][0] = parts[g].sum(axis=(0, 2))
        kept |= parts
        flat = np.concatenate([parts[g].reshape(-1, size) for g in mine]).T.astype(np.float32)
        rng = np.random.default_rng([seed, zlib.crc32(benchmark.encode())])
        rows = max(1, _AT_ONCE // max(1, size))
        for start in range(0, resamples, rows):
            end = min(start + rows, resamples)
            found = _draw_prompts(rng, end - start, size) @ flat  # counts: exact in float32
            at = 0
            for g in mine:
                wide = 4 * len(groups[g])
                block = found[:, at : at + wide].reshape(end - start, -1, 4)
                weights = drawn[tuple(groups[g])][start:end]
                sums[g][1 + start : 1 + end] = np.einsum("rs,rsf->rf", weights, block)
                at += wide
    nulls = {
        g: int(sum(tally(table.cells[Key(g[0], s, g[1], g[2])]).untold for s in groups[g]))
        for g in groups
    }
    return Resampled(sums, kept, {g: tuple(s) for g, s in groups.items()}, nulls)


def _index(labels: Sequence[Hashable] | None, size: int) -> tuple[np.ndarray, int]:
    """[N] which prompt each answer is to, and K."""
    if labels is None:
        return np.arange(size), size
    seen: dict[Hashable, int] = {}
    index = np.array([seen.setdefault(x, len(seen)) for x in labels], np.int64)
    return index, len(seen)


def _draw_seeds(labels: tuple[int, ...], resamples: int, seed: int) -> np.ndarray:
    """[R,S] how often each seed is drawn, S - 1 in all; one seed is always there."""
    rng = np.random.default_rng([seed, zlib.crc32(repr(labels).encode())])
    size = len(labels)
    if size == 1:
        return np.ones((resamples, 1), np.float32)
    return rng.multinomial(size - 1, np.full(size, 1 / size), resamples).astype(np.float32)


def _draw_prompts(rng: np.random.Generator, rows: int, size: int) -> np.ndarray:
    """[R,K] how often each prompt is drawn, K in all."""
    pick = rng.integers(0, size, (rows, size), dtype=np.int32)
    pick += (np.arange(rows, dtype=np.int32) * size)[:, None]
    return np.bincount(pick.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float32)
