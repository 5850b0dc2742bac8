"""Measure a model: generate, save, judge, and turn verdicts into `results.jsonl`.

Everything a model said is on disk before any judge sees it, one file per benchmark and decoding,
each written whole or not at all. An interrupted evaluation therefore continues where it stopped,
and `rejudge` grades again without a model. Layout below the workdir `out`:

  generations/<arm>/<benchmark>.<decoding>.jsonl   verdicts/<arm>/<benchmark>.<decoding>.jsonl
  verdicts/pools.json {pool: [benchmarks]}         results.jsonl (all arms)
"""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jaxsafety import hosts
from jaxsafety.benchmarks import outcomes
from jaxsafety.errors import bad
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import Benchmark, Exchange, Item, Judge, SampleConfig

Record = dict[str, Any]
Line = dict[str, Any]
Groups = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Decoding:
    """A way of sampling answers. `kinds` are the benchmark kinds it is used for.

    None means all kinds for greedy decoding, and safety and over_refusal for a sampled one: a
    capability is scored on the answer the model would give.
    """

    name: str
    temperature: float = 0.0
    samples: int = 1
    top_p: float = 1.0
    kinds: tuple[str, ...] | None = None

    def covers(self, kind: str) -> bool:
        """Whether benchmarks of this kind are run with this decoding."""
        if self.kinds is not None:
            return kind in self.kinds
        return self.temperature == 0 or kind != "capability"


DECODINGS = (Decoding("greedy"), Decoding("t1", temperature=1.0, samples=2))
NO_LAYERS = LayerInputs()


def evaluate(
    model: Model,
    params: Any,
    tokenizer: Any,
    benchmarks: Sequence[Benchmark],
    judge: Judge,
    out: Path,
    arm: str,
    *,
    seed: int = 0,
    decodings: Sequence[Decoding] = DECODINGS,
    batch_size: int = 64,
    layers: LayerInputs = NO_LAYERS,
    steer: str = "all",
    log: Callable[[str], None] = print,
    overwrite: bool = False,
    fingerprint: str = "",
    groups: Groups | None = None,
    generate: Callable[..., list[list[list[int]]]] | None = None,
    encode: Callable[..., list[int]] | None = None,
) -> list[Record]:
    """Generates and judges one arm on every benchmark and merges its records into `results.jsonl`.

    Args:
      model: the model; static.
      params: its parameters.
      tokenizer: needs `decode` and `eos_ids`.
      benchmarks: what to run; names must be usable as file names and differ.
      judge: `[Exchange] -> [verdict]`.
      out: the workdir.
      arm: name of this model in the records, e.g. "base" or "student".
      seed: of sampling (with the benchmark and decoding, so arms share their random numbers).
      decodings: ways of sampling; see `Decoding.covers`.
      batch_size: rows decoded at once; answers do not depend on it.
      layers: per-layer inputs, e.g. the steering of a teacher.
      steer: "all" or "prompt", the positions `layers.add` touches.
      log: receives a line per benchmark and decoding.
      overwrite: generate again even where complete generations exist.
      fingerprint: identifies the parameters; generations saved under another one are redone.
      groups: pool name -> benchmark names, besides or instead of those of `outcomes.pools`.
      generate: replaces `sampling.decode.generate`.
      encode: replaces `data.chat.encode_prompt`.

    Returns:
      The records of this arm, as written.

    Raises:
      UsageError: clashing or unusable names, an empty benchmark, a prompt that does not fit.
    """
    _check(benchmarks, decodings, arm)
    if generate is None:
        from jaxsafety.sampling.decode import generate
    if encode is None:
        from jaxsafety.data.chat import encode_prompt as encode
    out = Path(out)
    prompts = {b.name: encoded(b, tokenizer, model.config.max_length, encode) for b in benchmarks}
    graded = []
    for bench in benchmarks:
        for decoding in (d for d in decodings if d.covers(bench.kind)):
            start = time.perf_counter()
            path = out / "generations" / arm / f"{bench.name}.{decoding.name}.jsonl"
            settings = _settings(bench, decoding, seed, steer, fingerprint)
            kept = partial(_complete, path, bench, decoding, settings)
            lines = None if overwrite else hosts.share(kept)
            how = "reused"
            if lines is None:
                config = SampleConfig(
                    max_tokens=bench.max_tokens,
                    temperature=decoding.temperature,
                    top_p=decoding.top_p,
                    stop=tuple(tokenizer.eos_ids),
                )
                ids = generate(
                    model,
                    params,
                    tokenizer,
                    prompts[bench.name],
                    config,
                    seed=seed,
                    # a number of the pair, not of the order, so a subset repeats the same answers
                    step=zlib.crc32(f"{bench.name}.{decoding.name}".encode()) & 0x7FFFFFFF,
                    samples=decoding.samples,
                    batch_size=batch_size,
                    layers=layers,
                    steer=steer,
                )
                lines = _lines(bench, ids, tokenizer, settings)
                write_lines(path, lines)
                how = f"{time.perf_counter() - start:.1f} s"
            verdicts = _judge(out, arm, bench, decoding.name, lines, judge)
            graded.append((bench, decoding.name, verdicts))
            log(_progress(arm, bench, decoding.name, verdicts, how))
    return _finish(out, arm, graded, {**outcomes.pools(benchmarks), **(groups or {})}, seed)


