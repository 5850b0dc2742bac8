"""The judges of a measurement: which directory each has, and which sets each can judge."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.core import disk
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.evaluation import grading
from jaxsafety.experiment.measuring.verdicts import JUDGED
from jaxsafety.experiment.workdir import model_fingerprint
from jaxsafety.judges import rules
from jaxsafety.judges.opening import open_judge
from jaxsafety.protocols import Benchmark, Judge

TASKS = "tasks"  # the folder of what a task's own rule says: a right answer needs no opinion
WORDS = ("safety", "over_refusal")  # kinds of sets that judges are asked about


class Named(NamedTuple):
    """A judge that was opened.

    Attributes:
      title: as it was asked for.
      folder: its directory below `judges/`.
      judge: the judge.
      kinds: of the sets that it judges.
      facts: name, where, content (a digest), label of its unsafe rate, what it says of scores.
    """

    title: str
    folder: str
    judge: Judge
    kinds: tuple[str, ...]
    facts: dict[str, Any]


def open_judges(
    texts: Sequence[str],
    world: Any,
    benchmarks: Sequence[Benchmark] = (),
    *,
    kinds: Sequence[tuple[str, str]] = (),
) -> list[Named]:
    """Opens judges, and the rules of tasks where there are tasks that none of them knows.

    Args:
      texts: NAME or NAME=WHERE each.
      world: the organism's, or None.
      benchmarks: that will be judged.
      kinds: (kind, form) of them, instead.

    Raises:
      UsageError: an unknown judge, one that cannot be opened, one that is named twice.
    """
    found: list[Named] = []
    for text in texts:
        try:
            name, judge = open_judge(text, world)
        except UsageError as error:
            given = str(error)
            raise UsageError(
                given if given.startswith("--judges") else f"--judges: {given}"
            ) from None
        folder, where = folder_of(text), text.partition("=")[2].strip()
        if any(one.folder == folder for one in found):
            raise bad("--judges", text, "each judge once")
        exact = bool(getattr(judge, "exact", False))
        judged = (*WORDS, "capability") if exact else WORDS
        found.append(Named(text, folder, judge, judged, _facts(name, where, judge)))
    asked = [(b.kind, b.form) for b in benchmarks] if benchmarks else kinds
    tasks = any(kind == "capability" and form == "text" for kind, form in asked)
    if tasks and not any("capability" in one.kinds for one in found):
        told = {**_facts(TASKS, "", rules.judge), "label": ""}
        found.append(Named("the rule of each task", TASKS, rules.judge, ("capability",), told))
    return found


def folder_of(text: str) -> str:
    """The directory of a judge: its name, and of one with a place also that.

    Two places are two directories; "DIR" and "./DIR" are one place.
    """
    name, _, where = (part.strip() for part in text.partition("="))
    if not where:
        return name
    place = str(Path(where).resolve()) if Path(where).exists() else where
    short = re.sub(r"[^A-Za-z0-9_]+", "_", Path(where).name).strip("_")[:24]
    digest = hashlib.sha256(place.encode()).hexdigest()[:6]
    return "-".join(part for part in (name, short, digest) if part)


def judged_sets(root: Path) -> set[str]:
    """Names of the sets that a judge's directory has verdicts of."""
    kept = disk.read_json(root / JUDGED)
    labels = kept if isinstance(kept, dict) else {}
    return {label.partition("/")[2].rpartition(".")[0] for label in labels}


def _facts(name: str, where: str, judge: Judge) -> dict[str, Any]:
    scored = ("orientation", "low", "high", "threshold")
    return {
        "name": name,
        "where": where,
        "content": _content(where),
        "label": grading.unsafe(judge),
        **{key: getattr(judge, key) for key in scored if hasattr(judge, key)},
    }


def _content(where: str) -> str | None:
    """A digest of the file or model directory that a judge is made of; None for anything else."""
    place = Path(where)
    if where and place.is_file():
        with place.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    if where and (place / "config.json").is_file():
        return model_fingerprint(place)
    return None
