"""What is compared, and how it came out: one row per goal, arm, seed and anchor; none is dropped.

`select` sees curves alone. A row says how its checkpoint was found (`outcome`, and why where there
is none); `fill` adds what was measured there, as counts: `[how many, of how many that the judge can
tell]`. What is not known is None, with `outcome` and `reason` as the cause. The anchors "goal" and
"floor" are those of `benchmarks/anchors.py`, over the grid points of an arm; "last" is the last
step of the arm's first grid point. A floor is a worst case, so its row is settled by `fill`, among
the checkpoints that `select` found to keep it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxsafety.benchmarks import anchors
from jaxsafety.studies.anchored import config
from jaxsafety.studies.anchored.arms import Point
from jaxsafety.studies.anchored.config import AnchoredConfig

GOAL, FLOOR, LAST = "goal", "floor", "last"
NOT_APPLICABLE = "not_applicable"
NOTHING: dict[str, Any] = {"point": None, "step": None, "dev": None}
Row = dict[str, Any]
Verdicts = Mapping[str, Mapping[str, Any]]  # by the names of their artifacts


def select(cfg: AnchoredConfig, seeds: Sequence[int], curves: Mapping[str, Any]) -> dict[str, Any]:
    """Which checkpoints are compared: artifact `selected`.

    Args:
      cfg: of the study.
      seeds: of its trainings.
      curves: {goal: {"base": point, "points": {grid point: {seed: curve}}}}, a curve being a list
        of points {step, correct, n, general: {set: [correct, n]}}.

    Returns:
      {"goals": {goal: what was declared, its target, the base's score}, "rows": [...]}. A row of
      the anchor "floor" has `kept`, the [grid point, step] that keep the general capability.
    """
    arms: dict[str, list[Point]] = {}
    points = config.arms(cfg)
    for point in points:
        arms.setdefault(point.arm, []).append(point)
    told: dict[str, Any] = {}
    rows: list[Row] = []
    for task, declared in config.declared_goals(cfg).items():
        base, known = curves[task]["base"], curves[task]["points"]
        goal = declared.goal(task, cfg.dev, seeds[0])
        plain = [p for p in points if not p.named]
        swept = [capability(p.name, c) for p in plain for c in known.get(p.name, {}).values()]
        ceiling = anchors.find_ceiling(swept)
        target = anchors.resolve_target(goal, rate(base), ceiling)
        told[task] = {
            "declared": declared.target,
            "rho": declared.rho,
            "margin": declared.margin,
            "target": target.value,
            "outcome": target.outcome,
            "base": rate(base),
            "ceiling": ceiling,
        }
        for arm, own in arms.items():
            for seed in seeds:
                found = {p.name: known.get(p.name, {}).get(str(seed)) for p in own}
                found = {name: curve for name, curve in found.items() if curve}
                reason = config.lacks(cfg, own[0])
                head = {"goal": task, "arm": arm, "seed": seed}
                for anchor, row in _rows(cfg, target, base, found, reason):
                    rows.append({**head, "anchor": anchor, **row})
    return {"goals": told, "rows": rows}


def rate(point: Mapping[str, Any]) -> float:
    """The share of right answers on dev."""
    return point["correct"] / point["n"]


def rates(point: Mapping[str, Any]) -> dict[str, float]:
    """The share of right answers per general set."""
    return {name: correct / n for name, (correct, n) in point["general"].items()}


def capability(name: str, curve: Sequence[Mapping[str, Any]]) -> anchors.Curve:
    """A curve as the anchors take it: capability on dev and ||dW||, and nothing else."""
    points = [anchors.Point(p["step"], p["correct"], p["n"], p.get("norm")) for p in curve]
    return anchors.Curve(name, points)


def _rows(
    cfg: AnchoredConfig,
    target: anchors.Target,
    base: Mapping[str, Any],
    curves: Mapping[str, Any],
    reason: str,
) -> Iterator[tuple[str, Row]]:
    """(anchor, outcome and checkpoint) of one arm and seed."""
    names = (GOAL, LAST, *((FLOOR,) if cfg.floor else ()))
    if reason or not curves:  # not curves: the base meets it as declared, nothing was trained
        outcome, why = (NOT_APPLICABLE, reason) if reason else (target.outcome, target.cause)
        for anchor in names:
            yield anchor, {"outcome": outcome, "reason": why, **NOTHING}
        return
    found = anchors.select_goal([capability(n, c) for n, c in curves.items()], target)
    row = {"outcome": found.outcome, "reason": found.cause, **NOTHING}
    if found.run is not None and found.step is not None:
        row |= _at(curves, found.run, found.step)
    yield GOAL, row
    name, curve = next(iter(curves.items()))
    yield LAST, {"outcome": anchors.REACHED, "reason": "", **_at(curves, name, curve[-1]["step"])}
    if cfg.floor:
        floor = anchors.Floor(tuple(base["general"]), cfg.floor)
        lost = [
            anchors.measure_loss(anchors.Setting(name, p["step"], rates(p)), rates(base), floor)
            for name, curve in curves.items()
            for p in curve
        ]
        kept = [[loss.run, loss.step] for loss in lost if loss.within]
        yield FLOOR, {"outcome": "", "reason": "", **NOTHING, "kept": kept}


def _at(curves: Mapping[str, Any], name: str, step: int) -> Row:
    point = next(p for p in curves[name] if p["step"] == step)
    return {"point": name, "step": step, "dev": [point["correct"], point["n"]]}


def wanted(selected: Mapping[str, Any]) -> list[tuple[str, str, int, int]]:
    """(goal, grid point, seed, step) of every checkpoint that is measured, each once."""
    found: dict[tuple[str, str, int, int], None] = {}
    for row in selected["rows"]:
        chosen = [[row["point"], row["step"]]] if row["step"] is not None else row.get("kept", [])
        for name, step in chosen:
            found[row["goal"], name, row["seed"], step] = None
    return list(found)


def fill(
    cfg: AnchoredConfig, selected: Mapping[str, Any], curves: Mapping[str, Any], told: Verdicts
) -> dict[str, Any]:
    """The rows with what was measured: artifact `table`.

    Args:
      cfg: of the study.
      selected: of `select`.
      curves: as there.
      told: verdicts by the names of their artifacts.

    Returns:
      {"goals", "base": counts of the base, "rows"}; `test` and `measured` of a row are counts, its
      `unsafe` is the mean over safety sets.
    """
    rows = []
    for row in selected["rows"]:
        settled = worst(cfg, row, curves[row["goal"]], told) if "kept" in row else row
        rows.append(_filled(settled, told))
    return {"goals": selected["goals"], "base": counts(told, "verdicts.base"), "rows": rows}


def worst(cfg: AnchoredConfig, row: Row, curves: Mapping[str, Any], told: Verdicts) -> Row:
    """The row of a floor at its worst checkpoint."""
    seed, base = str(row["seed"]), rates(curves["base"])
    own = {p.name for p in config.arms(cfg) if p.arm == row["arm"]}
    found = {name: curves["points"][name][seed] for name in own if name in curves["points"]}
    settings = [
        anchors.Setting(name, p["step"], rates(p)) for name, curve in found.items() for p in curve
    ]
    harm = {(name, step): unsafe(told, place(row, name, step)) for name, step in row["kept"]}
    chosen = anchors.select_floor(settings, base, anchors.Floor(tuple(base), cfg.floor), harm)
    settled = {**row, "outcome": chosen.outcome, "reason": chosen.cause}
    if chosen.run is None or chosen.step is None:
        return settled
    return settled | _at(found, chosen.run, chosen.step)


def place(row: Row, name: str, step: int) -> str:
    """Where the verdicts of a checkpoint lie."""
    return f"verdicts.{row['goal']}.{name}.{row['seed']}.{step}"


def _filled(row: Row, told: Verdicts) -> Row:
    if row["step"] is None:
        return {**row, "test": None, "unsafe": None, "measured": None}
    at = place(row, row["point"], row["step"])
    found = counts(told, at)
    test = found.pop("test")["correct"]
    return {**row, "test": test, "unsafe": unsafe(told, at), "measured": found}


def counts(told: Verdicts, start: str) -> dict[str, dict[str, list[int]]]:
    """{set: {flag: [how many, of how many known]}} of the verdicts below a name."""
    found = {}
    for name, verdicts in told.items():
        if name.startswith(f"{start}."):
            flags = verdicts["flags"]
            known = {flag: [v for v in values if v is not None] for flag, values in flags.items()}
            found[name.removeprefix(f"{start}.")] = {
                flag: [sum(values), len(values)] for flag, values in known.items()
            }
    return found


def unsafe(told: Verdicts, start: str) -> float | None:
    """The mean over safety sets of the share of unsafe answers, of those that can be told.

    None where there is a set of which nothing is known, or none at all.
    """
    shares = []
    for name, verdicts in told.items():
        if name.startswith(f"{start}.") and verdicts["kind"] == "safety":
            known = [v for v in verdicts["flags"]["unsafe"] if v is not None]
            if not known:
                return None
            shares.append(sum(known) / len(known))
    return sum(shares) / len(shares) if shares else None


def lines(table: Mapping[str, Any]) -> list[str]:
    """The table in words, a line per row."""
    made = []
    for row in table["rows"]:
        head = f"{row['goal']}, {row['arm']}, seed {row['seed']}, {row['anchor']}:"
        if row["step"] is None:
            made.append(f"{head} {row['outcome']} ({row['reason']})")
            continue
        correct, n = row["test"]
        harm = "unknown" if row["unsafe"] is None else f"{row['unsafe']:.3f}"
        made.append(f"{head} step {row['step']}, test {correct / n:.3f}, unsafe {harm}")
    return made
