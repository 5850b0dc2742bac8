"""Which public sets are measured, and from which file: suites, names, and what is not there.

A suite (`safety`, `over_refusal`, `capability`) is every set of `registry.SETS` of this kind whose
file lies in the data directory. A set's own name asks for that set; the common beginning of several
("xstest" of xstest_safe and xstest_unsafe) for those of them that are there.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jaxsafety import registry
from jaxsafety.benchmarks.public import KINDS, PublicSet, listing
from jaxsafety.core.errors import bad


class Found(NamedTuple):
    """A set and its file; `why` says in words why this one of several was taken."""

    set: PublicSet
    path: Path
    why: str


class Sets(NamedTuple):
    """What was asked for: the sets that are there, and those of a suite that are not."""

    found: tuple[Found, ...]
    missing: tuple[PublicSet, ...]

    def lines(self) -> list[str]:
        """One line per set, found ones first."""
        there = [f"{one.set.name}: {one.path} ({one.why})" for one in self.found]
        return there + [
            f"{one.name}: not there (its file is called {' or '.join(one.files)})"
            for one in self.missing
        ]


def find_sets(names: str | Iterable[str], folder: str | Path) -> Sets:
    """Looks for sets in a data directory.

    Args:
      names: suites and sets, as a sequence or as one text with commas.
      folder: the directory; it and two folders below it are searched.

    Returns:
      The sets in the order they were asked for, those of a suite in the registry's, each once.

    Raises:
      UsageError: an unknown name (with the nearest), a set that was asked for by name and is not
        there, nothing found at all, no directory. One line.
    """
    if isinstance(names, str):
        names = names.split(",")
    asked = [name.strip() for name in names if name.strip()]
    if not asked:
        raise bad("suite", "", f"one of {', '.join(KINDS)}, or names of sets")
    wanted = {name: _members(name) for name in asked}
    paths = listing(folder)
    found: dict[str, Found] = {}
    missing: dict[str, PublicSet] = {}
    for name, members in wanted.items():
        there = 0
        for one in members:
            hit = found.get(one.name) or _choose(one, paths, folder)
            there += hit is not None
            if hit is not None:
                found[one.name] = hit
            else:
                missing[one.name] = one
        if not there and name not in KINDS:
            called = " or ".join(dict.fromkeys(p for one in members for p in one.files))
            raise bad("suite", f"{name} (not in {folder})", f"a file called {called} there")
    if not found:
        raise bad("data", str(folder), f"files of {', '.join(asked)}; none of them is there")
    return Sets(tuple(found.values()), tuple(missing.values()))


def _members(name: str) -> list[PublicSet]:
    """The sets that a name stands for."""
    if name in registry.SETS:
        return [registry.resolve(registry.SETS, name)]
    sets = [registry.resolve(registry.SETS, known) for known in registry.SETS]
    if name in KINDS:
        return [one for one in sets if one.kind == name]
    group = [one for one in sets if one.name.startswith(f"{name}_")]
    if not group:
        known = [*KINDS, *registry.SETS]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"{near[0]!r}? known: " if near else ""
        raise bad("suite", name, hint + ", ".join(known))
    return group


def _choose(one: PublicSet, paths: list[Path], folder: str | Path) -> Found | None:
    ranked = one.ranked(paths, folder)
    if not ranked:
        return None
    path, index = ranked[0]
    if len(ranked) == 1:
        return Found(one, path, "the only file of this set")
    others = ", ".join(str(p.relative_to(folder)) for p, _ in ranked[1:4])
    more = f" and {len(ranked) - 4} more" if len(ranked) > 4 else ""
    second, next_index = ranked[1]
    if next_index != index:
        why = f"{one.files[index]} is preferred to {one.files[next_index]}"
    elif one.known(path) and not one.known(second):
        why = f"its sha256 is that of {one.known(path)}"
    else:
        why = "it lies nearest to the top, or is first by name"
    return Found(one, path, f"{why}; not {others}{more}")
