"""Whether two models were measured alike, and by how much they then differ, paired by prompt.

Two rates can be compared where the same judge heard answers to the same prompts, decoded alike, and
where both models began as the same base. Anything else has a cause in words and no number.
Pinned by tests/report/test_compare_matching.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxsafety.benchmarks import intervals
from jaxsafety.report.compare.sources import Judge, Key, Measured, Model, Source
from jaxsafety.report.load import Estimate, beyond, moves, paired

DECODED = {"temperature": "temperature", "top_p": "top p", "max_tokens": "tokens", "chat": "chat"}


class Side(NamedTuple):
    """A model's rates of a set or pool.

    Attributes:
      source: what it is a model of.
      model: the model.
      key: where the rates stand; None where the model was not asked.
      parts: set -> the answers behind them; of a pool all of its sets, or none.
    """

    source: Source
    model: Model
    key: Key | None
    parts: Mapping[str, Measured]


class Difference(NamedTuple):
    """What one model's rate is more than another's, as (difference, lo, hi); else why not.

    `moved` are the prompts whose own rate is lower, and higher.
    """

    change: tuple[float, float, float] | None
    cause: str = ""
    moved: tuple[int, int] = (0, 0)

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero, and a sign test over prompts agrees."""
        return beyond(self.change, self.moved)


def keys(model: Model) -> list[Key]:
    """Everything that a model was asked, in order."""
    return list(dict.fromkeys([*(key for key, _ in model.rates), *model.told]))


def side(source: Source, model: Model, key: Key | None) -> Side:
    """A model and the answers behind one of its keys."""
    if key is None:
        return Side(source, model, None, {})
    names = source.pools.get(key.name, [key.name])
    parts = {name: model.told.get(key._replace(name=name)) for name in names}
    known = {name: part for name, part in parts.items() if part is not None}
    return Side(source, model, key, known if len(known) == len(parts) else {})


def find(
    source: Source, model: Model, name: str, decoding: str, judge: Judge | None = None
) -> Side:
    """A model's rates of a set or pool, by `judge` if it was asked, else by whoever was."""
    own = [key for key in keys(model) if key[:2] == (name, decoding)]
    key = next((key for key in own if key.judge == judge), next(iter(own), None))
    return side(source, model, key)


def join(sides: list[Side]) -> Side:
    """Several sets of one model taken together."""
    first = sides[0]
    parts = {name: part for one in sides for name, part in one.parts.items()}
    return first._replace(parts=parts if all(one.parts for one in sides) else {})


def cause(a: Side, b: Side) -> str:
    """Why rates of two models cannot be compared; "" where they can."""
    if a.key is None or b.key is None:
        return f"not measured in {(a if a.key is None else b).source.label}"
    told = []
    mine, other = a.key.judge, b.key.judge
    if mine.title != other.title:
        told.append(f"different judges: {mine.title} and {other.title}")
    elif mine.mark and other.mark and mine.mark != other.mark:
        told.append(f"different judges, both called {mine.title}")
    if a.source.marks != b.source.marks:
        told.append("judges hear thoughts in one and not in the other")
    bases = a.source.base, b.source.base
    if all(bases) and bases[0] != bases[1]:
        told.append(f"different base models: {bases[0][:8]} and {bases[1][:8]}")
    if not a.parts or not b.parts:
        told.append("no answers saved")
    elif a.parts.keys() != b.parts.keys():
        told.append("a pool of other sets")
    else:
        decoded = [_decoded(a.parts[name], b.parts[name]) for name in a.parts]
        told += dict.fromkeys(words for words in decoded if words)
        told += filter(None, [_prompts(a, b)])
    return "; ".join(told)


def _decoded(a: Measured, b: Measured) -> str:
    both = a.decoded.keys() & b.decoded.keys()
    differ = [name for name in DECODED if name in both and a.decoded[name] != b.decoded[name]]
    told = [f"{DECODED[k]} {a.decoded[k]} and {b.decoded[k]}" for k in differ]
    return f"different decoding: {', '.join(told)}" if told else ""


def _prompts(a: Side, b: Side) -> str:
    """What is not the same in what was asked."""
    one, other = (
        {(name, text) for name, part in x.parts.items() for text in part.prompts.values()}
        for x in (a, b)
    )
    if not one or not other:
        return "no answers saved: nobody can tell whether the prompts are the same"
    if one != other:
        both = len(one & other)
        return f"different prompts: {len(one)} and {len(other)}, {both} shared"
    return ""


def means(found: Side, metric: str) -> dict[tuple[str, str], float]:
    """(set, prompt) -> mean of the metric over its samples, NaN where none could be judged."""
    told: dict[tuple[str, str], float] = {}
    for name, part in found.parts.items():
        for prompt, values in part.values(metric).items():
            value = intervals.mean(values)
            told[name, prompt] = float("nan") if value is None else value
    return told


def rate(found: Side, metric: str) -> Estimate | None:
    """The rate of all answers of several sets together, made of the verdicts."""
    values, clusters = [], []
    for name, part in found.parts.items():
        known = part.values(metric)
        if not known:  # a rate of the other sets would be another one
            return None
        for prompt, own in known.items():
            values += own
            clusters += [(name, prompt)] * len(own)
    value = intervals.mean(values)
    if value is None:
        return None
    judged = sum(v == v for v in values)
    return Estimate(value, *intervals.interval(values, clusters), judged)


def differ(a: Side, b: Side, metric: str) -> Difference:
    """What `b` has more than `a`."""
    why = cause(a, b)
    if why:
        return Difference(None, why)
    before, after = means(a, metric), means(b, metric)
    if not before or not after:
        return Difference(None, "no verdicts saved")
    if before.keys() != after.keys():
        return Difference(None, "different prompts have verdicts")
    change = paired(before, after)
    why = "" if change else "no prompt was judged in both"
    return Difference(change, why, moves(before, after))


def same(a: Side, b: Side, metric: str) -> bool:
    """Whether both are one base, measured in two runs with the same outcome."""
    if not (a.model.base and b.model.base and a.source.base) or cause(a, b):
        return False
    one, other = _filled(means(a, metric)), _filled(means(b, metric))
    return a.source.base == b.source.base and bool(one) and one == other


def _filled(values: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """NaN is not NaN; here it is."""
    return {key: -1.0 if value != value else value for key, value in values.items()}
