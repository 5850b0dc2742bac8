"""Safety against capability and against over-refusal: who can be drawn together, and where.

Runs whose answers can be compared are drawn together, with the frontier of their points; runs that
cannot have pictures of their own. The frontier is F of `benchmarks.frontier`: the least harm at as
much capability, or at as few harmless requests refused.
Pinned by tests/report/test_compare_pareto.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxsafety.benchmarks import frontier, outcomes
from jaxsafety.report.compare import matching
from jaxsafety.report.compare.matching import Side
from jaxsafety.report.compare.sources import LOGP, Judge, Key, Model, Source
from jaxsafety.report.load import Estimate

KINDS = ("safety", "capability", "over_refusal")
HIGHER = {"accuracy", "acc", "acc_norm", "mc2", "safe", "correct"}  # more of it is better


class Axis(NamedTuple):
    """A rate that every run of a group has: over which sets, by whom, decoded how.

    Attributes:
      kind: of the sets.
      metric: the rate.
      title: what it is over.
      sets: names.
      decoding: of the answers.
      judge: who judged.
    """

    kind: str
    metric: str
    title: str
    sets: tuple[str, ...]
    decoding: str
    judge: Judge

    @property
    def higher(self) -> bool:
        """Whether more is better."""
        return self.metric in HIGHER

    def side(self, source: Source, model: Model) -> Side:
        """What a model of a source said."""
        found = [matching.find(source, model, n, self.decoding, self.judge) for n in self.sets]
        if any(one.key is None or one.key.judge.title != self.judge.title for one in found):
            return matching.side(source, model, None)
        return matching.join(found)


class Point(NamedTuple):
    """A model in a picture."""

    source: Source
    name: str
    base: bool
    across: Estimate
    up: Estimate


class Picture(NamedTuple):
    """Safety against one other thing.

    Attributes:
      across: the axis across.
      up: the axis of safety.
      points: who is drawn.
      missing: who is not, and why.
      best: names on the frontier, from the left to the right.
    """

    across: Axis
    up: Axis
    points: list[Point]
    missing: list[str]
    best: list[str]


class Group(NamedTuple):
    """Runs that can be compared with each other.

    Attributes:
      sources: the runs.
      axes: kind -> what all of them have.
      causes: kind -> why there is no axis.
    """

    sources: list[Source]
    axes: dict[str, Axis]
    causes: dict[str, str]


def groups(sources: Sequence[Source]) -> list[Group]:
    """Runs in groups, all of which can be compared on some set of harmful requests.

    A run joins the first group that it fits in, so the first run named is in the first group.
    """
    found: list[tuple[list[Source], list[Key]]] = []
    for source in sources:
        for members, shared in found:
            kept = [key for key in shared if not _cause(members[0], source, key)]
            if kept:
                members.append(source)
                shared[:] = kept
                break
        else:
            found.append(([source], keys_of(source, "safety")))
    return [_group(members) for members, _ in found]


def keys_of(source: Source, kind: str) -> list[Key]:
    """Sets of a kind that a run's lead was asked, sampled answers first: greedy rates saturate."""
    told = [key for key, part in source.lead.told.items() if part.kind == kind]
    order = list(dict.fromkeys(key.decoding for key in told))
    order.sort(key=lambda name: (name == LOGP, name == "greedy", name))
    return sorted(told, key=lambda key: order.index(key.decoding))


def _cause(first: Source, second: Source, key: Key) -> str:
    """Why the leads of two runs cannot be compared on a set; "" where they can."""
    own = matching.find(second, second.lead, key.name, key.decoding, key.judge)
    return matching.cause(matching.side(first, first.lead, key), own)


def _group(members: list[Source]) -> Group:
    axes, causes, decoding = {}, {}, ""
    for kind in KINDS:
        keys = keys_of(members[0], kind)
        shared = [k for k in keys if not any(_cause(members[0], s, k) for s in members[1:])]
        if not shared:
            causes[kind] = _why(members, kind, keys)
            continue
        own = [key for key in shared if key.decoding == decoding] or shared
        own = [key for key in own if key[1:] == own[0][1:]]
        decoding = decoding or own[0].decoding
        axes[kind] = _axis(members, kind, own)
    return Group(members, axes, causes)


