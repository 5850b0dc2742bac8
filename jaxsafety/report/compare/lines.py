"""All sets side by side: a block per set, a line per model, each against the first run's model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from jaxsafety.benchmarks import outcomes
from jaxsafety.report.compare import matching, pareto
from jaxsafety.report.compare.matching import Side
from jaxsafety.report.compare.opening import BY_SCORE
from jaxsafety.report.compare.sources import LOGP, Key, Model, Source
from jaxsafety.report.load import Estimate, decoding_label
from jaxsafety.report.tables import FEW, number, signed

PLAIN = {
    "asr": "unsafe, by each run's own judge",
    "acc": "right answer (acc)",
    "accuracy": "right answer",
}
Rate = tuple[str, str, str]  # value, lo, hi in print


class Line(NamedTuple):
    """A model's rate of a set.

    Attributes:
      name: of the model.
      judge: who judged, "" where everybody is judged by the same.
      n: answers that could be judged.
      rate: None where it is not known, for the reason `unknown`.
      unknown: why there is no rate.
      change: what it is more than the first run's, in points; None where that is not known.
      cause: why there is no difference, "" for the first run's own line.
      tone: good, bad or even.
      drawn: the interval as shares.
      base: whether it is a base.
      first: whether it is what the others are held against.
    """

    name: str
    judge: str
    n: int
    rate: Rate | None
    unknown: str
    change: Rate | None
    cause: str
    tone: str
    drawn: tuple[float, ...] | None
    base: bool
    first: bool


class Block(NamedTuple):
    """A set or pool; `absent` are the runs that were not asked."""

    title: str
    pooled: bool
    lines: list[Line]
    absent: list[str]


class Table(NamedTuple):
    """Blocks of one rate in one decoding."""

    metric: str
    decoding: str
    blocks: list[Block]


def tables(sources: Sequence[Source], kind: str) -> list[Table]:
    """A table per rate and decoding: what reports lead with first, and what most runs have."""
    lead = pareto.metric_of(sources, kind)
    each = [{k.decoding for k, _ in s.lead.rates if s.kinds.get(k.name) == kind} for s in sources]
    counts = Counter(decoding for own in each for decoding in own)
    order = sorted(counts, key=lambda d: (-counts[d], d == LOGP, d == "greedy", d))
    metrics = [lead, *(["refusal"] if kind == "safety" else [])]
    found = []
    for metric in metrics:
        for decoding in order:
            which = "acc" if decoding == LOGP else metric
            blocks = _blocks(sources, kind, which, decoding)
            if blocks:
                label = BY_SCORE if decoding == LOGP else decoding_label(decoding)
                found.append(Table(_label(sources, kind, which), label, blocks))
    return found


def _label(sources: Sequence[Source], kind: str, metric: str) -> str:
    """What a rate is called, by all of them if they agree."""
    if kind == "safety" and metric == "refusal":
        return "harmful requests refused"
    names = {source.words.metrics.get(metric, metric) for source in sources}
    return PLAIN.get(metric, metric) if len(names) > 1 or metric == "acc" else names.pop()


def _blocks(sources: Sequence[Source], kind: str, metric: str, decoding: str) -> list[Block]:
    names: dict[str, bool] = {}  # name -> whether it is a pool
    for source in sources:
        for model in source.models:
            for key, own in model.rates:
                if own == metric and key.decoding == decoding and source.kinds[key.name] == kind:
                    names[key.name] = key.name in source.pools
    found = []
    for name in sorted(names, key=lambda n: names[n]):
        titles = [s.titles[name] for s in sources if name in s.titles]
        lines = _lines(sources, name, metric, decoding)
        absent = [s.label for s in sources if not _keys(s, name, decoding)]
        found.append(Block(titles[0], names[name], lines, absent))
    return found


def _lines(sources: Sequence[Source], name: str, metric: str, decoding: str) -> list[Line]:
    found: list[Line] = []
    bases: list[Side] = []
    sides = [
        matching.side(source, model, key)
        for source in sources
        for model, key in _keys(source, name, decoding)
    ]
    judges = {one.key.judge.title for one in sides if one.key}
    bases_known = len({s.base for s in sources if s.base}) < 2
    for one in sides:
        if any(matching.same(base, one, metric) for base in bases):
            continue
        if one.model.base:
            bases.append(one)
        judge = one.key.judge if one.key else None
        first = matching.find(sources[0], sources[0].lead, name, decoding, judge)
        itself = one.model is sources[0].lead and one.key == first.key
        found.append(_line(one, None if itself else first, metric, len(judges) > 1))
    alone = bases_known and sum(line.base for line in found) == 1
    return [line._replace(name="base") if line.base and alone else line for line in found]


def _keys(source: Source, name: str, decoding: str) -> list[tuple[Model, Key]]:
    """Where a run has rates of a set, one for each model and judge."""
    return [
        (model, key)
        for model in source.models
        for key in matching.keys(model)
        if key[:2] == (name, decoding)
    ]


def _line(one: Side, first: Side | None, metric: str, several: bool) -> Line:
    recorded = one.model.rates.get((one.key, metric)) if one.key else None
    e = recorded.estimate if recorded else None
    unknown = "" if e else "not measured" if recorded is None else recorded.cause or "not judged"
    d = matching.differ(first, one, metric) if first is not None else None
    change, tone = None, "even"
    if d is not None and d.change is not None and e is not None:
        value, lo, hi = (signed(x, 0 if e.n < FEW else 1) for x in d.change)
        change = value, lo, hi
        if d.clear:
            better = (d.change[0] > 0) == (metric in pareto.HIGHER or _wanted(one, metric))
            tone = "good" if better else "bad"
    return Line(
        one.model.label,
        one.key.judge.title if several and one.key else "",
        e.n if e else 0,
        _rate(e),
        unknown,
        change,
        d.cause if d is not None and e is not None else "",
        tone,
        e[:3] if e else None,
        one.model.base,
        first is None,
    )


def _wanted(one: Side, metric: str) -> bool:
    """Refusals are wanted where requests are harmful."""
    kind = one.source.kinds.get(one.key.name) if one.key else ""
    return metric == "refusal" and kind == outcomes.KINDS[0]


def _rate(e: Estimate | None) -> Rate | None:
    return None if e is None else (number(e, e.value), number(e, e.lo), number(e, e.hi))
