"""Sections of `report.html` about the study: numbers of `results/` as tables and pictures.

Each fills a template of `templates/`, or returns "" where it has nothing to show. Rows without a
checkpoint have a section of their own; none is dropped. Pinned by
tests/studies/test_anchored_sections.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.benchmarks.agreement import Agreement, Statistic
from jaxsafety.protocols import Finished, Section
from jaxsafety.report import page, panels
from jaxsafety.report.panels import Spot
from jaxsafety.report.words import ORGANISM
from jaxsafety.studies.anchored.arms import PLAIN
from jaxsafety.studies.anchored.results import agree, orders, rates, trades
from jaxsafety.studies.anchored.results.judges import Bench, anchor_of
from jaxsafety.studies.anchored.results.rates import Drawn, Standing
from jaxsafety.studies.anchored.results.read import Results, read
from jaxsafety.studies.anchored.table import FLOOR, GOAL, LAST

TEMPLATES = Path(__file__).with_name("templates")
UNDER = {GOAL: "at the goal", FLOOR: "at the floor", LAST: "at the last step"}
AXES = ("right answers, test split", "unsafe answers")
OUTCOMES = {**ORGANISM.outcomes, "unsafe": "coherent, unsafe", "safe_answer": "safe answer"}
READINGS = {"lo": "as safe", "hi": "as unsafe"}
SHOWN = 8  # examples of disagreement


class Known(NamedTuple):
    """A number in print with its interval; a dash and the cause where there is none."""

    value: str
    interval: str
    cause: str


class Study(NamedTuple):
    """What all sections need."""

    results: Results
    bench: Bench
    drawn: dict[str, Drawn]
    look: dict[str, tuple[str, str]]


@lru_cache(maxsize=1)  # eight sections of one report
def study(run: Finished) -> Study | None:
    """The study in a workdir, its answers judged and its rates resampled; None: there is none."""
    results = read(run)
    if results is None:
        return None
    bench = Bench(results)
    drawn = {goal: rates.draw(results, bench, goal) for goal in results.goals}
    return Study(results, bench, drawn, _look(results))


def _look(results: Results) -> dict[str, tuple[str, str]]:
    """Colours and markers, the same in all pictures."""
    return panels.looks(results.arms)


def percent(found: Statistic) -> Known:
    """A share in %, with one decimal."""
    return _known(found, lambda x: f"{100 * x:.1f}")


def plain(found: Statistic) -> Known:
    """A coefficient with two decimals."""
    return _known(found, lambda x: f"{x:.2f}".replace("-0.00", "0.00"))


def _known(found: Statistic, show: Any) -> Known:
    if found.value is None:
        return Known("–", "", found.cause)
    if found.lo is None or found.hi is None:
        return Known(show(found.value), "", found.cause)
    return Known(show(found.value), f"[{show(found.lo)}, {show(found.hi)}]", "")


def reached(run: Finished) -> str:
    """Learning curves of dev capability with the goal, and what was declared of it."""
    results = read(run)
    if results is None:
        return ""
    told, drawn, look = [], [], _look(results)
    for goal, facts in results.goals.items():
        correct, n = results.base_dev.get(goal, (0, 0))
        start = correct / n if n else None
        told.append({"goal": goal, "dev": n, **facts})
        learnt = [
            panels.Line(
                curve.arm,
                curve.steps,
                curve.rates,
                [
                    (step, curve.rates[curve.steps.index(step)])
                    for anchor, step in curve.selected.items()
                    if anchor == GOAL
                ],
            )
            for curve in trades.curves(results, goal)
        ]
        title = f"goal {goal}"
        labels = ("updates", "right answers, dev split")
        svg = panels.learning(learnt, look, labels, title=title, goal=facts["target"], start=start)
        drawn.append((f"Capability over updates, {title}", svg))
    return page.fill(TEMPLATES, "reached.html", told=told, drawn=drawn)


def compared(run: Finished) -> str:
    """Capability against safety of every arm under every anchor."""
    found = study(run)
    if found is None:
        return ""
    blocks = []
    for goal, facts in found.results.goals.items():
        standing = rates.standings(found.results, found.drawn[goal], goal)
        base = standing[0]
        xs = [x for s in standing for x in s.test if isinstance(x, float)]
        ys = [y for s in standing for y in (*s.lo, *s.hi) if isinstance(y, float)]
        limits = (min([*xs, facts["target"]]), max([*xs, facts["target"]]))
        heights = (min(ys, default=0.0), max(ys, default=1.0))
        drawn = []
        for anchor in found.results.anchors:
            spots = [s for one in standing if one.anchor == anchor and (s := _spot(one))]
            level = None if base.lo.value is None else (base.lo.value, base.hi.value or 0.0)
            title = f"{goal}, {UNDER[anchor]}"
            ends: dict[str, Any] = {"limits": limits, "heights": heights, "level": level}
            svg = panels.plane(spots, found.look, AXES, title=title, goal=facts["target"], **ends)
            drawn.append((f"Capability against safety: {title}", svg))
        rows = [_row(one) for one in standing]
        there = {one.anchor for one in standing}
        absent = [UNDER[anchor] for anchor in found.results.anchors if anchor not in there]
        block: dict[str, Any] = {"goal": goal, "drawn": drawn, "rows": rows, "absent": absent}
        known = rates.capable(found.drawn[goal], GOAL, PLAIN, facts["margin"])
        block["capable"] = [(one.arm, percent(one.change), one.verdict) for one in known]
        blocks.append(block | {"margin": facts["margin"]})
    some = {"judge": found.results.judge, "floor": found.results.floor}
    return page.fill(TEMPLATES, "compared.html", blocks=blocks, **some)


def _spot(one: Standing) -> Spot | None:
    if one.test.value is None or one.lo.value is None or one.hi.value is None:
        return None
    across, lo, hi = ((float(s.value or 0.0), s.lo, s.hi) for s in (one.test, one.lo, one.hi))
    return Spot(one.arm, across, lo, hi, one.seeds < one.of)


def _row(one: Standing) -> dict[str, Any]:
    return {
        "arm": one.arm,
        "anchor": one.anchor,
        "seeds": one.seeds,
        "of": one.of,
        "steps": _span(one.steps) if one.anchor else "–",
        "rates": [percent(s) for s in (one.test, one.lo, one.hi, one.incoh, one.refused)],
    }


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def unselected(run: Finished) -> str:
    """Rows that have no checkpoint, and why."""
    results = read(run)
    left = trades.left_out(results) if results else []
    if not results or not left:
        return ""
    count = sum(len(one.seeds) * len(one.anchors) for one in left)
    of = len(results.rows)
    return page.fill(TEMPLATES, "unselected.html", rows=left, count=count, of=of)


def anchored(run: Finished) -> str:
    """The order of arms under goal, floor and last, side by side."""
    found = study(run)
    if found is None:
        return ""
    anchors, blocks = found.results.anchors, []
    for goal, drawn in found.drawn.items():
        ranked = orders.ranked(drawn, found.results.arms, anchors)
        rows = [
            {
                "arm": one.arm,
                "places": [
                    [one.places[reading].get(anchor) for reading in READINGS] for anchor in anchors
                ],
            }
            for one in ranked
            if any(one.places["hi"].values())
        ]
        taus = _taus(orders.between_anchors(drawn, found.results.arms, anchors))
        if rows:
            blocks.append({"goal": goal, "rows": rows, "taus": taus})
    if not blocks:
        return ""
    return page.fill(TEMPLATES, "anchored.html", blocks=blocks, anchors=anchors)


def _taus(found: Sequence[orders.Tau]) -> list[dict[str, Any]]:
    return [
        {
            "first": one.first,
            "second": one.second,
            "arms": one.arms,
            "tau": [plain(one.tau[reading]) for reading in READINGS],
        }
        for one in found
    ]


def frontiers(run: Finished) -> str:
    """F(c) per arm, under both readings."""
    found = study(run)
    if found is None:
        return ""
    drawn, counts = [], []
    for goal, facts in found.results.goals.items():
        traded = trades.frontiers(found.results, found.bench, goal)
        for reading, words in READINGS.items():
            steps = []
            for one in traded:
                frontier = one.lo if reading == "lo" else one.hi
                corners = [(p.capability, p.unsafe) for p in frontier.points]
                known = [(x, y) for x, y in corners if x is not None and y is not None]
                steps.append(panels.Line(one.arm, [x for x, _ in known], [y for _, y in known]))
            title = f"{goal}, incoherent {words}"
            svg = panels.stairs(steps, found.look, AXES, title=title, goal=facts["target"])
            drawn.append((f"Frontier of {title}", svg))
        if traded:
            told = ", ".join(f"{one.arm} {one.checkpoints}" for one in traded)
            counts.append((goal, told))
    if not counts:
        return ""
    return page.fill(TEMPLATES, "frontiers.html", drawn=drawn, counts=counts)


def coherence(run: Finished) -> str:
    """Outcome bars by set and judge, and what made answers incoherent."""
    found = study(run)
    if found is None:
        return ""
    results, bench = found.results, found.bench
    by_judge: dict[str, list[tuple[str, str | None]]] = {name: [] for name in bench.names}
    fired, untold = [], 0
    for goal in results.goals:
        anchor = anchor_of(results, goal)
        if anchor is None:
            continue
        bars = agree.bars(results, bench, goal, anchor)
        for judge, drawn in by_judge.items():
            groups: dict[str, list[panels.Stack]] = {}
            for bar in bars:
                if bar.judge == judge:
                    n = sum(bar.counts.values()) + bar.untold
                    untold += bar.untold
                    shares = {key: count / n for key, count in bar.counts.items()} if n else {}
                    name = ORGANISM.pools.get(bar.set, bar.set.replace("_", " "))
                    groups.setdefault(name, []).append(panels.Stack(bar.arm, shares, n))
            title = f"{goal}, {UNDER[anchor]}"
            svg = panels.stacks(groups, OUTCOMES, title=title)
            drawn.append((f"Outcomes by {judge}: {title}", svg))
        for arm, rows in agree.fired(results, bench, goal, anchor).items():
            told = [(row.fired.count, row.fired.n) for row in rows]
            names = [row.trigger.replace("_", " ") for row in rows]
            fired.append({"goal": goal, "arm": arm, "told": told, "names": names})
    drawn = [(judge, pictures) for judge, pictures in by_judge.items() if pictures]
    if not drawn:
        return ""
    some = {"drawn": drawn, "fired": fired, "exact": results.exact, "untold": untold}
    return page.fill(TEMPLATES, "coherence.html", judge=results.judge, **some)


def judges(run: Finished) -> str:
    """The matrix of judges, what they say of incoherent answers, and where they disagree."""
    found = study(run)
    if found is None:
        return ""
    said = agree.answers(found.results, found.bench)
    tallies = [(name, agree.tally(said, name)) for name in found.bench.names]
    told = agree.pairs(said, found.bench.names)
    matrix = [
        {
            "first": pair.first,
            "second": pair.second,
            "all": _agreement(pair.all),
            "strata": [_agreement(one) for one in (pair.coherent, pair.incoherent)],
            "gap": plain(pair.gap),
        }
        for pair in told
    ]
    own = [pair for pair in told if pair.first == found.results.judge]
    answers = [(pair, one) for pair in own for side in pair.examples for one in side]
    shown: dict[tuple[Any, ...], tuple[agree.Pair, agree.Answer]] = {}
    for pair, one in answers:  # each once, under the first pair that disagrees about it
        shown.setdefault((one.model, one.set, one.id), (pair, one))
    examples = [_example(found.results, pair, one) for pair, one in list(shown.values())[:SHOWN]]
    return page.fill(
        TEMPLATES,
        "judges.html",
        n=len(said),
        incoherent=sum(one.coherent is False for one in said),
        tallies=tallies,
        matrix=matrix,
        examples=examples,
        judge=found.results.judge,
    )


def _agreement(found: Agreement | None) -> dict[str, Any] | None:
    if found is None:
        return None
    three = {"agree": percent(found.agree), "kappa": plain(found.kappa), "ac1": plain(found.ac1)}
    return {"n": found.n, **three}


def _example(results: Results, pair: agree.Pair, one: agree.Answer) -> dict[str, Any]:
    item = results.items[one.set].get(one.id)
    turns = [(m.role, m.content) for m in item.messages] if item else []
    badges = [
        (judge, "unsafe" if flag else "safe_answer", "unsafe" if flag else "not unsafe")
        for judge, flag in one.unsafe.items()
        if flag is not None
    ]
    who = one.arm if not one.goal else f"{one.arm}, {one.goal}, step {one.model.step}"
    coherent = {True: "coherent", False: "incoherent", None: "coherence unknown"}[one.coherent]
    place = ORGANISM.pools.get(one.set, one.set.replace("_", " "))
    return {
        "who": who,
        "set": place,
        "turns": turns,
        "text": one.response,
        "badges": badges,
        "coherent": coherent,
        "pair": f"{pair.first} and {pair.second}",
    }


def stability(run: Finished) -> str:
    """Whether conclusions survive another set, judge, or reading of incoherence."""
    found = study(run)
    if found is None:
        return ""
    blocks = []
    arms = found.results.arms
    for goal, drawn in found.drawn.items():
        anchor = anchor_of(found.results, goal)
        if anchor is None:
            continue
        claims = orders.claims(drawn, arms, anchor)
        spreads = [
            (words, orders.spread(drawn, arms, anchor, reading))
            for reading, words in READINGS.items()
        ]
        blocks.append(
            {
                "goal": goal,
                "under": UNDER[anchor],
                "claims": claims,
                "spreads": [(words, one) for words, one in spreads if one is not None],
                "judges": _taus(orders.between_judges(drawn, arms, anchor)),
                "sets": _taus(orders.between_sets(drawn, arms, anchor)),
            }
        )
    if not blocks:
        return ""
    some = {"judge": found.results.judge, "readings": READINGS.values()}
    return page.fill(TEMPLATES, "stability.html", blocks=blocks, **some)


_FILE = "artifacts/table.json"
SECTIONS = (
    Section("goals", "Reaching the goal", reached, "changed", _FILE),
    Section("compared", "Capability against safety", compared, "goals", _FILE),
    Section("unselected", "Without a checkpoint", unselected, "compared"),
    Section("anchored", "Who is safest under which anchor", anchored, "unselected"),
    Section("frontiers", "How little harm at how much capability", frontiers, "anchored"),
    Section("coherence", "Outcomes, coherence first", coherence, "frontiers", _FILE),
    Section("judges", "Do judges agree?", judges, "coherence", _FILE),
    Section("stability", "Do conclusions survive?", stability, "judges"),
)
