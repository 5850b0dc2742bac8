"""Measure a model: generate, save, and have `grading` judge what it said.

Everything a model said is on disk before any judge sees it, one file per benchmark and decoding,
each written whole or not at all, and until then batch by batch (`parts`). An interrupted evaluation
therefore continues where it stopped, and `rejudge` grades again without a model. Below the workdir
`out`, beside the files of `grading`:

  generations/<arm>/<benchmark>.<decoding>.jsonl
"""

from __future__ import annotations

import json
import math
import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.benchmarks import outcomes
from jaxsafety.core import disk, hosts
from jaxsafety.core.errors import bad
from jaxsafety.core.progress import Progress
from jaxsafety.data.schema import Answer
from jaxsafety.evaluation import grading
from jaxsafety.evaluation.grading import Groups, Line, Record
from jaxsafety.evaluation.grading import rejudge as rejudge
from jaxsafety.evaluation.parts import Parts
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import Benchmark, Encode, Item, Judge, SampleConfig
from jaxsafety.train import checkpoint


@dataclass(frozen=True)
class Decoding:
    """A way of sampling answers. `kinds` are the benchmark kinds it is used for.

    None means all kinds for greedy decoding, and safety and over_refusal for a sampled one: a
    capability is scored on the answer the model would give.

    Example:
      >>> import jaxsafety
      >>> hot = jaxsafety.Decoding("t1", temperature=1.0, samples=4)
      >>> hot.covers("safety"), hot.covers("capability")
      (True, False)
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
    judge: Judge | None,
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
    since: float = math.inf,
    fingerprint: str = "",
    groups: Groups | None = None,
    generate: Callable[..., list[list[Answer]]] | None = None,
    encode: Encode | None = None,
    check: Callable[[], None] | None = None,
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
      overwrite: generate again even where complete generations exist, unless they are newer than
        `since`.
      since: seconds of `time.time`: newer files are of an interrupted start of the same work.
      fingerprint: identifies what answers, parameters, `layers` and `encode`; generations saved
        under another one are redone. "" takes what lies in `out` under this arm for its own.
      groups: pool name -> benchmark names, besides or instead of those of `outcomes.pools`.
      generate: replaces `sampling.many.generate`.
      encode: replaces `data.tokens.encode.encode_prompt`.
      check: called after every batch, which is on disk by then; it may raise to stop here.

    Returns:
      The records of this arm, as written.

    Raises:
      UsageError: clashing or unusable names, an empty benchmark, a prompt that does not fit.

    Example:
      >>> import pathlib, tempfile
      >>> import jaxsafety
      >>> model, params, tokenizer = jaxsafety.load()
      >>> item = jaxsafety.Item("0", (jaxsafety.Message("user", "what is 11 plus 10 ?"),), {})
      >>> sums = jaxsafety.Benchmark("sums", "capability", (item,), max_tokens=16)
      >>> judge = lambda exchanges: [{"correct": "21" in e.response} for e in exchanges]
      >>> with tempfile.TemporaryDirectory() as out:
      ...     records = jaxsafety.evaluate(
      ...         model, params, tokenizer, [sums], judge, pathlib.Path(out), "base", log=str
      ...     )
      >>> records[0]["metric"], records[0]["value"], records[0]["n"]
      ('accuracy.greedy', 1.0, 1)
    """
    out = Path(out)
    graded = []
    for bench, decoding, lines, how in answer(
        model,
        params,
        tokenizer,
        benchmarks,
        out,
        arm,
        seed=seed,
        decodings=decodings,
        batch_size=batch_size,
        layers=layers,
        steer=steer,
        log=log,
        overwrite=overwrite,
        since=since,
        fingerprint=fingerprint,
        generate=generate,
        encode=encode,
        check=check,
    ):
        verdicts = grading.judged(out, arm, bench, decoding, lines, judge)
        graded.append((bench, decoding, verdicts))
        log(grading.summarise(arm, bench, decoding, verdicts, how, grading.cut(lines), judge))
    return grading.finish(out, arm, graded, benchmarks, groups, seed)


