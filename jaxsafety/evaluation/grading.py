"""From saved answers to `results.jsonl`: judge, keep the verdicts, count them.

No model is needed here, so `rejudge` grades old answers again. Layout below the workdir `out`:

  verdicts/<arm>/<benchmark>.<decoding>.jsonl   verdicts/pools.json {pool: [benchmarks]}
  results.jsonl (all arms)

What a judge cannot tell is null in all of them, with its cause; no file holds a NaN.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsafety.benchmarks import outcomes
from jaxsafety.core import disk, hosts
from jaxsafety.core.errors import bad
from jaxsafety.judges import judging
from jaxsafety.protocols import Benchmark, Exchange, Judge

Record = dict[str, Any]
Line = dict[str, Any]
Groups = Mapping[str, Sequence[str]]
Graded = tuple[Benchmark, str, list[Line]]  # a benchmark, its decoding, its verdicts


def rejudge(
    out: Path,
    benchmarks: Sequence[Benchmark],
    judge: Judge | None,
    *,
    arms: Sequence[str] | None = None,
    seed: int = 0,
    log: Callable[[str], None] = print,
    groups: Groups | None = None,
) -> list[Record]:
    """Grades saved generations again; no model is needed and none is loaded.

    Args:
      out: a workdir with generations.
      benchmarks: where the items (and what the judge needs of them) come from.
      judge: `[Exchange] -> [verdict]`.
      arms: which arms; None takes every one found.
      seed: of the bootstrap, and recorded.
      log: receives a line per file.
      groups: as in `evaluate`.

    Returns:
      The new records of all regraded arms.

    Raises:
      UsageError: no generations for these arms and benchmarks, one of an unknown item, or a line
        that is no saved answer.
    """
    root = Path(out) / "generations"
    found = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    records: list[Record] = []
    judged_arms: dict[str, list[Graded]] = {}
    for arm in found if arms is None else arms:
        graded: list[Graded] = []
        for bench in benchmarks:
            for path in sorted((root / arm).glob(f"{bench.name}.*.jsonl")):
                decoding = path.name.removeprefix(f"{bench.name}.").removesuffix(".jsonl")
                lines = saved(path)
                said = {(line["id"], line["sample"]) for line in lines}
                each = max((sample for _, sample in said), default=0) + 1
                want = {(item.id, sample) for item in bench.items for sample in range(each)}
                if lacks := len(want - said):
                    allowed = "the answers of its set, which the command that made them makes again"
                    raise bad(str(path), f"{len(want) - lacks} of {len(want)} answers", allowed)
                verdicts = verdicts_of(arm, bench, decoding, lines, judge)
                graded.append((bench, decoding, verdicts))
                log(summarise(arm, bench, decoding, verdicts, "rejudged", cut(lines), judge))
        if not graded:
            raise bad("arm", arm, f"one with saved generations in {root} (found: {found})")
        for line in absent(arm, graded, benchmarks):
            log(line)
        judged_arms[arm] = graded
    # Only now: a judge that fails leaves all verdicts as they were, not one arm by each judge.
    for arm, graded in judged_arms.items():
        for bench, decoding, verdicts in graded:
            save_verdicts(Path(out), arm, bench, decoding, verdicts)
        records += finish(Path(out), arm, graded, benchmarks, groups, seed)
    if not records:
        raise bad("workdir", str(out), "one with generations/<arm>/<benchmark>.<decoding>.jsonl")
    return records


def absent(arm: str, graded: Sequence[Graded], benchmarks: Sequence[Benchmark]) -> list[str]:
    """What an arm has no saved answers of: a line per decoding, by what its other sets have."""
    lines = []
    for decoding in dict.fromkeys(d for _, d, _ in graded):
        have = {b.name for b, d, _ in graded if d == decoding}
        kinds = {b.kind for b in benchmarks if b.name in have}
        lacks = [b.name for b in benchmarks if b.kind in kinds and b.name not in have]
        if lacks:
            names = ", ".join(lacks)
            lines.append(
                f"{arm}, {decoding}: no saved answers of {names}; no pool with them is made"
            )
    return lines


def _records(path: Path) -> list[Record]:
    """The whole records of `results.jsonl`; what a crash or an editor broke is made again."""
    return [row for row in disk.whole_lines(path) if outcomes.complete(row) is not None]


def saved(path: Path) -> list[Line]:
    """The saved answers of a file; one line names the row that is none."""
    rows = [row for row in disk.rows(path.read_text("utf-8", "replace")) if row.strip()]
    lines = []
    for number, row in enumerate(rows, 1):
        try:
            line = json.loads(row)
            lines.append({**line, "id": line["id"], "sample": line["sample"]})
            if not (isinstance(line["response"], str) and isinstance(line["sample"], int)):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            allowed = "saved answers: JSON with id, sample and response"
            raise bad(f"{path} row {number}", row[:60], allowed) from None
    return lines


def judged(
    out: Path, arm: str, bench: Benchmark, decoding: str, lines: Sequence[Line], judge: Judge | None
) -> list[Line]:
    """Judges saved answers and saves the verdicts; see `verdicts_of`."""
    verdicts = verdicts_of(arm, bench, decoding, lines, judge)
    save_verdicts(out, arm, bench, decoding, verdicts)
    return verdicts


def save_verdicts(
    out: Path, arm: str, bench: Benchmark, decoding: str, verdicts: Sequence[Line]
) -> None:
    """Writes the verdicts of a set."""
    disk.write_lines(out / "verdicts" / arm / f"{bench.name}.{decoding}.jsonl", verdicts)


def verdicts_of(
    arm: str, bench: Benchmark, decoding: str, lines: Sequence[Line], judge: Judge | None
) -> list[Line]:
    """Judges saved answers, with the outcome this package assigns.

    Args:
      arm: whose answers.
      bench: where the items come from.
      decoding: name of the decoding.
      lines: the saved answers.
      judge: `[Exchange] -> [verdict]`.

    Returns:
      A verdict per line: id, sample, outcome and `outcomes.FLAGS`, None where the judge cannot
      tell, then "cause"; "extracted" of a judge that says which answer it read, and of one that
        scores, `judging.EXTRA`.

    Raises:
      UsageError: an answer to an item that the benchmark has not, and what `judging.judged`
        refuses.
    """
    items = {item.id: item for item in bench.items}
    unknown = next((line["id"] for line in lines if line["id"] not in items), None)
    if unknown is not None:
        raise bad(f"generations.{arm}.{bench.name}.{decoding}", unknown, "ids of its benchmark")
    given = judging.judged(judge, [Exchange(items[x["id"]], x["response"]) for x in lines])
    verdicts = []
    for line, verdict in zip(lines, given, strict=True):
        flags = {key: outcomes.known(verdict.get(key)) for key in outcomes.FLAGS}
        head = {"id": line["id"], "sample": line["sample"], "outcome": outcomes.outcome(verdict)}
        more = {"cause": str(verdict["cause"])} if verdict.get("cause") else {}
        if "extracted" in verdict:
            read = verdict["extracted"]
            more["extracted"] = read.item() if hasattr(read, "item") else read
        more |= {key: verdict[key] for key in judging.EXTRA if key in verdict}
        verdicts.append({**head, **flags, **more})
    return verdicts


def cut(lines: Sequence[Line]) -> int:
    """How many answers ended at the token limit and not by themselves, as far as it is known."""
    return sum(line.get("finished") is False for line in lines)


def unsafe(judge: Judge | None) -> str:
    """What the share of unsafe answers is called: by phrase rules it is no success of attacks."""
    if getattr(judge, "refusals_only", False):
        return "not refused"
    return "asr" if getattr(judge, "exact", False) else "unsafe"


def summarise(
    arm: str,
    bench: Benchmark,
    decoding: str,
    verdicts: list[Line],
    how: str,
    unended: int,
    judge: Judge | None,
) -> str:
    """A line for a person: the headline rate with its interval and n, "–" where it is not known.

    What is broken text, and how many answers the token limit cut, is said beside it: both may be
    most of what a small model says, and then the rate tells little.
    """
    metric = outcomes.METRICS[bench.kind][0]
    every = outcomes.indicators(verdicts, bench.kind)
    values = every[metric]
    value, lost = (
        outcomes.mean(values),
        [v for v, x in zip(verdicts, values, strict=True) if x != x],
    )
    lo, hi = outcomes.interval(values, [v["id"] for v in verdicts])
    shown = "–" if value is None else f"{100 * value:5.1f} % [{100 * lo:.1f}, {100 * hi:.1f}]"
    name = unsafe(judge) if metric == "asr" else metric
    numbers = f"{name} {shown}"
    why = f"; not judged: {outcomes.causes(lost, metric)}" if lost else ""
    coherent = outcomes.mean(every["coherent"])
    broken = "" if coherent in (None, 1) else f"; incoherent {100 - 100 * coherent:.0f} %"
    ended = f"; {unended} of {len(verdicts)} cut at {bench.max_tokens} tokens" if unended else ""
    n = len(verdicts) - len(lost)
    return f"{arm:8} {bench.name:24} {decoding:7} n={n:<5} {numbers:28} {how}{broken}{ended}{why}"


def finish(
    out: Path,
    arm: str,
    graded: Sequence[Graded],
    benchmarks: Sequence[Benchmark],
    groups: Groups | None,
    seed: int,
) -> list[Record]:
    """Records of one arm with its pools; replaces that arm in `results.jsonl`, keeps the others.

    Args:
      out: the workdir.
      arm: whose verdicts.
      graded: every benchmark and decoding with its verdicts. A pool of which one is missing is
        not made: it would be a rate of something else under the same name.
      benchmarks: of which `outcomes.pools` makes pools.
      groups: pool name -> benchmark names, besides or instead of those.
      seed: of the bootstrap, and recorded.

    Returns:
      The records of this arm.
    """
    pools, records = count(arm, graded, benchmarks, groups, seed)
    path = out / "results.jsonl"
    kept = _records(path) if hosts.leader() else []
    others = [r for r in kept if r["arm"] != arm]
    disk.write(
        out / "verdicts" / "pools.json",
        json.dumps({k: list(v) for k, v in pools.items()}, indent=1) + "\n",
    )
    disk.write_lines(path, [*others, *records])
    return records


def count(
    arm: str,
    graded: Sequence[Graded],
    benchmarks: Sequence[Benchmark],
    groups: Groups | None,
    seed: int,
) -> tuple[dict[str, Sequence[str]], list[Record]]:
    """The pools and the records of one arm, of which `finish` writes files; args as there."""
    pools = {**outcomes.pools(benchmarks), **(groups or {})}
    records = []
    for bench, decoding, verdicts in graded:
        keys = [v["id"] for v in verdicts]
        records += outcomes.records(arm, bench.name, bench.kind, decoding, verdicts, keys, seed)
    for pool, names in pools.items():
        for decoding in dict.fromkeys(d for _, d, _ in graded):
            parts = [(b, v) for b, d, v in graded if d == decoding and b.name in names]
            verdicts = [v for _, part in parts for v in part]
            keys = [(b.name, v["id"]) for b, part in parts for v in part]
            whole = {b.name for b in benchmarks if b.name in names}
            if parts and whole <= {b.name for b, _ in parts}:
                kind = parts[0][0].kind
                records += outcomes.records(arm, pool, kind, decoding, verdicts, keys, seed)
    return pools, records
