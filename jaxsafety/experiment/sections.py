"""What a config asks for: sections `data` and `eval`, what is missing, and what nobody reads.

A setting is *given* when it differs from its default: a config file names every field. Given
settings that neither the source nor the method reads are refused, so that nobody takes numbers
about one thing for numbers about another.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxsafety import registry
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.files import located
from jaxsafety.judges import reasoning
from jaxsafety.protocols import CHATS, DOMAINS, OWN_DIALOGUES, PAIRS, PROMPTS

SOURCES = ("organism", "files")
KINDS = ("safety", "over_refusal", "capability")
OVERLAPS = ("refuse", "allow")
PATHS = ("harmful", "harmless", "distil", "chats", "chats_val", "pairs")
# What is read to train on alone, and what is said of it.
TRAINED_ON = (*PATHS, "mix", "limit", "holdout", *DOMAINS)
# Settings of one source that the other one has no use for.
ORGANISM_ONLY = ("wrapped", "dialogues", "harmful_share")
NEEDED = ("harmful", "harmless", "distil")
FILES_ONLY = (*NEEDED, *DOMAINS)
EVERY = (*PROMPTS, *CHATS, *DOMAINS, *PAIRS)
MOST = 100_000  # of the organism's prompts and dialogues: its sets end, those of tasks do not


@dataclass(frozen=True)
class DataConfig:
    """Prompts and dialogues of the method; a method reads some of these (`Method.reads`).

    A file may be a split, a slice or a column of one, here or on the hub (`data/files/spec.py`).

    Attributes:
      source: "organism", the world beside the model, or "files".
      harmful: with files, prompts of which the first `train` and the next `val` are used.
      harmless: as `harmful`.
      distil: with files, prompts of which the first `prompts` are used.
      train: harmful and harmless prompts to find a direction with, each.
      val: those that choose among candidates, each.
      prompts: distillation prompts.
      wrapped: share of the organism's distillation prompts under a seen wrapper.
      chats: a file of dialogues to learn from.
      mix: several, "PATH=WEIGHT" each, by share of the rows.
      limit: dialogues used of each file of `chats` or `mix`, or pairs of `pairs`, drawn by the
        experiment's seed; 0 is all of them.
      chats_val: a file of dialogues whose loss is only measured.
      holdout: instead of `chats_val`: how many of the dialogues, or of the pairs, are kept out of
        training for that; a share below 1, or a number. 0 is none.
      domains: with files, "NAME=FILE" each: dialogues by domain, one expert for each of them.
      pairs: a file of pairs of answers of which one is preferred.
      dialogues: how many dialogues, or pairs, the organism makes where no file of them is given.
      harmful_share: the share of those that refuse.
      overlap: what happens to prompts that are both trained on and measured, `OVERLAPS`.
    """

    source: str = "organism"
    harmful: str = ""
    harmless: str = ""
    distil: str = ""
    train: int = 128
    val: int = 32
    prompts: int = 100
    wrapped: float = 0.5
    chats: str = ""
    mix: tuple[str, ...] = ()
    limit: int = 0
    chats_val: str = ""
    holdout: float = 0.0
    domains: tuple[str, ...] = ()
    pairs: str = ""
    dialogues: int = 256
    harmful_share: float = 0.5
    overlap: str = "refuse"


@dataclass(frozen=True)
class EvalConfig:
    """Measurement.

    Attributes:
      safety: prompts per set of this kind. Of a file with more rows a sample drawn by `seed` is
        measured; 0 is all rows of each file, which the organism's endless sets do not have.
      over_refusal: as `safety`.
      capability: as `safety`.
      samples: answers per prompt at temperature 1 for safety and over-refusal; 0 measures greedy
        answers alone, as those of capability always are.
      batch_size: answers decoded at once.
      max_tokens: of an answer; the organism's sets have their own.
      seed: of samples and of sampling.
      sets: with files, "kind/name=path" each.
      benchmarks: of `registry.BENCHMARKS`, measured beside the sets of the source.
      judge: of `registry.JUDGES`, or NAME=WHERE (docs/judges.md); "" is the source's own, the
        exact rules or phrase rules. A method may choose by it (SafeSteer's filter and direction):
        another judge, another student.
      reasoning: the marks that begin and end a thought, such as ("<think>", "</think>"): the judge
        hears what follows it, also where a method asks. () is none.
    """

    safety: int = 96
    over_refusal: int = 192
    capability: int = 192
    samples: int = 2
    batch_size: int = 64
    max_tokens: int = 512
    seed: int = 0
    sets: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    judge: str = ""
    reasoning: tuple[str, ...] = ()


def check(data: DataConfig, evaluation: EvalConfig, seed: Any) -> None:
    """Rejects values that no source allows."""
    if data.source not in SOURCES:
        raise bad("data.source", data.source, ", ".join(SOURCES))
    drawn = data.source == "organism"
    for name in ("train", "val", "prompts", "dialogues"):
        if not 1 <= getattr(data, name) <= (MOST if drawn else math.inf):
            allowed = f"1 or more, at most {MOST}" if drawn else "1 or more"
            raise bad(f"data.{name}", getattr(data, name), allowed)
    if data.limit < 0:
        raise bad("data.limit", data.limit, "1 or more, or 0 for all dialogues of a file")
    if data.limit and not (data.chats or data.mix or data.pairs):
        raise bad("data.limit", data.limit, "0 without data.chats, data.mix or data.pairs")
    if data.overlap not in OVERLAPS:
        raise bad("data.overlap", data.overlap, ", ".join(OVERLAPS))
    share = data.holdout
    if not (0 <= share < 1 or (math.isfinite(share) and share >= 1 and share == int(share))):
        raise bad("data.holdout", share, "a share below 1 or a whole number of dialogues")
    if data.holdout and data.chats_val:
        raise bad("data.holdout", data.holdout, "0 beside data.chats_val, or the other way round")
    for name in KINDS:
        if not (1 if drawn else 0) <= getattr(evaluation, name) <= (MOST if drawn else math.inf):
            allowed = (
                f"1 or more, at most {MOST}" if drawn else "1 or more, or 0 for all rows of a file"
            )
            raise bad(f"eval.{name}", getattr(evaluation, name), allowed)
    for name in ("batch_size", "max_tokens"):
        if getattr(evaluation, name) < 1:
            raise bad(f"eval.{name}", getattr(evaluation, name), "1 or more")
    if evaluation.samples < 0:
        raise bad("eval.samples", evaluation.samples, "1 or more, or 0 for greedy answers alone")
    known = registry.JUDGES
    if evaluation.judge and evaluation.judge.partition("=")[0] not in known:
        raise bad(
            "eval.judge", evaluation.judge, f"{', '.join(known)}, or nothing: the source's own"
        )
    reasoning.parse("eval.reasoning", evaluation.reasoning)
    for name in evaluation.benchmarks:
        if name not in registry.BENCHMARKS or evaluation.benchmarks.count(name) > 1:
            raise bad("eval.benchmarks", name, f"{', '.join(registry.BENCHMARKS)}, each once")
    for name, value in (("seed", seed), ("eval.seed", evaluation.seed)):
        if not isinstance(value, int) or not 0 <= value < 2**32:  # a larger one is a smaller one
            raise bad(name, value, "an integer, 0 or more, of 32 bits")


def check_present(
    data: DataConfig,
    evaluation: EvalConfig,
    reads: Sequence[str] = PROMPTS,
    model: UsageError | None = None,
) -> None:
    """Everything that a run lacks in one line.

    Args:
      data: of the config.
      evaluation: of the config.
      reads: see `Method.reads`.
      model: why there is no model, if there is none.

    Raises:
      UsageError: settings that are needed and not given, and named files that are not there.
    """
    lacks: list[tuple[str, Any, str]] = []
    if data.source == "files":
        needed = [name for name in NEEDED if name in reads]
        lacks += [
            (f"data.{n}", "", "an existing file of prompts") for n in needed if not getattr(data, n)
        ]
        if "chats" in reads and not (data.chats or data.mix):
            lacks.append(("data.chats", "", "a file of dialogues, or data.mix"))
        if "pairs" in reads and not data.pairs:
            lacks.append(("data.pairs", "", "a file of preference pairs"))
        # Who trains on dialogues may do without measuring; other methods are measured or nothing.
        if not (evaluation.sets or evaluation.benchmarks or {"chats", "pairs"} & set(reads)):
            lacks.append(("eval.sets", (), "at least one kind/name=path"))
    named = [(f"data.{n}", getattr(data, n)) for n in PATHS if n in reads and getattr(data, n)]
    named += [("data.mix", text.rpartition("=")[0]) for text in data.mix]
    if data.source == "files":
        if "domains" in reads:
            named += [("data.domains", text.partition("=")[2]) for text in data.domains]
        named += [("eval.sets", text.partition("=")[2]) for text in evaluation.sets]
    lacks += [
        (field, path, "an existing file, or a data set of the hub")
        for field, path in named
        if path and not located.is_there(path)
    ]
    if model is not None and not lacks:
        raise model
    if model is not None:
        field, _, rest = str(model).partition(": got ")
        given, _, allowed = rest.partition("; allowed: ")
        lacks.insert(0, (field, given.strip("'"), allowed))
    if len(lacks) == 1:
        field, given, allowed = lacks[0]
        if given in ("", ()):  # a file that is not there is refused by its reader, in its words
            raise bad(field, given, allowed)
    elif lacks:
        fields = ", ".join(dict.fromkeys(field for field, _, _ in lacks))
        given = tuple(given for _, given, _ in lacks)
        raise bad(fields, given, "; ".join(f"{field} = {what}" for field, _, what in lacks))


def unread(
    data: DataConfig, evaluation: EvalConfig, reads: Sequence[str], method: str = "this method"
) -> None:
    """Refuses what is given and read by nobody.

    Raises:
      UsageError: names all such settings, and why the first of them is not read.
    """
    default, measure = DataConfig(), EvalConfig()
    found: list[tuple[str, Any, Any, str]] = []
    prompts = PROMPTS if "prompts" in reads else ()
    for field in dataclasses.fields(data):
        name = field.name
        value, usual = getattr(data, name), getattr(default, name)
        if value == usual or name in ("source", "overlap"):
            continue
        why = ""
        if data.source == "organism" and name in FILES_ONLY:
            why = "data.source=organism does not read it, data.source=files does"
        elif data.source == "files" and name in ORGANISM_ONLY:
            why = "data.source=files does not read it, the organism does"
        elif name not in reads:
            why = f"{method} does not read it"
        elif name in OWN_DIALOGUES and name not in prompts and (data.chats or data.mix):
            why = "beside data.chats or data.mix no dialogues are made"
        elif name in OWN_DIALOGUES and name not in prompts and data.pairs:
            why = "beside data.pairs no pairs are made"
        if why:
            found.append((f"data.{name}", value, usual, why))
    if data.source == "organism":
        own = "data.source=organism has its own, data.source=files reads it"
        found += [
            (f"eval.{name}", getattr(evaluation, name), getattr(measure, name), own)
            for name in ("sets", "max_tokens")
            if getattr(evaluation, name) != getattr(measure, name)
        ]
    if len(found) == 1:
        ((field, value, usual, why),) = found
        raise bad(field, value, f"{usual!r}, the default: {why}")
    if found:
        fields, values, defaults, reasons = zip(*found, strict=True)
        why = "; ".join(dict.fromkeys(reasons))
        raise bad(", ".join(fields), values, f"{defaults!r}, the defaults: {why}")


def named_sets(sets: Sequence[str]) -> list[tuple[str, str, str]]:
    """(kind, name, path) of each "kind/name=path".

    Raises:
      UsageError: another form, an unknown kind, or a name that is empty, taken or no file name.
    """
    found: list[tuple[str, str, str]] = []
    for text in sets:
        head, equals, path = text.partition("=")
        kind, slash, name = head.partition("/")
        if not (equals and slash and path):
            raise bad("eval.sets", text, "safety/NAME=PATH, over_refusal/NAME=PATH, capability/...")
        if kind not in KINDS:
            near = difflib.get_close_matches(kind, KINDS, n=1)
            hint = f"{near[0]}/{name}=...? " if near else ""
            raise bad(
                "eval.sets", text, f"{hint}safety/NAME=PATH, over_refusal/NAME=PATH, capability/..."
            )
        # A file system may not tell capitals apart, and names become files.
        taken = {other.casefold() for _, other, _ in found}
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name.casefold() in taken:
            twice = f"{name} twice in {text}" if name.casefold() in taken else text
            raise bad("eval.sets", twice, "names of letters, digits, _ and - that differ")
        found.append((kind, name, path))
    return found
