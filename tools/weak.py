"""Label models of a long table of votes: how good each source is, who copies, soft labels.

  python tools/weak.py votes.csv                   sources and copies, on the terminal
  python tools/weak.py votes.csv --out soft.csv    and a soft label per item

The table (.csv, .jsonl, .parquet, ...) has a row per vote: task, worker, label. Other names of
columns: --task, --worker, --label. Classes in order: --classes safe,unsafe. docs/weak.md has more.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxsafety.core import disk, outputs
from jaxsafety.core.errors import UsageError
from jaxsafety.weak import correlated, dawid_skene, em, generative, majority
from jaxsafety.weak.identify import diagnose
from jaxsafety.weak.labels import Estimate, Labels
from jaxsafety.weak.votes import Votes, read

MODELS = ("generative", "dawid_skene", "majority")


def told(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"unknown: {estimate.cause}"
    if estimate.lo is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.lo:.3f}, {estimate.hi:.3f}]"


def fit(votes: Votes, model: str, seed: int, join: bool) -> tuple[Labels, correlated.Copies | None]:
    settings = em.Settings(seed=seed)
    if model == "majority":
        return majority.fit(votes), None
    if join:
        return correlated.fit(votes, model, settings)
    alone = {"generative": generative.fit, "dawid_skene": dawid_skene.fit}[model]
    return alone(votes, settings), None


def summary(votes: Votes, labels: Labels, copies: correlated.Copies | None) -> str:
    lines = [
        f"{len(votes.array)} items, {len(votes.sources)} sources, classes"
        f" {', '.join(votes.classes)}; {int(votes.silent.sum())} items without a vote"
    ]
    for one in diagnose(votes):
        agree = "-" if one.agreement is None else f"{one.agreement:.3f}"
        lines.append(
            f"  {one.name}: coverage {one.coverage:.3f}, in conflict {one.conflict:.3f},"
            f" agrees with the others' majority {agree} ({one.compared})"
        )
    if copies is not None:
        found = "not tested" if copies.clusters is None else "none found"
        if copies.clusters:
            found = "; ".join(" = ".join(cluster) for cluster in copies.clusters)
        rate = f"false alarms {100 * copies.alarm:g} %"
        lines.append(f"copies ({rate}): {found}" + (f" ({copies.cause})" if copies.cause else ""))
    prior = ", ".join(f"{c} {p:.3f}" for c, p in zip(votes.classes, labels.prior, strict=True))
    lines.append(f"{labels.model}: {prior}; accuracies, {labels.interval}:")
    for source in labels.sources:
        parts = "; ".join(f"on {c} {told(e)}" for c, e in source.by_class.items())
        lines.append(f"  {source.name}: {told(source.accuracy)}; {parts}")
    return "\n".join([*lines, *(f"warning: {line}" for line in labels.warnings)])


def write(path: Path, labels: Labels) -> None:
    """A row per item: task, P of each class, and whether nobody voted."""
    with disk.replaced(path) as temporary, temporary.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["task", *labels.votes.classes, "unlabelled"])
        rows = zip(labels.votes.items, labels.posterior, labels.unlabelled, strict=True)
        for item, row, silent in rows:
            out.writerow([item, *(f"{p:.6f}" for p in row), int(silent)])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("votes")
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    for name in ("task", "worker", "label"):
        parser.add_argument(f"--{name}", default=name)
    parser.add_argument("--classes", default="", help="in order; by default as they sort")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apart", action="store_true", help="do not look for copies")
    parser.add_argument("--out", default="", help="a .csv of soft labels")
    args = parser.parse_args(argv)
    try:
        if args.out:
            outputs.file("out", Path(args.out))
        names = {n: getattr(args, n) for n in ("task", "worker", "label")}
        classes = tuple(x.strip() for x in args.classes.split(",")) if args.classes else None
        votes = read(args.votes, **names, classes=classes)
        labels, copies = fit(votes, args.model, args.seed, not args.apart)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    print(summary(votes, labels, copies))
    if args.out:
        write(Path(args.out), labels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
