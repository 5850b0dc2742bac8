"""Counting what a compiled program sends between devices, from its HLO text.

Loops count as often as they run: XLA for CPUs and GPUs writes a known trip count next to a
`while`, for TPUs it stands in the loop's condition; XLA's own cost analysis ignores both. Bytes are
those of the result on one device.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64}
_NUMBER = re.compile(r"[sufc](\d+)")
_SHAPE = re.compile(r"\b(pred|bf16|[sufc]\d+)\[([\d,]*)\]")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_LINE = re.compile(r"^\s*(?:ROOT )?%?[\w.\-]+ = (.*)$")
_CALLED = re.compile(r"(body|condition|to_apply|calls|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)")
_LIMIT = re.compile(r"^[su]32\[\][^ ]* constant\((\d+)\)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Traffic(NamedTuple):
    """Collectives of one kind: how many run, and the bytes they leave on each device."""

    count: int
    bytes: int


def collectives(text: str, trips: int = 1) -> dict[str, Traffic]:
    """Kind -> traffic of one execution of a program.

    Args:
      text: `compiled.as_text()`.
      trips: how often a loop counts whose trips cannot be told, such as that over sampled tokens,
        which ends when every row has.

    Returns:
      The kinds that occur.
    """
    bodies, entry = _computations(text)
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def walk(name: str, times: int) -> None:
        for line in bodies.get(name, ()):
            kind, size = _collective(line)
            if kind:
                totals[kind][0] += times
                totals[kind][1] += times * size
            called = list(_calls(line))
            for role, other in called:
                runs = (_trips(line, called, bodies) or trips) if role == "body" else 1
                walk(other, times * runs)

    walk(entry, 1)
    return {kind: Traffic(*totals[kind]) for kind in KINDS if kind in totals}


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Computation -> its instructions, and the entry's name."""
    bodies: dict[str, list[str]] = {}
    entry, current = "", None
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head and " = " not in line.partition("{")[0].partition("(")[0]:
            current = head.group(2)
            bodies[current] = []
            entry = current if head.group(1) else entry
        elif line.startswith("}"):
            current = None
        elif current is not None:
            found = _LINE.match(line)
            if found:
                bodies[current].append(found.group(1))
    return bodies, entry


def _trips(line: str, called: list[tuple[str, str]], bodies: dict[str, list[str]]) -> int:
    """How often a `while` runs: as noted beside it, else (on TPUs) what its counter is held to.

    0 where neither is said.
    """
    noted = _TRIPS.search(line)
    if noted:
        return int(noted.group(1))
    condition = next((name for role, name in called if role == "condition"), "")
    lines = list(bodies.get(condition, ()))
    for inner in [name for text in lines for _, name in _calls(text)]:
        lines += bodies.get(inner, ())
    less = any("compare(" in text and "direction=LT" in text for text in lines)
    limits = {int(n) for text in lines for n in _LIMIT.findall(text)}
    return limits.pop() if less and len(limits) == 1 else 0  # counted from 0 by 1


def _collective(line: str) -> tuple[str, int]:
    """(kind, bytes) of a collective instruction, or ("", 0). A `-done` half was counted before."""
    for kind in KINDS:
        found = re.search(rf"(?:^|[\s)}}]){kind}(-start)?\(", line)
        if found:
            sizes = list(_sizes(line[: found.start() + 1]))
            if found.group(1) and kind != "all-reduce":
                # An asynchronous start lists operands, results and perhaps scalar contexts.
                sizes = [size for size in sizes if size > 4]
                sizes = sizes[len(sizes) // 2 :]
            return kind, sum(sizes)
    return "", 0


def _sizes(text: str) -> Iterator[int]:
    for dtype, shape in _SHAPE.findall(text):
        number = _NUMBER.fullmatch(dtype)
        bits = _BITS.get(dtype) or (int(number.group(1)) if number else 32)
        yield math.prod(int(n) for n in shape.split(",") if n) * bits // 8


def _calls(line: str) -> Iterator[tuple[str, str]]:
    for role, names in _CALLED.findall(line):
        for name in names.strip("{}").split(","):
            yield role, name.strip().lstrip("%")
