"""Multiple choice by log-probability: score, save, count; nothing is generated and nobody judges.

Below the workdir `out`, beside what `evaluate` writes:

  generations/<arm>/<benchmark>.logp.jsonl   one line per item: logps, target, right, cause

and records `acc.logp`, `acc_norm.logp` or `mc2.logp` in results.jsonl. As lm-eval 0.4.13 defines
them (read from the installed package: `lm_eval/api/task.py`, `process_results`, and
`lm_eval/tasks/truthfulqa/utils.py`), with l_i the sum of a choice's log-probabilities:

  acc       argmax_i l_i is the right one; of equal ones the first counts
  acc_norm  argmax_i l_i / c_i, c_i the characters of the choice, without the delimiter
  mc2       sum_{i right} exp(l_i) / sum_i exp(l_i), the largest l subtracted first

acc_norm is not told where the choices are contexts (WinoGrande), nor acc where several are right.
An item that cannot be scored counts in no rate: its line says why, and the record counts it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsafety.benchmarks import intervals, outcomes
from jaxsafety.core import disk, hosts
from jaxsafety.core.errors import bad
from jaxsafety.core.progress import Progress
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.evaluation import packing, pairs
from jaxsafety.evaluation.likelihoods import Scorer
from jaxsafety.evaluation.parts import Parts
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import Benchmark
from jaxsafety.train import checkpoint

Line = dict[str, Any]
DECODING = "logp"  # stands where a decoding's name would
METRICS = ("acc", "acc_norm", "mc2")


def measure_choices(
    model: Model,
    params: Any,
    tokenizer: Tokenizer,
    benchmarks: Sequence[Benchmark],
    out: Path,
    arm: str,
    *,
    chat: bool = True,
    system: str = "",
    seed: int = 0,
    layers: LayerInputs = LayerInputs(),
    steer: str = "all",
    batch_tokens: int = 0,
    log: Callable[[str], None] = print,
    fingerprint: str = "",
    check: Callable[[], None] | None = None,
) -> list[dict[str, Any]]:
    """Scores sets of form "choices" and puts their records into `results.jsonl`.

    Args:
      model: the model.
      params: its parameters.
      tokenizer: its tokenizer.
      benchmarks: sets of form "choices"; see `pairs` for the meta of their items.
      out: the workdir.
      arm: name of this model in the records.
      chat: whether the context is a user's turn of the chat template; without one, plain text.
      system: the system message that the model is served with; "" for none.
      seed: recorded, and of the bootstrap.
      layers: adapters, steering, ablation.
      steer: "all" or "prompt", the positions `layers.add` touches.
      batch_tokens: of a batch, about; 0 chooses by the kind of device.
      log: receives a line per set.
      fingerprint: identifies what is scored, as for `evaluate`.
      check: called after every batch, which is on disk by then; it may raise to stop here.

    Returns:
      The records of these sets.

    Raises:
      UsageError: a set of another form, an item that asks nothing, a template that is not there or
        refuses a turn, a system message without one.

    Example:
      >>> import pathlib, tempfile
      >>> import jaxsafety
      >>> from jaxsafety.evaluation.choices import measure_choices
      >>> model, params, tokenizer = jaxsafety.load()
      >>> ask = (jaxsafety.Message("user", "what is 11 plus 10 ?"),)
      >>> texts = ["the answer is 21 .", "the answer is 12 ."]
      >>> meta = {"context": "what is 11 plus 10 ?", "continuations": texts, "target": 0}
      >>> sums = jaxsafety.Benchmark("sums", "capability", (jaxsafety.Item("0", ask, meta),), 1,
      ...                            "choices")
      >>> with tempfile.TemporaryDirectory() as out:
      ...     records = measure_choices(
      ...         model, params, tokenizer, [sums], pathlib.Path(out), "base", log=str
      ...     )
      >>> [(record["metric"], record["value"]) for record in records]
      [('acc.logp', 1.0), ('acc_norm.logp', 1.0)]
    """
    if system and not chat:
        raise bad("system", system, "nothing, without a chat template")
    asked = {bench.name: _questions(bench) for bench in benchmarks}
    found = []
    for bench in benchmarks:
        questions = asked[bench.name]
        stems = [pairs.stems(tokenizer, one, chat=chat, system=system) for one in questions]
        settings = {
            **pairs.settings(tokenizer, chat=chat, system=system),
            "steer": steer,
            "fingerprint": fingerprint,
        }
        about = {
            **settings,
            "stems": stems,
            "model": [checkpoint.digest(params), checkpoint.digest(layers)],
        }
        path = _path(out, arm, bench)
        lines = hosts.share(lambda path=path, want=about: _kept(path, want))
        how = "reused"
        if lines is None:
            parts = Parts(path, about)
            what = f"{arm}, {bench.name}, {DECODING}"
            with Progress(log, what, total=len(questions), unit="items") as progress:
                sums = _scored(
                    Scorer,
                    model,
                    params,
                    layers,
                    steer,
                    batch_tokens,
                    stems,
                    parts,
                    progress,
                    check,
                )
            lines = _lines(
                bench, questions, stems, sums, model.config.max_length, settings, parts.key
            )
            disk.write_lines(path, lines)
            parts.drop()
            how = "scored"
        found += record(bench, arm, lines, seed)
        log(_summarise(arm, bench, lines, how))
    merge(Path(out), found)
    return found


def saved(
    out: Path, arm: str, benchmarks: Sequence[Benchmark], seed: int = 0
) -> list[dict[str, Any]]:
    """The records of sets that were scored before, from their lines; no model is needed.

    Args:
      out: the workdir.
      arm: whose.
      benchmarks: which; those without lines are passed over.
      seed: recorded, and of the bootstrap.
    """
    found = []
    for bench in benchmarks:
        path = _path(out, arm, bench)
        if path.is_file():
            found += record(bench, arm, disk.read_lines(path), seed)
    return found


def merge(out: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Puts records into `results.jsonl`, in place of those of the same arm, set and metric."""
    path = out / "results.jsonl"

    def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return row["arm"], row["benchmark"], row["metric"]

    new = {key(row) for row in records}
    rows = [row for row in disk.whole_lines(path) if outcomes.complete(row) is not None]
    others = [row for row in rows if key(row) not in new]
    disk.write_lines(path, [*others, *records])


