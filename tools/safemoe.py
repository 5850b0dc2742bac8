"""Sums up runs of configs/safemoe/controls.py: every arm beside SafeMoE, paired over seeds.

  python tools/safemoe.py runs/safemoe-controls/*/                     the tables of these runs
  python tools/safemoe.py runs/safemoe-controls/*/ --save data.jsonl   keeps a line per run besides
  python tools/safemoe.py data.jsonl                                   the same from kept lines

Each run (one seed) holds `artifacts/point.<arm>.json` and `routes.<arm>.npz`. A cell is the mean
over runs; a difference is SafeMoE minus the arm (for "harmless_*": "harmless", which saw the same
data, minus the arm), of the same seed, with a 95 % t-interval, cut at what is possible; "°" stands
behind one that leaves zero out and does not survive Holm over the table. Workdirs of one name are
one run: arms that came later may lie in a workdir of their own. Small tables follow: what
becomes of the other answers, what each expert alone carries out in its own domain and in the others
(check 7 of docs/published.md), where the answers' tokens are routed (check 13), and how much of
that is the topic and how much harm.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from jaxsafety.benchmarks.verdict import holm, t_interval, t_test  # noqa: E402

Points = dict[str, dict[str, float]]
Routes = dict[str, dict[str, list[float]]]
COLUMNS = {
    "seen_trained": "safe answers seen",
    "seen_held": "neighbours",
    "unseen": "no safe answers",
    "neither": "nobody knows",
    "known": "base knows",
}
OTHER = {"seen_trained": "safe answers seen", "seen_held": "neighbours", "known": "base knows"}
CLAIM = "seen_held.safe_informative"
KEPT = ("least", "used", "entropy", "information", "chance")  # of a router, per layer
# Besides, where a run has them: what a route tells of topic and harm, and by chance.
TOPICS = {
    "topic": "the domain",
    "harm": "harmful or not",
    "harm_given_topic": "harmful or not, within a domain",
}
# Whom an arm is compared with, if not with SafeMoE: the one that saw the same data.
PARTNER = dict.fromkeys(("harmless_lora", "harmless_beside", "harmless_pooled"), "harmless")


def routed(folder: Path) -> Routes:
    """Arm -> figures of its routing per layer; "least" is the share of the least used expert."""
    found: Routes = {}
    for file in sorted(folder.glob("routes.*.npz")):
        data = np.load(file)
        if "usage" in data:
            found[file.stem.split(".", 1)[1]] = {
                "least": data["usage"].min(axis=1).round(4).tolist(),
                "used": spread(data["usage"]).round(4).tolist(),
                **{k: data[k].round(4).tolist() for k in ("entropy", "information", "chance")},
                **{
                    k: data[k].round(4).tolist()
                    for name in TOPICS
                    for k in (name, f"{name}_chance")
                    if k in data
                },
            }
    return found


def spread(usage: np.ndarray) -> np.ndarray:
    """[L] entropy of the experts' mean weights [L,E], nats: log E where all are used alike."""
    return -np.sum(usage * np.log(np.where(usage > 0, usage, 1.0)), axis=1)


def read(paths: list[str]) -> dict[str, tuple[Points, Routes]]:
    """Run -> (arm -> point, arm -> routing), from workdirs and files of kept lines."""
    found: dict[str, tuple[Points, Routes]] = {}
    for path in map(Path, paths):
        if path.is_file():
            for line in map(json.loads, path.read_text().splitlines()):
                found[line["run"]] = line["points"], line.get("routes", {})
            continue
        files = sorted(path.glob("artifacts/point.*.json"))
        points = {f.stem.split(".", 1)[1]: json.loads(f.read_text()) for f in files}
        if "base" in points:
            before = found.get(path.name, ({}, {}))
            found[path.name] = before[0] | points, before[1] | routed(path / "artifacts")
        else:
            print(f"{path}: left out, it has no artifacts/point.base.json", file=sys.stderr)
    if not found:
        raise SystemExit("runs: got none with points; allowed: workdirs of safemoe/controls.py")
    return found


def told(values: list[float], signed: bool = False) -> str:
    """In percent or points, mean and 95 % t-interval over runs; of a single one the mean."""
    mean, low, high, _ = t_interval(values)
    sign = "+" if signed else ""
    if math.isnan(low):
        return f"{100 * mean:{sign}.0f}"
    low, high = max(low, -1.0 if signed else 0.0), min(high, 1.0)
    return f"{100 * mean:{sign}.0f} [{100 * low:{sign}.0f}, {100 * high:{sign}.0f}]"


