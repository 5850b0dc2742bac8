"""The judges of a measurement: which directory each has, and which sets each can judge."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.core import disk
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.evaluation import grading
from jaxsafety.experiment.identity import model_fingerprint
from jaxsafety.experiment.measuring.verdicts import JUDGED
from jaxsafety.judges import rules
from jaxsafety.judges.opening import open_judge
from jaxsafety.protocols import Judge

TASKS = "tasks"  # the folder of what a task's own rule says: a right answer needs no opinion
WORDS = ("safety", "over_refusal")  # kinds of sets that judges are asked about


class Named(NamedTuple):
    """A judge that can be opened.

    Attributes:
      title: as it was asked for.
      folder: its directory below `judges/`.
      open: makes the judge. One with a place may be a model: it is made to see whether it can be,
        let go, and made again when it is its turn, so that no two models are held at once.
      kinds: of the sets that it judges.
      facts: name, where, content (a digest), label of its unsafe rate, kinds, what it says of
        scores.
    """

    title: str
    folder: str
    open: Callable[[], Judge]
    kinds: tuple[str, ...]
    facts: dict[str, Any]


def open_judges(
    texts: Sequence[str],
    world: Any,
    kinds: Sequence[tuple[str, str]],
    known: Mapping[str, Any],
) -> list[Named]:
    """Opens judges, and the rules of tasks where there are tasks that none of them knows.

    Args:
      texts: NAME or NAME=WHERE each.
      world: the organism's, or None.
      kinds: (kind, form) of the sets that will be judged.
      known: directory -> facts, of those that were opened before: what is still made of the same
        content is not made again before its turn.

    Raises:
      UsageError: an unknown judge, one that cannot be opened, one that is named twice.
    """
    found: list[Named] = []
    for text in texts:
        folder = folder_of(text)
        if any(one.folder == folder for one in found):
            raise bad("--judges", text, "each judge once")
        found.append(_named(text, folder, world, known.get(folder)))
    tasks = any(kind == "capability" and form == "text" for kind, form in kinds)
    if tasks and not any("capability" in one.kinds for one in found):
        told = {**_facts(TASKS, "", None, rules.judge), "label": "", "kinds": ["capability"]}
        title = "the rule of each task"
        found.append(Named(title, TASKS, lambda: rules.judge, ("capability",), told))
    return found


def _named(text: str, folder: str, world: Any, old: Any) -> Named:
    name, _, where = (part.strip() for part in text.partition("="))
    content = _content(where)

    def make() -> Judge:
        try:
            return open_judge(text, world)[1]
        except UsageError as error:
            raise UsageError(f"--judges: {error}") from None

    if content and isinstance(old, Mapping) and old.get("content") == content:
        return Named(text, folder, make, tuple(old["kinds"]), dict(old))
    judge = make()
    facts = _facts(name, where, content, judge)
    kept = make if where else lambda: judge
    return Named(text, folder, kept, tuple(facts["kinds"]), facts)


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


def list_judged(root: Path) -> set[str]:
    """Names of the sets that a judge's directory has verdicts of."""
    kept = disk.read_json(root / JUDGED)
    labels = kept if isinstance(kept, dict) else {}
    return {label.partition("/")[2].rpartition(".")[0] for label in labels}


def _facts(name: str, where: str, content: str | None, judge: Judge) -> dict[str, Any]:
    exact = bool(getattr(judge, "exact", False))
    scored = ("orientation", "low", "high", "threshold", "convention")
    return {
        "name": name,
        "where": where,
        "content": content,
        "label": grading.unsafe(judge),
        "kinds": [*WORDS, "capability"] if exact else [*WORDS],
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