def rejudge(
    out: Path,
    benchmarks: Sequence[Benchmark],
    judge: Judge,
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
      UsageError: no generations for these arms and benchmarks, or one of an unknown item.
    """
    root = Path(out) / "generations"
    found = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    records = []
    for arm in found if arms is None else arms:
        graded = []
        for bench in benchmarks:
            for path in sorted((root / arm).glob(f"{bench.name}.*.jsonl")):
                decoding = path.name.removeprefix(f"{bench.name}.").removesuffix(".jsonl")
                verdicts = _judge(Path(out), arm, bench, decoding, read_lines(path), judge)
                graded.append((bench, decoding, verdicts))
                log(_progress(arm, bench, decoding, verdicts, "rejudged"))
        if not graded:
            raise bad("arm", arm, f"one with saved generations in {root} (found: {found})")
        records += _finish(
            Path(out), arm, graded, {**outcomes.pools(benchmarks), **(groups or {})}, seed
        )
    if not records:
        raise bad("workdir", str(out), "one with generations/<arm>/<benchmark>.<decoding>.jsonl")
    return records


def read_lines(path: Path) -> list[Line]:
    """Parses a jsonl file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """Writes a jsonl file whole or not at all (a temporary neighbour, then a rename)."""
    hosts.write(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _check(benchmarks: Sequence[Benchmark], decodings: Sequence[Decoding], arm: str) -> None:
    for field, names in (
        ("benchmark.name", [b.name for b in benchmarks]),
        ("decoding.name", [d.name for d in decodings]),
        ("arm", [arm]),
    ):
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or names.count(name) > 1:
                raise bad(field, name, "a unique name of letters, digits, _ and -")
    for bench in benchmarks:
        if bench.kind not in outcomes.KINDS:
            raise bad(f"benchmark.{bench.name}.kind", bench.kind, outcomes.KINDS)
        if not bench.items or len({i.id for i in bench.items}) < len(bench.items):
            raise bad(f"benchmark.{bench.name}.items", len(bench.items), "some, with unique ids")
    for decoding in decodings:
        if decoding.samples < 1 or decoding.temperature < 0:
            raise bad(f"decoding.{decoding.name}", decoding, "samples >= 1 and temperature >= 0")


def encoded(bench: Benchmark, tokenizer: Any, context: int, encode: Any) -> list[list[int]]:
    """Prompt ids per item, checked against the context before anything is generated."""
    encoded = [encode(tokenizer, item.messages) for item in bench.items]
    for item, ids in zip(bench.items, encoded, strict=True):
        if len(ids) + bench.max_tokens > context:
            given = f"{len(ids)} prompt tokens + {bench.max_tokens} new ones in {item.id}"
            raise bad(f"benchmark.{bench.name}", given, f"at most the context of {context}")
    return encoded


def _settings(bench: Benchmark, d: Decoding, seed: int, steer: str, fingerprint: str) -> Line:
    """What an answer depends on besides its prompt; saved with it, so stale files are noticed."""
    return {
        "temperature": d.temperature,
        "top_p": d.top_p,
        "max_tokens": bench.max_tokens,
        "seed": seed,
        "steer": steer,
        "fingerprint": fingerprint,
    }


def _messages(item: Item) -> list[Line]:
    return [{"role": m.role, "content": m.content} for m in item.messages]


def _lines(bench: Benchmark, ids: Sequence[Any], tokenizer: Any, settings: Line) -> list[Line]:
    lines = []
    for item, samples in zip(bench.items, ids, strict=True):
        users = [m.content for m in item.messages if m.role == "user"]
        for sample, completion in enumerate(samples):
            line = {
                "id": item.id,
                "sample": sample,
                "prompt": users[-1] if users else "",
                "messages": _messages(item),
                "response": tokenizer.decode(completion, skip_special=True),
                "meta": dict(item.meta),
                "settings": settings,
            }
            # meta may hold tuples or sets: what is judged now must equal what is read back later
            lines.append(json.loads(json.dumps(line, default=str)))
    return lines


def _complete(path: Path, bench: Benchmark, d: Decoding, settings: Line) -> list[Line] | None:
    """The saved lines if they answer exactly this benchmark under these settings, else None."""
    if not path.is_file():
        return None
    try:
        lines = read_lines(path)
        have = [(x["id"], x["sample"], x["messages"], x["settings"]) for x in lines]
    except (ValueError, KeyError, TypeError):
        return None
    items = [(i.id, _messages(i)) for i in bench.items]
    want = [(i, s, messages, settings) for i, messages in items for s in range(d.samples)]
    return lines if have == want else None


def _judge(
    out: Path, arm: str, bench: Benchmark, decoding: str, lines: Sequence[Line], judge: Judge
) -> list[Line]:
    """Judges saved answers and saves the verdicts, with the outcome this package assigns."""
    items = {item.id: item for item in bench.items}
    unknown = next((line["id"] for line in lines if line["id"] not in items), None)
    if unknown is not None:
        raise bad(f"generations.{arm}.{bench.name}.{decoding}", unknown, "ids of its benchmark")
    given = judge([Exchange(items[line["id"]], line["response"]) for line in lines])
    if len(given) != len(lines):
        raise ValueError(f"the judge returned {len(given)} verdicts for {len(lines)} answers")
    verdicts = []
    for line, verdict in zip(lines, given, strict=True):
        flags = {key: bool(verdict.get(key, False)) for key in outcomes.FLAGS}
        head = {"id": line["id"], "sample": line["sample"], "outcome": outcomes.outcome(verdict)}
        verdicts.append({**head, **flags})
    write_lines(out / "verdicts" / arm / f"{bench.name}.{decoding}.jsonl", verdicts)
    return verdicts


def _progress(arm: str, bench: Benchmark, decoding: str, verdicts: list[Line], how: str) -> str:
    metric = outcomes.METRICS[bench.kind][0]
    values = outcomes.indicators(verdicts, bench.kind)[metric]
    lo, hi = outcomes.interval(values, [v["id"] for v in verdicts])
    numbers = f"{metric} {100 * values.mean():5.1f} % [{100 * lo:.1f}, {100 * hi:.1f}]"
    return f"{arm:8} {bench.name:24} {decoding:7} n={len(verdicts):<5} {numbers:28} {how}"


def _finish(
    out: Path,
    arm: str,
    graded: Sequence[tuple[Benchmark, str, list[Line]]],
    groups: Groups,
    seed: int,
) -> list[Record]:
    """Records of one arm with its pools; replaces that arm in `results.jsonl`, keeps the others."""
    records = []
    for bench, decoding, verdicts in graded:
        keys = [v["id"] for v in verdicts]
        records += outcomes.records(arm, bench.name, bench.kind, decoding, verdicts, keys, seed)
    for pool, names in groups.items():
        for decoding in dict.fromkeys(d for _, d, _ in graded):
            parts = [(b, v) for b, d, v in graded if d == decoding and b.name in names]
            verdicts = [v for _, part in parts for v in part]
            keys = [(b.name, v["id"]) for b, part in parts for v in part]
            if parts:
                kind = parts[0][0].kind
                records += outcomes.records(arm, pool, kind, decoding, verdicts, keys, seed)
    path = out / "results.jsonl"
    kept = read_lines(path) if hosts.leader() and path.is_file() else []
    others = [r for r in kept if r["arm"] != arm]
    hosts.write(
        out / "verdicts" / "pools.json",
        json.dumps({k: list(v) for k, v in groups.items()}, indent=1) + "\n",
    )
    write_lines(path, [*others, *records])
    return records
