"""The sets of a measurement: public ones from a directory, files of one's own, the organism's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety import registry
from jaxsafety.benchmarks import public, suites
from jaxsafety.benchmarks.files import items
from jaxsafety.benchmarks.outcomes import POOLS
from jaxsafety.benchmarks.public import KINDS
from jaxsafety.core.errors import bad
from jaxsafety.data.files import located
from jaxsafety.evaluation import evaluate
from jaxsafety.experiment.measuring.request import Request
from jaxsafety.organism.world import World
from jaxsafety.protocols import Benchmark

MAX_TOKENS = 256  # of an answer to a file of one's own
DEFAULT = 96  # of them, where no limit is given: its tasks never end


class Sets(NamedTuple):
    """What is measured: benchmarks, name -> facts, and lines for the log (what is not there)."""

    benchmarks: tuple[Benchmark, ...]
    facts: dict[str, dict[str, Any]]
    lines: tuple[str, ...]
    missing: tuple[str, ...]


def open_sets(request: Request, world: World | None) -> Sets:
    """Reads every file that is asked for.

    Args:
      request: with suite, data, limit, seed and max_tokens.
      world: of the organism, for its own sets.

    Raises:
      UsageError: a set or suite that does not exist, a directory without any set, a broken row,
        two sets of one name.
    """
    folder, files, own = _places(request.data)
    opened: list[tuple[Benchmark, dict[str, Any]]] = []
    lines: list[str] = []
    missing: list[str] = []
    worlds = [name for name in request.suite if name in registry.BENCHMARKS]
    # A suite without a directory is the files that were named.
    given = {*files, *(KINDS if files and not folder else ())}
    wanted = [n for n in request.suite if n not in registry.BENCHMARKS and n not in given]
    opened += [_public(registry.resolve(registry.SETS, n), f, request) for n, f in files.items()]
    if wanted:
        if not folder:
            raise bad("--data", "nothing", f"a directory with files of {', '.join(wanted)}")
        sets = suites.find_sets(wanted, folder)
        found = [one for one in sets.found if one.set.name not in files]
        missing = [one.name for one in sets.missing if one.name not in files]
        lines += [f"{one.set.name}: {one.path} ({one.why})" for one in found]
        opened += [_public(one.set, one.path, request) for one in found]
    elif folder:
        raise bad("--data", folder, "with --suite, which says what to look for in it")
    opened += [_own(kind, name, path, request) for kind, name, path in own]
    for table in worlds:
        opened += _made(table, world, request)
    if request.max_tokens:
        longest = request.max_tokens
        opened = [
            (b._replace(max_tokens=longest) if b.form == "text" else b, facts)
            for b, facts in opened
        ]
    benchmarks = [bench for bench, _ in opened]
    evaluate.check_sets(benchmarks, ())
    facts = {b.name: {**told, "max_tokens": b.max_tokens} for b, told in opened}
    if missing:
        lines.append(f"not in the data: {', '.join(missing)}")
    for name, told in facts.items():
        if told.get("version") is None and told.get("version_note", "").startswith("other"):
            lines.append(f"{name}: {told['version_note']} ({told['file']})")
    return Sets(tuple(benchmarks), facts, tuple(lines), tuple(missing))


def _places(data: Sequence[str]) -> tuple[str, dict[str, Path], list[tuple[str, str, str]]]:
    """The directory, set -> file, and (kind, name, file) of --data."""
    folder, files, own = "", {}, []
    for text in data:
        head, equals, path = text.partition("=")
        kind, slash, name = head.partition("/")
        if Path(text).is_dir():
            if folder:
                raise bad("--data", text, f"one directory; {folder} is one")
            folder = text
        elif not equals:
            raise bad("--data", text, "an existing directory, SET=FILE, or KIND/NAME=FILE")
        elif slash:
            if kind not in KINDS:
                raise bad("--data", text, f"KIND/NAME=FILE with a KIND of {', '.join(KINDS)}")
            if name in POOLS:
                raise bad("--data", text, f"another NAME: {name} is what all sets of a kind make")
            own.append((kind, name, path))
        else:
            registry.resolve(registry.SETS, head)  # an unknown one is one line
            if not located.is_there(path) or Path(path).is_dir() or head in files:
                raise bad("--data", text, "SET=FILE with an existing file, each set once")
            files[head] = Path(path)
    return folder, files, own


def _public(
    known: public.PublicSet, path: Path, request: Request
) -> tuple[Benchmark, dict[str, Any]]:
    opened = known.open(path, limit=request.limit, seed=request.seed)
    return opened.benchmark, dict(opened.facts)


def _own(kind: str, name: str, path: str, request: Request) -> tuple[Benchmark, dict[str, Any]]:
    found = items("--data", path, 1, kind)
    used = public.sample(found, request.limit, request.seed)
    place = located.locate(path, "--data")
    facts = {
        "set": name,
        "kind": kind,
        "form": "text",
        "licence": None,
        "source": "a file of one's own",
        "file": path,
        "sha256": place.sha256,
        **({"commit": place.commit} if place.commit else {}),
        "version": None,
        "version_note": "a file of one's own",
        "layout": str(found[0].meta.get("layout", "")),
        "rows": len(found),
        "usable": len(found),
        "used": len(used),
        "limit": request.limit,
        "seed": request.seed,
    }
    return Benchmark(name, kind, tuple(used), MAX_TOKENS), facts


def _made(
    table: str, world: World | None, request: Request
) -> list[tuple[Benchmark, dict[str, Any]]]:
    """The sets of an entry of `registry.BENCHMARKS`."""
    count = request.limit or DEFAULT
    made = registry.resolve(registry.BENCHMARKS, table)(
        world, safety=count, over_refusal=count, capability=count, seed=request.seed
    )
    return [(bench, _made_facts(table, bench, request)) for bench in made]


def _made_facts(table: str, bench: Benchmark, request: Request) -> dict[str, Any]:
    words = "\n".join(item.messages[-1].content for item in bench.items)
    return {
        "set": bench.name,
        "kind": bench.kind,
        "form": "text",
        "licence": None,
        "source": f"made by {table}",
        "file": None,
        "sha256": hashlib.sha256(words.encode()).hexdigest(),
        "version": None,
        "version_note": "made, not read",
        "layout": "",
        "rows": len(bench.items),
        "usable": len(bench.items),
        "used": len(bench.items),
        "limit": request.limit,
        "seed": request.seed,
    }
