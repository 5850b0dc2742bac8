"""Sums up runs of `launch/anchored.sh`: arms under each anchor, orders, coherence, judges.

  python tools/anchored.py runs/anchored/0-*                      tables over seeds, per goal
  python tools/anchored.py runs/anchored/0-* --save data.jsonl    keeps a line per row besides
  python tools/anchored.py data.jsonl                             what the kept lines alone can tell

All runs of a call are of one world (or one model), and differ in seed or goals. Intervals are 95 %,
of a bootstrap over the prompts of the safety sets crossed with seeds; the kept lines have counts,
from which shares can be computed again, not intervals.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsafety.benchmarks import cells
from jaxsafety.benchmarks.agreement import Statistic
from jaxsafety.report.load import Run
from jaxsafety.studies.anchored.results import agree, orders, rates
from jaxsafety.studies.anchored.results.judges import Bench
from jaxsafety.studies.anchored.results.read import NOBODY, Model, Results, read
from jaxsafety.studies.anchored.table import GOAL, LAST

PLAIN = "plain"


def joined(runs: Sequence[Results]) -> Results:
    """Several finished studies as one: other seeds, or other goals, of the same base.

    Raises:
      SystemExit: two runs with one (goal, arm, seed), or whose bases answered otherwise.
    """
    first = runs[0]
    seen: set[tuple[str, str, int]] = set()
    for run in runs:
        own = {(row["goal"], row["arm"], row["seed"]) for row in run.rows}
        if own & seen:
            raise SystemExit(f"anchored: two runs have {sorted(own & seen)[0]}")
        seen |= own
        for name in first.sets:
            if run.answers[NOBODY][name] != first.answers[NOBODY][name]:
                raise SystemExit(f"anchored: the bases of two runs answer {name} otherwise")
    answers: dict[Model, Any] = {}
    for run in runs:
        for model, told in run.answers.items():
            answers[model] = {**told, **answers.get(model, {})}
    return dataclasses.replace(
        first,
        goals={goal: told for run in runs for goal, told in run.goals.items()},
        rows=tuple(row for run in runs for row in run.rows),
        curves={key: curve for run in runs for key, curve in run.curves.items()},
        base_dev={goal: told for run in runs for goal, told in run.base_dev.items()},
        answers=answers,
    )


def told(one: Statistic, scale: float = 100, digits: int = 1) -> str:
    """A value with its interval, or a dash."""
    if one.value is None:
        return "-"
    lo, hi = one.lo, one.hi
    value = f"{scale * one.value:.{digits}f}"
    if lo is None or hi is None:
        return value
    return f"{value} [{scale * lo:.{digits}f}, {scale * hi:.{digits}f}]"


def standings(results: Results, drawn: rates.Drawn, goal: str) -> Iterator[str]:
    """Arms under anchors, as rows of a table in markdown."""
    yield f"\n### `{goal}`: percent with 95 % intervals\n"
    yield (
        "| arm | anchor | seeds | steps | right on test | unsafe, coherent | with incoherent |"
        " harmless refused |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for one in rates.standings(results, drawn, goal):
        steps = ", ".join(map(str, one.steps))
        head = f"| {one.arm.replace('|', '/')} | {one.anchor or '-'} | {one.seeds} of {one.of}"
        shares = " | ".join(map(told, (one.test, one.lo, one.hi, one.refused)))
        yield f"{head} | {steps} | {shares} |"
    missing: dict[tuple[str, str, str], list[int]] = {}
    for row in results.rows:
        if row["goal"] == goal and row["step"] is None:
            key = row["arm"], row["anchor"], row["outcome"]
            missing.setdefault(key, []).append(row["seed"])
    for (arm, anchor, outcome), seeds in missing.items():
        yield f"- {arm}, {anchor}: {outcome} (seeds {', '.join(map(str, seeds))})"


def taus(results: Results, drawn: rates.Drawn) -> Iterator[str]:
    """Kendall's tau between orders under the anchors, and how far cells agree."""
    for one in orders.between_anchors(drawn, results.arms, results.anchors):
        parts = "; ".join(f"incoherent as {r} {told(t, 1, 2)}" for r, t in one.tau.items())
        yield f"- tau {one.first} / {one.second}, {one.arms} arms: {parts}"
    for reading in cells.READINGS:
        anchor = GOAL if (GOAL, PLAIN) in drawn.models else LAST
        found = orders.spread(drawn, results.arms, anchor, reading)
        if found:
            yield (
                f"- tau between cells at the {anchor}, incoherent as {reading}: median"
                f" {found.middle:.2f}, least {found.low:.2f}, {found.below} of {found.pairs}"
                " below 0"
            )


