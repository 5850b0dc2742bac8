r"""GSM8K as lm-eval reads an answer, beside our own reading: strict and flexible.

lm-eval 0.4.13, `lm_eval/tasks/gsm8k/gsm8k.yaml`, `lm_eval/filters/extraction.py` and
`exact_match_hf_evaluate` of `lm_eval/api/metrics.py` in the installed package:

  strict    the first number behind "#### "
  flexible  the last thing that looks like a number

of the answer up to the first of `UNTIL`, compared with the gold answer as texts, once commas, "$",
all up to "#### ", a full stop at the end and case are taken off both. So "18." or a step's number
may be what flexible reads, and "5.00" is not "5" in either: these are numbers to compare with
published ones, and `judges/answers.py` has the reading that we stand for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsafety.benchmarks import intervals, outcomes
from jaxsafety.core import disk
from jaxsafety.protocols import Benchmark

UNTIL = ("Question:", "</s>", "<|im_end|>")  # lm-eval ends an answer there
INVALID = "[invalid]"
STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
IGNORED = (re.compile(","), re.compile(r"\$"), re.compile(r"(?s).*#### "), re.compile(r"\.$"))


def strict(text: str) -> str:
    """The number behind the first "#### " that has one; `INVALID` without."""
    found = STRICT.search(ended(text))
    return found[1].strip() if found else INVALID


def flexible(text: str) -> str:
    """The last part that looks like a number; `INVALID` without."""
    found = [match[0] for match in FLEXIBLE.finditer(ended(text))]
    return found[-1].strip() if found else INVALID


FILTERS = {"strict": strict, "flexible": flexible}


def equal(found: str, gold: str) -> bool:
    """Whether a filtered answer is the gold one, as lm-eval compares them."""
    return _plain(found) == _plain(gold)


def records(
    bench: Benchmark, arm: str, decoding: str, lines: Sequence[Mapping[str, Any]], seed: int
) -> list[dict[str, Any]]:
    """A record per filter, named "strict.<decoding>" and "flexible.<decoding>".

    Args:
      bench: items whose meta has "answer" and "grade": "gsm8k"; of others nothing is made.
      arm: whose answers.
      decoding: its name.
      lines: saved answers: id, response.
      seed: recorded, and of the bootstrap.
    """
    golds = {
        item.id: str(item.meta["answer"])
        for item in bench.items
        if item.meta.get("grade") == "gsm8k"
    }
    if len(golds) < len(bench.items):
        return []
    found = []
    for name, read in FILTERS.items():
        values = [float(equal(read(line["response"]), golds[line["id"]])) for line in lines]
        lo, hi = intervals.interval(values, [line["id"] for line in lines], seed=seed)
        row = (arm, bench.name, bench.kind, f"{name}.{decoding}", intervals.mean(values), lo, hi)
        whole = (*row, len(values), seed, 0, "")
        found.append(dict(zip(outcomes.RECORD_KEYS, whole, strict=True)))
    return found


def saved(
    out: Path, arm: str, benchmarks: Sequence[Benchmark], seed: int = 0
) -> list[dict[str, Any]]:
    """The records of all saved answers of an arm to sets like GSM8K; no model is needed."""
    found = []
    for bench in benchmarks:
        for path in sorted((Path(out) / "generations" / arm).glob(f"{bench.name}.*.jsonl")):
            lines = disk.read_lines(path)
            decoding = path.name.removeprefix(f"{bench.name}.").removesuffix(".jsonl")
            if all("response" in line for line in lines):
                found += records(bench, arm, decoding, lines, seed)
    return found


def ended(text: str) -> str:
    """An answer up to the first of `UNTIL`, which lm-eval ends it at."""
    for stop in UNTIL:
        text = text.split(stop)[0]
    return text


def _plain(text: str) -> str:
    for pattern in IGNORED:
        text = pattern.sub("", text)
    return text.lower()