class Said(NamedTuple):
    """What one arm said to one set in one decoding, as it is saved; `how` says where it is from."""

    bench: Benchmark
    decoding: str
    lines: list[Line]
    how: str


def answer(
    model: Model,
    params: Any,
    tokenizer: Any,
    benchmarks: Sequence[Benchmark],
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
    since: float = math.inf,
    fingerprint: str = "",
    generate: Callable[..., list[list[Answer]]] | None = None,
    encode: Callable[..., list[int]] | None = None,
    check: Callable[[], None] | None = None,
) -> Iterator[Said]:
    """Generates the answers of one arm and saves them, without a judge: the half of `evaluate`.

    All arguments are those of `evaluate`.

    Yields:
      One `Said` per set and decoding, once it is on disk; what was saved before is read back.

    Raises:
      UsageError: as `evaluate`, when the first one is asked for.
    """
    check_sets(benchmarks, decodings, arm)
    if generate is None:
        from jaxsafety.sampling.many import generate
    if encode is None:
        from jaxsafety.data.tokens.encode import encode_prompt as encode
    named: list[str] = []  # what the model's parameters are, made when a set is first asked
    prompts = {
        b.name: encode_items(b, tokenizer, model.config.max_length, encode) for b in benchmarks
    }
    for bench in benchmarks:
        for decoding in (d for d in decodings if d.covers(bench.kind)):
            start = time.perf_counter()
            path = _path(out, arm, bench, decoding)
            settings = settings_of(bench, decoding, seed, steer, fingerprint)
            kept = partial(complete, path, bench, decoding, settings)
            old = partial(_older, path, since)
            lines = None if overwrite and hosts.share(old) else hosts.share(kept)
            how = "reused"
            if lines is None:
                config = SampleConfig(
                    max_tokens=bench.max_tokens,
                    temperature=decoding.temperature,
                    top_p=decoding.top_p,
                    stop=tuple(tokenizer.eos_ids),
                )
                # What the answers depend on, parameters too: a sample of them names the model.
                named = named or [checkpoint.digest(params), checkpoint.digest(layers)]
                about = {
                    **settings,
                    "prompts": prompts[bench.name],
                    "samples": decoding.samples,
                    "batch_size": batch_size,
                    "model": named,
                }
                parts = Parts(path, about)
                rows = len(bench.items) * (1 if decoding.temperature == 0 else decoding.samples)
                what = f"{arm}, {bench.name}, {decoding.name}"
                with Progress(log, what, total=rows, unit="answers") as progress:
                    known = {} if overwrite and since == math.inf else parts.known()
                    progress.skip(len(known))

                    watch = _Watch(progress, check)
                    said = generate(
                        model,
                        params,
                        tokenizer,
                        prompts[bench.name],
                        config,
                        seed=seed,
                        # a number of the pair, not of the order: a subset repeats the same answers
                        step=zlib.crc32(f"{bench.name}.{decoding.name}".encode()) & 0x7FFFFFFF,
                        samples=decoding.samples,
                        batch_size=batch_size,
                        layers=layers,
                        steer=steer,
                        progress=watch.done,
                        known=known,
                        keep=parts.keep,
                        inside=watch.inside,
                    )
                lines = _lines(bench, said, tokenizer, settings)
                disk.write_lines(path, lines)
                parts.drop()
                how = f"{time.perf_counter() - start:.1f} s"
            yield Said(bench, decoding.name, lines, how)


def missing(
    benchmarks: Sequence[Benchmark],
    decodings: Sequence[Decoding],
    out: Path,
    arm: str,
    *,
    seed: int,
    steer: str,
    fingerprint: str,
) -> list[Benchmark]:
    """The sets of which an answer is not there, or is another model's; arguments as `evaluate`."""

    def there(bench: Benchmark, d: Decoding) -> bool:
        settings = settings_of(bench, d, seed, steer, fingerprint)
        return complete(_path(out, arm, bench, d), bench, d, settings) is not None

    return [b for b in benchmarks if not all(there(b, d) for d in decodings if d.covers(b.kind))]


def _path(out: Path, arm: str, bench: Benchmark, d: Decoding) -> Path:
    return Path(out) / "generations" / arm / f"{bench.name}.{d.name}.jsonl"


