"""What a comparison may say in its title: a difference only where its interval leaves out zero.

An exact sign test over the prompts that moved has to agree, as a bootstrap of few prompts is rash.

Pinned by tests/report/test_compare_claims.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxsafety.report.compare import matching, pareto
from jaxsafety.report.compare.matching import Difference, Side
from jaxsafety.report.compare.pareto import Axis, Group
from jaxsafety.report.compare.sources import Source
from jaxsafety.report.load import Estimate, decoding_label
from jaxsafety.report.tables import FEW, percent, signed

COSTS = {"capability": "fewer tasks right", "over_refusal": "more harmless requests refused"}
COUNTS = {2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six"}


def headline(sources: Sequence[Source], found: Sequence[Group]) -> tuple[str, str]:
    """Title and first sentences."""
    group = next((g for g in found if len(g.sources) > 1 and "safety" in g.axes), None)
    count = COUNTS.get(len(sources), str(len(sources)))
    if group is None:
        told = " ".join(f"{', '.join(of)}: {why}." for why, of in by_cause(sources, found))
        return f"{count} runs whose rates of harmful requests cannot be compared", told
    axis = group.axes["safety"]
    title = _title(group, axis)
    rates = [(s.label, matching.rate(axis.side(s, s.lead), axis.metric)) for s in group.sources]
    lead = "; ".join(f"{label} {percent(e) if e else 'not known'}" for label, e in rates)
    words = group.sources[0].words.claims.get(axis.metric, axis.metric)
    n = max((e.n for _, e in rates if e), default=0)
    where = f"{axis.title}, {decoding_label(axis.decoding)}, n = {n} answers"
    text = f"{words[:1].upper()}{words[1:]} ({where}): {lead}. {_costs(group)}"
    if len(group.sources) < len(sources):
        title += f", of {len(group.sources)} runs that can be compared"
    others = [
        f"Not in this comparison: {', '.join(of)} ({why})." for why, of in by_cause(sources, found)
    ]
    return title, " ".join([text, *others]).strip()


def apart(sources: Sequence[Source], found: Sequence[Group]) -> list[tuple[str, str]]:
    """Who cannot be compared with the first run that has company, and why; else with the first."""
    with_company = next((g for g in found if len(g.sources) > 1), found[0])
    first = with_company.sources[0]
    return [(s.label, why(first, s)) for s in sources if s not in with_company.sources]


def by_cause(sources: Sequence[Source], found: Sequence[Group]) -> list[tuple[str, list[str]]]:
    """As `apart`, one cause of several runs told once."""
    told: dict[str, list[str]] = {}
    for label, cause in apart(sources, found):
        told.setdefault(cause, []).append(label)
    return list(told.items())


def why(first: Source, second: Source) -> str:
    """Why the harmful requests of two runs cannot be compared."""
    keys = pareto.keys_of(first, "safety")
    if not keys:
        return f"no harmful requests were measured in {first.label}"
    for key in keys:
        own = matching.find(second, second.lead, key.name, key.decoding, key.judge)
        if own.key is not None:
            return matching.cause(matching.side(first, first.lead, key), own)
    names = {key.name for key in keys}
    if names & {key.name for key in pareto.keys_of(second, "safety")}:
        return f"no set of harmful requests is decoded as in {first.label}"
    return f"no set of harmful requests in common with {first.label}"


def _sides(group: Group, axis: Axis) -> list[tuple[str, Side, Estimate]]:
    told = []
    for source in group.sources:
        side = axis.side(source, source.lead)
        rate = matching.rate(side, axis.metric)
        if rate is not None:
            told.append((source.label, side, rate))
    return told


def _title(group: Group, axis: Axis) -> str:
    """Who has the least harm, if that is clear against every other run."""
    words = group.sources[0].words.claims.get(axis.metric, axis.metric)
    claim = f"{words[:1].upper()}{words[1:]}"
    told = _sides(group, axis)
    if len(told) < 2:
        return f"{claim}: known of fewer than two runs"
    best = min(told, key=lambda one: -one[2].value if axis.higher else one[2].value)
    rest = [one for one in told if one is not best]
    if not all(matching.differ(one[1], best[1], axis.metric).clear for one in rest):
        if len(told) == 2:
            return f"{claim}: no clear difference between {told[0][0]} and {told[1][0]}"
        most = "above" if axis.higher else "below"
        return f"{claim}: no run is clearly {most} all the others"
    share = f"{100 * best[2].value:.0f}\N{NO-BREAK SPACE}%"
    costs = [COSTS[kind] for kind in COSTS if _costly(group, kind, best[1].source)]
    but = f", but {' and '.join(costs)}" if costs else ""
    if len(told) == 2:
        word = "higher" if axis.higher else "lower"
        other = f"{100 * rest[0][2].value:.0f}\N{NO-BREAK SPACE}%"
        return f"{claim}: {word} with {best[0]}, {share} against {other}{but}"
    return f"{claim}: {'highest' if axis.higher else 'lowest'} with {best[0]}, {share}{but}"


def _differences(group: Group, kind: str, best: Source) -> list[tuple[Source, Difference]]:
    """What `best` has more of a kind than each other run of its group."""
    axis = group.axes.get(kind)
    if axis is None:
        return []
    own = axis.side(best, best.lead)
    return [
        (s, matching.differ(axis.side(s, s.lead), own, axis.metric))
        for s in group.sources
        if s is not best
    ]


def _costly(group: Group, kind: str, best: Source) -> bool:
    """Whether `best` is clearly worse in this than some other run."""
    axis = group.axes.get(kind)
    return axis is not None and any(
        d.clear and d.change is not None and (d.change[0] < 0) == axis.higher
        for _, d in _differences(group, kind, best)
    )


def _costs(group: Group) -> str:
    """What else differs clearly from the first run, in sentences."""
    told = []
    first = group.sources[0]
    for kind, name in (("capability", "Tasks"), ("over_refusal", "Harmless requests")):
        axis = group.axes.get(kind)
        if axis is None:
            told.append(f"{name}: {group.causes.get(kind, 'not measured')}.")
            continue
        own = axis.side(first, first.lead)
        metric = first.words.metrics.get(axis.metric, axis.metric)
        clear, unknown = [], []
        for source in group.sources[1:]:
            other = axis.side(source, source.lead)
            d = matching.differ(own, other, axis.metric)
            if d.change is None:
                unknown.append(f"{source.label} not known ({d.cause})")
            elif d.clear:
                clear.append(f"{source.label} {_points(d, matching.rate(other, axis.metric))}")
        text = "; ".join([*(clear or ["no clear difference"] * (not unknown)), *unknown])
        told.append(f"{name}, {metric}, against {first.label}: {text}.")
    return " ".join(told)


def _points(d: Difference, rate: Estimate | None) -> str:
    assert d.change is not None
    value, lo, hi = (signed(x, 0 if rate is None or rate.n < FEW else 1) for x in d.change)
    return f"{value} points [{lo}, {hi}]"
