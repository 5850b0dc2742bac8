"""Saved answers to verdicts and records, one directory per judge, in pieces that survive a kill.

  judges/<judge>/verdicts/<arm>/<set>.<decoding>.jsonl, verdicts/pools.json
  judges/<judge>/judged.json   of which answers (sha256), heard how, each file of verdicts is
  judges/<judge>/results.jsonl

Items come from the saved answers, so nothing but them is needed. What is there and of these very
answers is not judged again, and a file whose text would not change is not written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.benchmarks import outcomes
from jaxsafety.core import disk
from jaxsafety.data.schema import Message
from jaxsafety.evaluation import grading
from jaxsafety.judges import reasoning
from jaxsafety.protocols import Benchmark, Item, Judge

CHUNK = 64  # answers judged between two writes
JUDGED = "judged.json"
Line = dict[str, Any]


class Set(NamedTuple):
    """Answers to judge: of a set, an arm and a decoding.

    Attributes:
      name: of the set.
      kind: of the set.
      max_tokens: of an answer.
      arm: whose answers.
      decoding: name of the decoding.
      path: of the saved answers.
      long: item id -> why it was not asked.
      marks: of thoughts, of which the judge hears nothing, or None.
      opened: whether the prompt of this arm's model opens a thought.
    """

    name: str
    kind: str
    max_tokens: int
    arm: str
    decoding: str
    path: Path
    long: Mapping[str, str]
    marks: reasoning.Marks | None = None
    opened: bool = False


def judge_sets(
    root: Path,
    opened: Callable[[], Judge],
    sets: Sequence[Set],
    *,
    seed: int,
    facts: Mapping[str, Mapping[str, Any]],
    again: bool = False,
    log: Callable[[str], None] = print,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Judges what is not judged yet, and writes the records of all of it.

    Args:
      root: the judge's directory.
      opened: makes the judge; called once, where there is something to judge.
      sets: all that it is to judge.
      seed: of the bootstrap.
      facts: arm -> what each of its records says besides.
      again: judge also what is judged.
      log: receives a line per set.
      check: called between two pieces; it may raise to stop here.
    """
    kept = disk.read_json(root / JUDGED)
    judged: dict[str, str] = dict(kept) if isinstance(kept, dict) else {}
    done: list[tuple[Set, Benchmark, list[Line]]] = []
    judge: Judge | None = None
    for one in sets:
        lines = grading.saved(one.path)
        bench = _benchmark(one, lines)
        key = _key(one)
        place = root / "verdicts" / one.arm / f"{one.name}.{one.decoding}.jsonl"
        verdicts = None if again or judged.get(_label(one)) != key else _kept(place, one, lines)
        if verdicts is None:
            judge = opened() if judge is None else judge
            start = time.perf_counter()
            parts = place.with_name(f"{one.name}.{one.decoding}.parts")
            hearing = reasoning.hear(judge, one.marks, one.opened)
            verdicts = _judge(parts, key, one, bench, lines, hearing, check)
            _write_lines(place, verdicts)
            judged[_label(one)] = key
            disk.write_json(root / JUDGED, judged)
            shutil.rmtree(parts, ignore_errors=True)
            how, unended = f"{time.perf_counter() - start:.1f} s", grading.cut(lines)
            log(grading.summarise(one.arm, bench, one.decoding, verdicts, how, unended, hearing))
        else:
            log(f"{one.arm}, {one.name}, {one.decoding}: judged before")
        done.append((one, bench, verdicts))
    _records(root, done, seed, facts)


def _judge(
    parts: Path,
    key: str,
    one: Set,
    bench: Benchmark,
    lines: Sequence[Line],
    judge: Judge,
    check: Callable[[], None],
) -> list[Line]:
    """Verdicts of a set, piece by piece; pieces of these very answers are read back."""
    found: list[Line] = []
    for start in range(0, len(lines), CHUNK):
        check()
        piece, file = lines[start : start + CHUNK], parts / f"{start}.json"
        part = disk.read_json(file)
        if isinstance(part, dict) and part.get("key") == key:
            found += part["verdicts"]
            continue
        verdicts = grading.verdicts_of(one.arm, bench, one.decoding, piece, judge)
        if len(lines) > CHUNK:
            disk.write(file, json.dumps({"key": key, "verdicts": verdicts}))
        found += verdicts
    return [*found, *_unasked(one)]


def _unasked(one: Set) -> list[Line]:
    """A verdict that knows nothing, for each item that was not asked."""
    nothing = {"outcome": None, **dict.fromkeys(outcomes.FLAGS)}
    return [{"id": i, "sample": 0, **nothing, "cause": why} for i, why in one.long.items()]


def _benchmark(one: Set, lines: Sequence[Line]) -> Benchmark:
    """The set as its saved answers tell it."""
    items = {
        line["id"]: Item(
            line["id"],
            tuple(Message(m["role"], m["content"]) for m in line.get("messages", ())),
            line.get("meta") or {},
        )
        for line in lines
    }
    return Benchmark(one.name, one.kind, tuple(items.values()), one.max_tokens)


def _label(one: Set) -> str:
    return f"{one.arm}/{one.name}.{one.decoding}"


def _key(one: Set) -> str:
    """sha256 of the answers, of what was not asked, and of how thoughts are told from answers."""
    digest = hashlib.sha256(one.path.read_bytes())
    digest.update(json.dumps(dict(one.long), sort_keys=True).encode())
    if one.marks is not None:
        digest.update(json.dumps([*one.marks, one.opened]).encode())
    return digest.hexdigest()


def _kept(path: Path, one: Set, lines: Sequence[Line]) -> list[Line] | None:
    """The saved verdicts if they are of these answers, else None."""
    found = disk.whole_lines(path)
    want = [*((x["id"], x["sample"]) for x in lines), *((i, 0) for i in one.long)]
    whole = all({"outcome", *outcomes.FLAGS} <= set(v) for v in found)
    return found if whole and [(v.get("id"), v.get("sample")) for v in found] == want else None


def _records(
    root: Path,
    done: Sequence[tuple[Set, Benchmark, list[Line]]],
    seed: int,
    facts: Mapping[str, Mapping[str, Any]],
) -> None:
    """Writes the records of every arm, and what is pooled."""
    benchmarks = list({bench.name: bench for _, bench, _ in done}.values())
    harmless = [b.name for b in benchmarks if b.kind == "over_refusal"]
    groups = {"all_over_refusal": harmless} if len(harmless) > 1 else {}
    pools: dict[str, Sequence[str]] = {}
    records: list[Line] = []
    for arm in dict.fromkeys(one.arm for one, _, _ in done):
        graded = [(bench, one.decoding, v) for one, bench, v in done if one.arm == arm]
        found, rows = grading.count(arm, graded, benchmarks, groups, seed)
        pools.update(found)
        for row in rows:
            decoding = str(row["metric"]).rpartition(".")[2]
            records.append({**row, "decoding": decoding, **facts.get(arm, {})})
    text = json.dumps({k: list(v) for k, v in pools.items()}, indent=1) + "\n"
    _write(root / "verdicts" / "pools.json", text)
    _write_lines(root / "results.jsonl", records)


def _write_lines(path: Path, lines: Iterable[Line]) -> None:
    rows = [json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines]
    _write(path, "".join(rows))


def _write(path: Path, text: str) -> None:
    """Writes a text, unless the file holds it."""
    if not path.is_file() or path.read_bytes() != text.encode():
        disk.write(path, text)
