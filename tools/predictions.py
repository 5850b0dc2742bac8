"""Predictions that nobody changes once results exist: docs/predictions/NAME.md and frozen.json.

  python tools/predictions.py freeze NAME      records the file's sha256, before its results exist
  python tools/predictions.py check            says what was changed, forgotten or frozen too late

docs/predictions/README.md has the rules. The history is read with git where there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "docs/predictions"
INDEX = f"{FOLDER}/frozen.json"
NAME = re.compile(r"[a-z0-9_]+")
RESULTS = re.compile(r"^Results: *(\S.*)$", re.MULTILINE)
Frozen = dict[str, dict[str, object]]


def digest(path: Path) -> str:
    """Of the bytes; a file with other line ends is another file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def results_of(text: str) -> list[str]:
    """Files that a prediction says its raw lines will lie in."""
    return [p.strip() for line in RESULTS.findall(text) for p in line.split(",") if p.strip()]


def frozen(root: Path) -> Frozen:
    """Name -> digest and results files."""
    path = root / INDEX
    return json.loads(path.read_text()) if path.is_file() else {}


def freeze(name: str, root: Path = ROOT) -> str:
    """Records a prediction, and returns its digest.

    Raises:
      SystemExit: no such file, no results named, results that exist, another digest that is frozen.
    """
    path = root / FOLDER / f"{name}.md"
    if not NAME.fullmatch(name) or not path.is_file():
        raise SystemExit(
            f"predictions: got {name!r}; allowed: a file {FOLDER}/NAME.md of a-z, 0-9, _"
        )
    results = results_of(path.read_text())
    if not results:
        raise SystemExit(f"predictions: {name}.md has no line 'Results: docs/results/NAME.jsonl'")
    there = [file for file in results if (root / file).exists()]
    if there:
        raise SystemExit(f"predictions: {name} is too late, its results exist: {', '.join(there)}")
    known, found = frozen(root), digest(path)
    if name in known and known[name]["sha256"] != found:
        raise SystemExit(f"predictions: {name} is frozen and was changed since; write another file")
    known[name] = {"sha256": found, "results": results}
    (root / INDEX).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return found


def check(root: Path = ROOT) -> list[str]:
    """A line per prediction that was changed, lost, forgotten or frozen too late."""
    known, wrong = frozen(root), []
    for name, entry in known.items():
        path = root / FOLDER / f"{name}.md"
        if not path.is_file():
            wrong.append(f"{name}: frozen and gone")
        elif digest(path) != entry["sha256"]:
            wrong.append(f"{name}: not what was frozen")
    for path in sorted((root / FOLDER).glob("*.md")):
        if path.stem == "README" or path.stem in known:
            continue
        there = [file for file in results_of(path.read_text()) if (root / file).exists()]
        if there:
            wrong.append(f"{path.stem}: never frozen, and {', '.join(there)} exists")
    return wrong + _history(known, root)


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints; None where there is no git, no history or no such thing."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _history(known: Frozen, root: Path) -> list[str]:
    """Digests that were changed or taken out, and predictions no older than their results."""
    if (_git(root, "rev-parse", "--is-shallow-repository") or "").strip() == "true":
        return []  # the oldest commit that is there seems to have made every file
    commits = (_git(root, "log", "--reverse", "--format=%H", "--", INDEX) or "").split()
    first: dict[str, tuple[str, object]] = {}
    for commit in commits:
        for name, entry in json.loads(_git(root, "show", f"{commit}:./{INDEX}") or "{}").items():
            first.setdefault(name, (commit, entry["sha256"]))
    wrong = []
    for name, (commit, sha256) in first.items():
        if name not in known:
            wrong.append(f"{name}: was frozen once and taken out")
        elif known[name]["sha256"] != sha256:
            wrong.append(f"{name}: its digest was changed since {commit[:7]}")
        for file in known.get(name, {}).get("results", ()):
            made = (_git(root, "log", "--reverse", "--format=%H", "--", str(file)) or "").split()
            older = made and _git(root, "merge-base", "--is-ancestor", commit, made[0]) is not None
            if made and (made[0] == commit or not older):
                wrong.append(f"{name}: came no earlier than {file}")
    return wrong


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="exit code 1 and a line for each that is wrong")
    commands.add_parser("freeze", help="record a digest").add_argument("name")
    args = parser.parse_args(argv)
    if args.command == "freeze":
        print(f"{args.name}: {freeze(args.name)}")
    elif wrong := check():
        print("\n".join(wrong), file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