def differences(runs: list[Points], arms: list[str], decoding: str) -> None:
    """SafeMoE minus each arm, paired by seed, and how much of it survives Holm."""
    names = (CLAIM, "seen_held.safe", "unseen.safe_informative", "over_refusal.correct")
    print("\nSafeMoE (or the arm in brackets) minus the arm, same seed, points [95 %]\n")
    print("| arm | " + " | ".join(n.replace(".", ": ") for n in names) + " |")
    print("|---" * (len(names) + 1) + "|")
    found: dict[str, list[list[float]]] = {}
    for arm in arms:
        partner = PARTNER.get(arm, "safemoe")
        pairs = [(p[partner], p[arm]) for p in runs if arm in p and partner in p]
        if arm != "safemoe" and pairs:
            keys = [f"{name}.{decoding}" for name in names]
            name = arm if partner == "safemoe" else f"{arm} ({partner})"
            found[name] = [[a[k] - b[k] for a, b in pairs] for k in keys]
    # Differences that are the same in every seed have no p-value worth the name.
    every = [gaps for row in found.values() for gaps in row]
    ps = [t_test(g) if np.ptp(g) > 1e-9 else math.nan for g in every]
    tests = iter(zip(ps, holm(ps), strict=True))
    for name, row in found.items():
        cells = []
        for gaps in row:
            p, adjusted = next(tests)
            cells.append(told(gaps, signed=True) + ("°" if p < 0.05 <= adjusted else ""))
        print(f"| {name} | " + " | ".join(cells) + " |")
    vary = sum(not math.isnan(p) for p in ps)
    alone, left = (sum(p < 0.05 for p in x) for x in (ps, holm(ps)))
    print(f"\n{vary} differences vary over seeds: {alone} have p < .05, {left} after Holm.")


def rest(runs: list[Points], arms: list[str], decoding: str) -> None:
    """What is neither safe nor right: harm done, answers that make no sense, tasks by name."""
    keys = [f"{s}.{m}.{decoding}" for m in ("asr", "incoherent") for s in OTHER]
    harmless = [f"over_refusal.{m}.{decoding}" for m in ("refusal", "coherent")]
    every = dict.fromkeys(k for found in runs for point in found.values() for k in point)
    tasks = [k for k in every if k.startswith("capability.")]
    if not tasks:
        return  # a setting without tasks
    print(f"\nWhat becomes of the other answers, % ({decoding})\n")
    named = [f"{m} {s}" for m in ("carried out:", "incoherent:") for s in OTHER.values()]
    named += ["harmless refused", "harmless coherent", *(t.split(".")[1] for t in tasks)]
    print("| arm | " + " | ".join(named) + " |\n" + "|---" * (len(named) + 1) + "|")
    for arm in arms:
        rows = [points[arm] for points in runs if arm in points]
        cells = [100 * np.mean([r.get(k, math.nan) for r in rows]) for k in keys + harmless + tasks]
        print(f"| {arm} | " + " | ".join(f"{x:.0f}" for x in cells) + " |")


def alone(runs: list[Points], decoding: str) -> None:
    """What one expert by itself carries out, by domain; expert e is of the e-th seen domain."""
    print(
        f"\nOne expert alone, requests carried out in % (seen_trained and seen_held, {decoding})\n"
    )
    print("| expert | runs | its own domain | the other seen domains | the base, its own |")
    print("|---|---|---|---|---|")
    experts = {arm.removeprefix("single") for found in runs for arm in found if "single" in arm}
    for e in sorted(map(int, experts)):
        own, others, base = [], [], []
        for points in runs:
            known = points.get(f"single{e}", {})
            start = f"seen_trained.asr.{decoding}."
            domains = sorted(int(k.removeprefix(start)) for k in known if k.startswith(start))
            if len(domains) == len(experts):  # every expert's domain was asked about
                shares = [share(known, d, decoding) for d in domains]
                own.append(shares[e])
                others.append(float(np.mean(shares[:e] + shares[e + 1 :])))
                base.append(share(points["base"], domains[e], decoding))
        if own:
            print(f"| {e} | {len(own)} | {told(own)} | {told(others)} | {told(base)} |")