def verdict(logps: Sequence[float], asked: pairs.Question) -> dict[str, float]:
    """What the log-probabilities of an item's choices say.

    Args:
      logps: the sum per choice; finite.
      asked: the item.

    Returns:
      acc and acc_norm, 0.0 or 1.0, or mc2 in 0..1.
    """
    values = np.asarray(logps, np.float64)
    if not isinstance(asked.target, int):
        right = np.asarray(asked.target) == 1
        mass = np.exp(values - values.max())
        return {"mc2": float(mass[right].sum() / mass.sum())}
    found = {"acc": float(int(np.argmax(values)) == asked.target)}
    if not asked.several:
        lengths = np.asarray([len(text) for text in asked.continuations], np.float64)
        found["acc_norm"] = float(int(np.argmax(values / lengths)) == asked.target)
    return found


def record(
    bench: Benchmark, arm: str, lines: Sequence[Mapping[str, Any]], seed: int
) -> list[dict[str, Any]]:
    """One record per metric, with the keys of `outcomes.RECORD_KEYS`.

    acc and acc_norm get the interval of a rate, mc2, no rate of 0 and 1, a bootstrap over items.
    """
    causes = Counter(line["cause"] for line in lines if line["cause"])
    cause = "; ".join(f"{why} ({count})" for why, count in causes.most_common())
    told = [line["scores"] for line in lines if not line["cause"]]
    names = {name for scores in told for name in scores} or set(_would(bench))
    found = []
    for name in (metric for metric in METRICS if metric in names):
        values = [scores[name] for scores in told if name in scores]
        lo = hi = None
        if values:
            lo, hi = (
                intervals.bootstrap(values, seed=seed)
                if name == "mc2"
                else intervals.interval(values, seed=seed)
            )
        row = (arm, bench.name, bench.kind, f"{name}.{DECODING}", intervals.mean(values), lo, hi)
        rest = (len(values), seed, len(lines) - len(values), cause)
        found.append(dict(zip(outcomes.RECORD_KEYS, (*row, *rest), strict=True)))
    return found


def _would(bench: Benchmark) -> Mapping[str, float]:
    """The metrics of a set of which nothing could be scored."""
    asked = pairs.question(bench.items[0], f"benchmark.{bench.name}")
    return verdict([0.0] * len(asked.continuations), asked)


def _questions(bench: Benchmark) -> list[pairs.Question]:
    if bench.form != "choices":
        raise bad(f"benchmark.{bench.name}.form", bench.form, "choices, to be scored")
    if not bench.items:
        raise bad(f"benchmark.{bench.name}.items", "none", "one or more")
    return [pairs.question(item, f"benchmark.{bench.name}") for item in bench.items]