def check_sets(
    benchmarks: Sequence[Benchmark], decodings: Sequence[Decoding], arm: str = "base"
) -> None:
    """Rejects names that are no file names, unknown kinds, sets without items or with two alike.

    Raises:
      UsageError: the set and what is wrong with it.
    """
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
        if not bench.items:
            raise bad(f"benchmark.{bench.name}.items", "none", "one or more")
        ids = [item.id for item in bench.items]
        if twice := next((i for i in ids if not isinstance(i, str) or ids.count(i) > 1), None):
            raise bad(f"benchmark.{bench.name}.items", f"id {twice!r}", "texts that differ")
        if bench.max_tokens < 1:
            raise bad(f"benchmark.{bench.name}.max_tokens", bench.max_tokens, "1 or more")
    for decoding in decodings:
        if decoding.samples < 1 or decoding.temperature < 0:
            raise bad(f"decoding.{decoding.name}", decoding, "samples >= 1 and temperature >= 0")


def encode_items(bench: Benchmark, tokenizer: Any, context: int, encode: Encode) -> list[list[int]]:
    """Prompt ids per item, checked against the context before anything is generated."""
    encoded = [encode(tokenizer, item.messages) for item in bench.items]
    for item, ids in zip(bench.items, encoded, strict=True):
        if len(ids) + bench.max_tokens > context:
            place = f"item {item.id}"
            if "row" in item.meta:  # of a file
                place = f"row {item.meta['row']} of {item.meta.get('file', 'its file')}"
            given = f"{len(ids)} prompt tokens + {bench.max_tokens} new ones in {place}"
            raise bad(f"benchmark.{bench.name}", given, f"at most the context of {context}")
    return encoded


def settings_of(bench: Benchmark, d: Decoding, seed: int, steer: str, fingerprint: str) -> Line:
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


def _lines(
    bench: Benchmark, said: Sequence[Sequence[Answer]], tokenizer: Any, settings: Line
) -> list[Line]:
    lines = []
    for item, samples in zip(bench.items, said, strict=True):
        users = [m.content for m in item.messages if m.role == "user"]
        for sample, completion in enumerate(samples):
            line = {
                "id": item.id,
                "sample": sample,
                "prompt": users[-1] if users else "",
                "messages": _messages(item),
                "response": tokenizer.decode(completion.ids, skip_special=True),
                "finished": completion.finished,
                "meta": dict(item.meta),
                "settings": settings,
            }
            # meta may hold tuples, sets or NaN: what is judged now must equal what is read back
            kept = json.loads(json.dumps(line, default=str), parse_constant=lambda name: None)
            lines.append(kept)
    return lines


class _Watch:
    """Says where the sampling of one set is, and asks whether it is to end there."""

    def __init__(self, progress: Progress, check: Callable[[], None] | None) -> None:
        self.progress, self.check, self.finished = progress, check, 0

    def done(self, rows: int) -> None:
        """After a batch, which is on disk by now."""
        self.finished = rows
        self.progress(rows)
        if self.check is not None:
            self.check()

    def inside(self, rows: int, tokens: int, most: int) -> None:
        """Within a batch of long answers; what ends here is sampled again."""
        share = rows * tokens / most
        self.progress.advance(self.finished + share, f"token {tokens} of {most}")
        if self.check is not None:
            self.check()


def _older(path: Path, since: float) -> bool:
    """Whether there is no such file since then."""
    return not (path.is_file() and path.stat().st_mtime >= since)


def complete(path: Path, bench: Benchmark, d: Decoding, settings: Line) -> list[Line] | None:
    """The saved lines if they answer exactly this benchmark under these settings, else None."""
    if not path.is_file():
        return None
    try:
        lines = disk.read_lines(path)
        have = [(x["id"], x["sample"], x["messages"], x["settings"]) for x in lines]
    except (ValueError, KeyError, TypeError):
        return None
    items = [(i.id, _messages(i)) for i in bench.items]
    want = [(i, s, messages, settings) for i, messages in items for s in range(d.samples)]
    return lines if have == want else None