def signs(results: Results, drawn: rates.Drawn) -> Iterator[str]:
    """What can be said of each arm against the base."""
    anchor = GOAL if (GOAL, PLAIN) in drawn.models else LAST
    for one in orders.claims(drawn, results.arms, anchor):
        every, own = one.all, one.own
        yield (
            f"- {one.arm} at the {anchor}, all judges: {every.verdict} ({every.up} up, {every.down}"
            f" down, {every.undecided} undecided); the run's judge alone: {own.verdict}"
            f" ({own.up}, {own.down}, {own.undecided})"
        )


def incoherent(results: Results, bench: Bench, arm: str = PLAIN) -> Iterator[str]:
    """C5: the share of incoherent answers of an arm to safety prompts, by goal and anchor."""
    table: dict[cells.Key, cells.Cell] = {}
    shown: list[str] = []
    for goal in results.goals:
        for anchor in (GOAL, LAST):
            for row, model in results.at(goal, anchor):
                if row["arm"] != arm:
                    continue
                name = f"{goal} {anchor}"
                shown += [name] if name not in shown else []
                for which in results.sets:
                    votes = bench.votes(model, which)
                    flags = (votes.unsafe[results.judge], votes.coherent)
                    key = cells.Key(name, model.seed, which, results.judge)
                    table[key] = cells.Cell(*(_array(x) for x in flags))
    if not table:
        return
    drawn = cells.resample(cells.Table(table), resamples=rates.RESAMPLES)

    def share(name: str) -> np.ndarray:
        every = [drawn.rate(name, s, results.judge, "incoh") for s in results.sets]
        return np.mean(every, axis=0)

    size = sum(len(results.answers[NOBODY][name].ids) for name in results.sets)
    yield f"\n### Incoherent answers to safety prompts, {arm}\n"
    for name in shown:
        yield f"- {name}: {told(rates.statistic(share(name), size))}"
    for i, one in enumerate(shown):
        for other in shown[i + 1 :]:
            gap = share(one) - share(other)
            lo, hi = np.quantile(gap[1:], [0.025, 0.975])
            yield f"- {one} minus {other}: {told(Statistic(float(gap[0]), lo, hi))}"


def judges(results: Results, bench: Bench) -> Iterator[str]:
    """C6: agreement where answers are coherent and where they are not, and which way lists err."""
    said = agree.answers(results, bench)
    yield "\n### Judges: kappa on coherent, on incoherent answers, and the difference\n"
    for pair in agree.pairs(said, bench.names):
        if results.judge not in (pair.first, pair.second):
            continue
        parts = [told(p.kappa, 1, 2) if p else "-" for p in (pair.coherent, pair.incoherent)]
        yield f"- {pair.first}, {pair.second}: {parts[0]}; {parts[1]}; {told(pair.gap, 1, 2)}"
    for judge in bench.names:
        counts = agree.tally(said, judge)
        n = sum(counts.values())
        yield f"- of {n} incoherent answers {judge} calls {counts['unsafe']} unsafe"


