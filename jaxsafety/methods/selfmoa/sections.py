"""Sections of `report.html` about the loop: what each round yielded, what each stage did.

No prompt that attackers made is shown. Pinned by tests/methods/test_selfmoa_sections.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsafety.benchmarks.intervals import wilson
from jaxsafety.protocols import Finished, Section
from jaxsafety.report import page, panels

TEMPLATES = Path(__file__).with_name("templates")
NAMES = {
    "harmful_val": "harmful, plain",
    "wrapped_val": "harmful, wrapped",
    "harmless_val": "harmless",
}
FLAGS = {"unsafe": "carried out", "refusal": "refused", "correct": "right"}


def numbered(run: Finished, name: str) -> dict[int, dict[str, Any]]:
    """Artifacts `NAME.0`, `NAME.1`, ... by number."""
    found = run.artifacts(f"{name}.")
    return {int(rest): told for rest, told in sorted(found.items(), key=_order) if rest.isdigit()}


def _order(pair: tuple[str, Any]) -> tuple[int, str]:
    rest = pair[0]
    return (int(rest), rest) if rest.isdigit() else (-1, rest)


def rounds(run: Finished) -> str:
    """A row per round: attacks, why others were not kept, successes, pairs, judges, tokens."""
    made, played = numbered(run, "attack"), numbered(run, "round")
    rows, wins, safe, helpful, used = [], [], [], [], []
    for number, told in played.items():
        attack = made.get(number, {})
        arrays = run.arrays(f"round.{number}")
        count, won = len(told["won"]), sum(map(bool, told["won"]))
        rows.append(
            {
                "round": number + 1,
                "attacks": count,
                "rejected": _parts(attack.get("rejected", {})),
                "won": won,
                "pairs": len(told["pairs"]),
                "left": _parts(told["left_out"]),
                "untold": told["untold"],
                "calls": sum(told["calls"].values()),
                "tokens": told["answer_tokens"] + sum(attack.get("tokens", {}).values()),
            }
        )
        if count:
            used.append(number + 1)
            wins.append(won / count)
            safe.append(_mean(arrays.get("safe")))
            helpful.append(_mean(arrays.get("helpful")))
    if not rows:
        return ""
    series = {"attacks that succeed": wins, "mean P(safe)": safe, "mean helpfulness": helpful}
    lines = [panels.Line(name, used, values) for name, values in series.items() if used]
    labels = ("round", "by the judges of the loop")
    svg = panels.learning(lines, panels.looks(series), labels, title="what the loop sees")
    drawn = [("What the loop's own judges see, by round", svg)]
    return page.fill(TEMPLATES, "rounds.html", rows=rows, drawn=drawn)


def stages(run: Finished) -> str:
    """What the target says to held-out prompts before the first stage and after every one."""
    found = numbered(run, "probe")
    if not found:
        return ""
    drawn, blocks = [], []
    for split, name in NAMES.items():
        told = {k: row[split] for k, row in found.items() if split in row}
        if not told:
            continue
        flags = [f for f in FLAGS if any(row[f][1] for row in told.values())]
        lines = [
            panels.Line(FLAGS[f], list(told), [_share(row[f]) for row in told.values()])
            for f in flags
        ]
        look = panels.looks(FLAGS.values())
        svg = panels.learning(lines, look, ("preference stages", "greedy answers"), title=name)
        drawn.append((f"{name}: over preference stages", svg))
        rows = [
            {"stage": k, "n": row["n"], "shares": [_interval(row[f]) for f in flags]}
            for k, row in told.items()
        ]
        blocks.append({"name": name, "flags": [FLAGS[f] for f in flags], "rows": rows})
    return page.fill(TEMPLATES, "stages.html", blocks=blocks, drawn=drawn)


def _parts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()) if n) or "–"


def _mean(values: Any) -> float:
    """Of what could be told; NaN, a gap in the curve, where nothing could."""
    told = np.asarray([] if values is None else values, np.float64)
    told = told[np.isfinite(told)]
    return float(told.mean()) if told.size else float("nan")


def _share(pair: Sequence[int]) -> float:
    return pair[0] / pair[1] if pair[1] else 0.0


def _interval(pair: Sequence[int]) -> str:
    if not pair[1]:
        return "–"
    lo, hi = wilson(pair[0], pair[1])
    return f"{100 * pair[0] / pair[1]:.1f} [{100 * lo:.1f}, {100 * hi:.1f}]"


SECTIONS: tuple[Section[Finished], ...] = (
    Section("stages", "Held-out prompts, stage by stage", stages, after="changed"),
    Section("rounds", "What each round yielded", rounds, after="stages"),
)
