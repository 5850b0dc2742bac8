"""What `jaxsafety eval` was asked for: its options as one record, each checked on its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from jaxsafety.core.errors import bad
from jaxsafety.data.tokens import raw
from jaxsafety.evaluation.evaluate import Decoding
from jaxsafety.judges import reasoning
from jaxsafety.models.formats import source

ARM = "model"
SAMPLES = 2  # answers per prompt of a sampled decoding, as in a run
NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Request:
    """A measurement.

    Attributes:
      out: the directory of the results.
      model: a directory, a file or a hub id; "" where nothing is generated (`rejudge`).
      adapter: a PEFT directory or a library of routed experts, or None.
      suite: names of suites and sets.
      data: directories, SET=FILE for public sets and KIND/NAME=FILE for files of one's own.
      judges: NAME or NAME=WHERE each.
      limit: prompts per set; 0 is all.
      batch_size: answers decoded at once; changes no answer.
      max_tokens: of an answer; 0 is what each set asks for.
      seed: of the choice of prompts and of sampling.
      decodings: "greedy", or "t1" (temperature 1), "t07" (0.7) and so on.
      arm: what the model is called in the records.
      variables: NAME=JSON each, of the chat template.
      template: "raw" is texts without one, as of `jaxsafety.load`.
      kernels: "int8", or "float", as of `served.load`.
      rejudge: judge the saved answers again, without a model.
      reasoning: the marks that begin and end a thought, of which judges hear nothing; () is none.
    """

    out: Path
    model: str = ""
    adapter: Path | None = None
    suite: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    judges: tuple[str, ...] = ("rules",)
    limit: int = 0
    batch_size: int = 16
    max_tokens: int = 0
    seed: int = 0
    decodings: tuple[str, ...] = ("greedy",)
    arm: str = ARM
    variables: tuple[str, ...] = ()
    template: str = ""
    kernels: str = "float"
    rejudge: bool = False
    reasoning: tuple[str, ...] = ()


def check(request: Request) -> tuple[Decoding, ...]:
    """The decodings that are asked for, once every option is one.

    Raises:
      UsageError: a number out of range, an unknown decoding, an arm that is no file name, marks
        that are none.
    """
    for name, least in (("limit", 0), ("batch_size", 1), ("max_tokens", 0)):
        value = getattr(request, name)
        if value < least:
            raise bad(f"--{name.replace('_', '-')}", value, f"an integer, {least} or more")
    if not 0 <= request.seed < 2**32:
        raise bad("--seed", request.seed, "an integer, 0 or more, of 32 bits")
    if not NAME.fullmatch(request.arm):
        raise bad("--arm", request.arm, "a name of letters, digits, _ and -")
    if not request.judges:
        raise bad("--judges", "nothing", "one or more, NAME or NAME=WHERE")
    reasoning.parse("--reasoning", request.reasoning)
    raw.check(request.template, "--template")
    source.check_kernels(request.kernels, "--kernels")
    if request.rejudge:
        given = [n for n in ("model", "adapter", "suite", "data") if getattr(request, n)]
        if given:
            allowed = "without it: the saved answers are judged, of all models and sets"
            raise bad("--rejudge", f"--{given[0]} too", allowed)
    elif not (request.suite or request.data):
        raise bad("--suite", "nothing", "suites or sets, or --data=KIND/NAME=FILE")
    return parse_decodings(request.decodings)


def parse_decodings(names: tuple[str, ...]) -> tuple[Decoding, ...]:
    """Ways of sampling by their names.

    Raises:
      UsageError: none, an unknown one or one named twice.
    """
    found = [_decoding(name) for name in names]
    if not found or len({d.name for d in found}) < len(found):
        raise bad("--decodings", ",".join(names), "greedy, t1, t07, ..., each once")
    return tuple(found)


def _decoding(name: str) -> Decoding:
    if name == "greedy":
        return Decoding(name)
    digits = name[1:]
    if not (name.startswith("t") and digits.isascii() and digits.isdigit() and int(digits)):
        raise bad("--decodings", name, "greedy, or t1 (temperature 1), t07 (0.7) and so on")
    # As `report.load.decoding_label` prints it.
    temperature = float(f"0.{digits[1:]}") if digits[0] == "0" else float(digits)
    return Decoding(name, temperature=temperature, samples=SAMPLES)