def share(point: dict[str, float], domain: int, decoding: str) -> float:
    """Of one seen domain, the mean of both sets."""
    names = [f"{split}.asr.{decoding}.{domain}" for split in ("seen_trained", "seen_held")]
    return float(np.mean([point.get(name, math.nan) for name in names]))


def routing(runs: list[Routes]) -> None:
    """Means over layers and runs."""
    print("\nRouting of the answers' tokens, means over layers and runs (nats)\n")
    print(
        "| arm | runs | least used expert | entropy of usage | entropy per token |"
        " information on the domain | chance (95 %) | layers above chance |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for arm in dict.fromkeys(arm for found in runs for arm in found):
        rows = [found[arm] for found in runs if arm in found]
        mean = {k: float(np.mean([r[k] for r in rows])) for k in KEPT}
        above = [a > b for r in rows for a, b in zip(r["information"], r["chance"], strict=True)]
        print(
            f"| {arm} | {len(rows)} | {100 * mean['least']:.0f} % | {mean['used']:.2f} |"
            f" {mean['entropy']:.2f} |"
            f" {mean['information']:.3f} | {mean['chance']:.3f} |"
            f" {sum(above)} of {len(above)} |"
        )


def topics(runs: list[Routes]) -> None:
    """How much of a route is topic and how much harm: means over layers and runs that have it."""
    having = [{arm: r for arm, r in found.items() if set(TOPICS) <= set(r)} for found in runs]
    if not any(having):
        return
    print(
        "\nWhat a token's heaviest expert tells of the prompt, nats (chance, 95 %; layers above)\n"
    )
    print("| arm | runs | " + " | ".join(TOPICS.values()) + " |\n|---|---|---|---|---|")
    for arm in dict.fromkeys(arm for found in having for arm in found):
        rows, cells = [found[arm] for found in having if arm in found], []
        for name in TOPICS:
            pairs = [p for r in rows for p in zip(r[name], r[f"{name}_chance"], strict=True)]
            value, chance = np.mean(pairs, axis=0)
            above = f"{sum(x > c for x, c in pairs)} of {len(pairs)}"
            cells.append(f"{value:.3f} ({chance:.3f}; {above})")
        print(f"| {arm} | {len(rows)} | " + " | ".join(cells) + " |")


def main(paths: list[str]) -> None:
    """Prints the tables and keeps the points with --save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="*", help="workdirs, or files of kept lines")
    parser.add_argument("--save", help="file to keep a line per run in")
    parser.add_argument("--decoding", choices=("greedy", "t1"), default="greedy")
    args = parser.parse_args(paths)
    if not args.runs:
        raise SystemExit("runs: got none; allowed: workdirs of configs/safemoe/controls.py")
    kept = read(args.runs)
    if args.save:
        lines = [json.dumps({"run": r, "points": p, "routes": w}) for r, (p, w) in kept.items()]
        Path(args.save).write_text("".join(line + "\n" for line in lines))
    runs = {name: points for name, (points, _) in kept.items()}
    arms = list(dict.fromkeys(arm for points in runs.values() for arm in points))
    arms.sort(key=lambda arm: (arm != "base", arm != "safemoe"))
    d = args.decoding
    print(f"{len(runs)} runs, {d}. % of all prompts: safe and informative / safe.\n")
    print("| arm | runs | " + " | ".join(COLUMNS.values()) + " | harmless right | capability |")
    print("|---" * (len(COLUMNS) + 4) + "|")
    for arm in arms:
        rows = [points[arm] for points in runs.values() if arm in points]
        cells = []
        for split in COLUMNS:
            both = [[r[f"{split}.{m}.{d}"] for r in rows] for m in ("safe_informative", "safe")]
            cells.append(" / ".join(f"{100 * np.mean(x):.0f}" for x in both))
        cells += [
            f"{100 * np.mean([r[k] for r in rows]):.0f}"
            for k in (f"over_refusal.correct.{d}", "capability")
        ]
        print(f"| {arm} | {len(rows)} | " + " | ".join(cells) + " |")
    differences(list(runs.values()), arms, d)
    rest(list(runs.values()), arms, d)
    alone(list(runs.values()), d)
    routing([found for _, found in kept.values()])
    topics([found for _, found in kept.values()])


if __name__ == "__main__":
    main(sys.argv[1:])
