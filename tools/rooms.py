"""Draws the package as a house: a room per folder or loose module, an arrow per import.

  python tools/rooms.py            # this checkout
  python tools/rooms.py DIR        # another one, to compare

An import inside a function counts. A room's floor is one above the highest room it imports from.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "jaxsafety"
FRONT = ("__init__", "__main__", "cli", "commands")  # how the package is entered: one room
Graph = dict[str, set[str]]


def modules(package: Path) -> dict[str, Path]:
    """`models.api` -> its file; `models` for a folder's `__init__`, "" for the package's own."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(tree: ast.AST) -> set[str]:
    """Every imported name, also inside functions; `from p import m` counts as p.m."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(tree: ast.AST, known: dict[str, Path]) -> set[str]:
    """Imported modules of the package, without its name; a class counts as its module."""
    found = set()
    for name in imported(tree):
        if name.split(".")[0] == NAME:
            name = name.removeprefix(NAME).removeprefix(".")
            while name and name not in known:
                name = name.rpartition(".")[0]
            found.add(name)
    return found


def room(module: str) -> str:
    """`data` for data.files.rows; "" for the front."""
    first = module.split(".")[0]
    return "" if first in FRONT else first


def graph(package: Path) -> Graph:
    """Module -> the modules that it imports."""
    known = modules(package)
    return {name: own(ast.parse(file.read_text()), known) for name, file in known.items()}


def circles(arrows: Graph) -> list[str]:
    """Those that reach themselves."""
    found = []
    for start in arrows:
        seen, ahead = set(), list(arrows[start])
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += arrows.get(name, ())
        found += [start] * (start in seen)
    return found


def house(arrows: Graph) -> tuple[Graph, dict[str, int]]:
    """Room -> rooms that it imports from, and the floor of each room, from 1."""
    rooms: Graph = defaultdict(set)
    for module, targets in arrows.items():
        rooms[room(module)] |= {room(t) for t in targets} - {room(module)}
    floors: dict[str, int] = {}

    def floor(name: str, above: tuple[str, ...] = ()) -> int:
        if name not in floors:
            below = [floor(t, (*above, name)) for t in rooms.get(name, ()) if t not in above]
            floors[name] = 1 + max(below, default=0)
        return floors[name]

    for name in sorted(rooms):
        floor(name)
    return dict(rooms), floors


def drawn(package: Path) -> str:
    """The house in words, the top floor first."""
    arrows = graph(package)
    rooms, floors = house(arrows)
    lines = [
        f"{len(rooms)} rooms, {max(floors.values())} floors,"
        f" {sum(map(len, rooms.values()))} arrows; modules that reach themselves:"
        f" {', '.join(circles(arrows)) or 'none'}"
    ]
    for level in range(max(floors.values()), 0, -1):
        for name in sorted(n for n, f in floors.items() if f == level):
            below = ", ".join(sorted(t or "front" for t in rooms[name]))
            lines.append(f"{level:2}  {name or 'front'} -> {below or '-'}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(drawn((Path(sys.argv[1]) if sys.argv[1:] else ROOT) / NAME))