def lines(results: Results, bench: Bench, runs: Sequence[Path]) -> list[dict[str, Any]]:
    """A row of the table each, with counts per set and judge: [both, unsafe, coherent, n].

    "harmless" has [refused, n] of each set of harmless prompts.
    """
    meta = [json.loads((run / "meta.json").read_text()) for run in runs]
    about = {
        "runs": [run.name for run in runs],
        "commit": sorted({str(m.get("git")) for m in meta}),
    }
    found: list[dict[str, Any]] = [{"about": about, "goals": results.goals, "judge": results.judge}]
    start = {"counts": counted(results, bench, NOBODY, bench.names)}
    found.append({"arm": "base", **start, "harmless": refusals(results, NOBODY)})
    for row in results.rows:
        line = {k: v for k, v in row.items() if k not in ("measured", "kept")}
        if row["step"] is not None:
            model = Model(row["goal"], row["point"], row["seed"], row["step"])
            own = bench.names if row["anchor"] != "floor" else bench.names[:1]
            line["counts"] = counted(results, bench, model, own)
            line["harmless"] = refusals(results, model)
        found.append(line)
    for (goal, point, seed), curve in results.curves.items():
        dev = [[p["step"], p["correct"], p["n"]] for p in curve["points"]]
        found.append({"goal": goal, "point": point, "seed": seed, "dev": dev})
    return found


def refusals(results: Results, model: Model) -> dict[str, list[int]]:
    """{set of harmless prompts: [refused, n]} of what the run's judge can tell."""
    found = {}
    for name in results.harmless:
        flags = [x for x in results.answers[model][name].flags["refusal"] if x is not None]
        found[name] = [sum(flags), len(flags)]
    return found


def counted(results: Results, bench: Bench, model: Model, names: Sequence[str]) -> dict[str, Any]:
    """{set: {judge: [unsafe and coherent, unsafe, coherent, n]}} of what the judge can tell."""
    counts: dict[str, Any] = {}
    for name in results.sets:
        votes = bench.votes(model, name)
        for judge in names:
            u, k = _array(votes.unsafe[judge]), _array(votes.coherent)
            u, k = (x[~np.isnan(u) & ~np.isnan(k)] for x in (u, k))
            told_of = [int((u * k).sum()), int(u.sum()), int(k.sum()), len(u)]
            counts.setdefault(name, {})[judge] = told_of
    return counts


def kept(path: Path) -> Iterator[str]:
    """What kept lines tell: counts summed over seeds, percent, by the run's own judge."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    judge = rows[0]["judge"]
    sums: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for row in rows:
        if "anchor" in row and row.get("counts"):
            key = row["goal"], row["arm"], row["anchor"]
            sums.setdefault(key, []).append(np.array([c[judge] for c in row["counts"].values()]))
    yield "| goal | arm | anchor | seeds | unsafe, coherent | unsafe or incoherent |"
    yield "|---|---|---|---|---|---|"
    for (goal, arm, anchor), found in sums.items():
        both, _, coherent, n = np.sum(found, axis=0).T
        lo, hi = (100 * np.mean(x / n) for x in (both, both + n - coherent))
        arm = arm.replace("|", "/")
        yield f"| {goal} | {arm} | {anchor} | {len(found)} | {lo:.1f} | {hi:.1f} |"


def _array(flags: Sequence[bool | None]) -> np.ndarray:
    return np.array([np.nan if flag is None else float(flag) for flag in flags], float)


def main() -> None:
    """See the docstring above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("paths", nargs="+", type=Path, help="workdirs, or one file of kept lines")
    parser.add_argument("--save", type=Path, default=None, help="keep a line per row")
    args = parser.parse_args()
    if len(args.paths) == 1 and args.paths[0].is_file():
        print("\n".join(kept(args.paths[0])))
        return
    runs = [path for path in args.paths if path.is_dir()]
    found = [read(Run(run)) for run in runs]
    for run, one in zip(runs, found, strict=True):
        if one is None:
            print(f"{run}: no table yet")
    done = [(run, one) for run, one in zip(runs, found, strict=True) if one is not None]
    if not done:
        raise SystemExit("no finished run")
    results = joined([one for _, one in done])
    bench = Bench(results)
    for goal in results.goals:
        drawn = rates.draw(results, bench, goal)
        for part in (standings(results, drawn, goal), taus(results, drawn), signs(results, drawn)):
            print("\n".join(part))
    print("\n".join([*incoherent(results, bench), *judges(results, bench)]))
    if args.save:
        whole = lines(results, bench, [run for run, _ in done])
        args.save.write_text("".join(json.dumps(line) + "\n" for line in whole))


if __name__ == "__main__":
    main()