def _path(out: Path, arm: str, bench: Benchmark) -> Path:
    return Path(out) / "generations" / arm / f"{bench.name}.{DECODING}.jsonl"


def _scored(
    scorer: Callable[..., Scorer],
    model: Model,
    params: Any,
    layers: LayerInputs,
    steer: str,
    tokens: int,
    stems: Sequence[Sequence[pairs.Stem]],
    parts: Parts,
    progress: Progress,
    check: Callable[[], None] | None,
) -> dict[tuple[int, int], float]:
    """(item, choice) -> sum of log-probabilities, of the items that can be scored."""
    longest = model.config.max_length
    fit = [i for i, found in enumerate(stems) if not pairs.unscorable(found, longest)]
    places = [
        (i, part)
        for i in fit
        for stem in pairs.without_copies(stems[i])
        for part in packing.split(stem)
    ]
    sums = {(i, choice): answer.logp[0] for (i, choice), answer in parts.known().items()}
    if places:
        work = scorer(
            model, params, [stem for _, stem in places], layers, steer=steer, tokens=tokens
        )
        for number, batch in enumerate(work.batches):
            have = {(places[s][0], choice) for s in batch.stems for choice in places[s][1].choices}
            if not have <= set(sums):
                rows = []
                for s, values in work.score(batch):
                    item, stem = places[s]
                    rows += [
                        (item, choice, ([], True, [value]))
                        for choice, value in zip(stem.choices, values, strict=True)
                    ]
                parts.keep(number, rows)
                sums |= {(item, choice): said[2][0] for item, choice, said in rows}
            progress(len({i for i, _ in sums}))
            if check is not None:
                check()
    return {(i, c): sums[i, first] for i in fit for c, first in pairs.firsts(stems[i]).items()}


def _lines(
    bench: Benchmark,
    questions: Sequence[pairs.Question],
    stems: Sequence[Sequence[pairs.Stem]],
    sums: Mapping[tuple[int, int], float],
    longest: int,
    settings: Mapping[str, Any],
    key: str,
) -> list[Line]:
    """One line per item; `key` stands for all that its numbers depend on."""
    lines = []
    for index, (item, asked, own) in enumerate(zip(bench.items, questions, stems, strict=True)):
        cause = pairs.unscorable(own, longest)
        count = len(asked.contexts)
        values = [] if cause else [sums[index, choice] for choice in range(count)]
        if not all(map(math.isfinite, values)):
            cause = "a log-probability that is no number"
        logps = [value if math.isfinite(value) else None for value in values] or [None] * count
        tokens = {
            c: len(ids) for s in own for c, ids in zip(s.choices, s.continuations, strict=True)
        }
        line = {
            "id": item.id,
            "description": asked.description,
            "contexts": list(asked.contexts) if asked.several else [asked.contexts[0]],
            "continuations": list(asked.continuations),
            "target": asked.target,
            "logps": logps,
            "tokens": [tokens[choice] for choice in range(count)],
            "scores": {} if cause else verdict(values, asked),
            "cause": cause,
            "meta": {k: v for k, v in item.meta.items() if k not in _TOLD},
            "settings": dict(settings),
            "key": key,
        }
        lines.append(json.loads(json.dumps(line, default=str), parse_constant=lambda name: None))
    return lines


_TOLD = ("context", "continuations", "target", "description", "delimiter")


def _kept(path: Path, about: Mapping[str, Any]) -> list[Line] | None:
    """The saved lines, if they are of these very items, settings and parameters."""
    lines = disk.whole_lines(path)
    key = Parts(path, about).key
    have = [line.get("key") for line in lines]
    return lines if have and have == [key] * len(about["stems"]) else None


def _summarise(arm: str, bench: Benchmark, lines: Sequence[Line], how: str) -> str:
    """A line for a person."""
    rows = record(bench, arm, lines, 0)
    shown = []
    for row in rows:
        name = row["metric"].removesuffix(f".{DECODING}")
        rate = "–" if row["value"] is None else f"{100 * row['value']:5.1f} %"
        if row["value"] is not None:
            rate += f" [{100 * row['lo']:.1f}, {100 * row['hi']:.1f}]"
        shown.append(f"{name} {rate}")
    n, why = rows[0]["n"], rows[0]["cause"]
    lost = f"; not scored: {why}" if why else ""
    return f"{arm:8} {bench.name:24} {DECODING:7} n={n:<5} {', '.join(shown)} {how}{lost}"