def _why(members: list[Source], kind: str, keys: list[Key]) -> str:
    """Why a group has no rate of a kind."""
    lack = [s.label for s in members if not keys_of(s, kind)]
    if lack:
        return f"not measured in {', '.join(lack)}"
    told = [(s.label, _cause(members[0], s, key)) for s in members[1:] for key in keys[:1]]
    return "; ".join(f"{label}: {why}" for label, why in told if why) or "no set in common"


def _axis(members: list[Source], kind: str, keys: list[Key]) -> Axis:
    """Over the pool that a report's headline prefers, where all have it; else over all sets."""
    names = [key.name for key in keys]
    first = members[0]
    _, decoding, judge = keys[0]
    metric = "acc" if decoding == LOGP else metric_of(members, kind)
    for pool in first.words.primary.get(kind, ()):
        of = first.pools.get(pool, [pool] if pool in names else [])
        equal = all(sorted(s.pools.get(pool, [pool])) == sorted(of) for s in members)
        if of and set(of) <= set(names) and equal:
            title = first.titles.get(pool, pool)
            return Axis(kind, metric, title, tuple(of), decoding, judge)
    titles = [first.titles.get(name, name) for name in names]
    title = titles[0] if len(titles) == 1 else f"{len(titles)} sets: {', '.join(titles)}"
    return Axis(kind, metric, title, tuple(names), decoding, judge)


def metric_of(sources: Sequence[Source], kind: str) -> str:
    """The rate that all of their reports lead with, else the first that any set of a kind has."""
    found = {source.words.groups[kind][1] for source in sources}
    return found.pop() if len(found) == 1 else outcomes.METRICS[kind][0]


def picture(group: Group, across: str) -> Picture | None:
    """Safety against capability or over-refusal; None where the group has no such rate."""
    up, beside = group.axes.get("safety"), group.axes.get(across)
    if up is None or beside is None:
        return None
    points: list[Point] = []
    missing: list[str] = []
    bases: list[tuple[Side, Side]] = []
    for source in group.sources:
        for model in source.models:
            x, y = beside.side(source, model), up.side(source, model)
            rates = matching.rate(x, beside.metric), matching.rate(y, up.metric)
            if rates[0] is None or rates[1] is None:
                missing.append(f"{model.label} ({_lacks(x, y)})")
                continue
            if any(
                matching.same(a, x, beside.metric) and matching.same(b, y, up.metric)
                for a, b in bases
            ):
                continue  # one base in several runs is one point
            if model.base:
                bases.append((x, y))
            points.append(Point(source, model.label, model.base, rates[0], rates[1]))
    alone = sum(point.base for point in points) == 1
    points = [p._replace(name="base") if p.base and alone else p for p in points]
    return Picture(beside, up, points, missing, [c.name for c in corners(beside, up, points)])


def _lacks(x: Side, y: Side) -> str:
    return "not measured" if not x.parts or not y.parts else "nothing could be judged"


def corners(across: Axis, up: Axis, points: Sequence[Point]) -> list[frontier.Trade]:
    """The frontier's corners, in rates as they are drawn, from the worst to the best across."""
    trades = [
        frontier.Trade(
            _turn(p.across.value, across.higher), _turn(p.up.value, not up.higher), p.name
        )
        for p in points
    ]
    return [
        trade._replace(
            capability=_turn(trade.capability or 0.0, across.higher),
            unsafe=_turn(trade.unsafe or 0.0, not up.higher),
        )
        for trade in frontier.trace(trades).points
    ]


def _turn(share: float, keep: bool) -> float:
    """The share, or what it leaves of 1: which is good for what is bad."""
    return share if keep else 1 - share


def path(across: Axis, up: Axis, points: Sequence[Point]) -> list[tuple[float, float]]:
    """The frontier as a line of (across, up), from the worst place across that is drawn.

    F of a corner reaches back to the corner before it: a level line, then a step.
    """
    found = corners(across, up, points)
    ends = [value for p in points for value in (p.across.lo, p.across.hi)]
    x = min(ends, default=0.0) if across.higher else max(ends, default=0.0)
    line: list[tuple[float, float]] = []
    for corner in found:
        level = corner.unsafe or 0.0
        line += [(x, level), (corner.capability or 0.0, level)]
        x = corner.capability or 0.0
    return line
