"""`eval.json`: what a directory of measurements was made with, and whether a command fits it.

One directory has one way of measuring (limit, seed, tokens, decodings, marks of thoughts) and any
number of models ("arms"), sets and judges, each of which has to stay what it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsafety.core import disk
from jaxsafety.core.errors import bad
from jaxsafety.experiment.measuring.request import Request
from jaxsafety.judges import reasoning

NAME = "eval.json"
FORMAT = 1
# Of a model and of a set: what makes it another one.
MODEL = ("fingerprint", "adapter", "template", "variables")
# Absent where it is "float", as in what was written before there was another.
KERNELS = "kernels"
SET = ("sha256", "kind", "form", "used", "max_tokens", "revision")
JUDGE = ("where", "content")
# Of a model: what a command adds to it, and later ones keep.
ADDED = ("date", "long", "shared")


def read(out: Path) -> dict[str, Any]:
    """What `eval.json` holds; {} where there is none.

    Raises:
      UsageError: a file that is none, or generations without it.
    """
    path = out / NAME
    if not path.is_file():
        if (out / "config.json").is_file() or (out / "generations").is_dir():
            allowed = "a new directory: this one holds other results (a run, or `eval` of one)"
            raise bad("--out", str(out), allowed)
        return {}
    found = disk.read_json(path)
    parts = ("settings", "sets", "judges", "arms")
    if (
        not isinstance(found, dict)
        or found.get("format") != FORMAT
        or not all(isinstance(found.get(part), dict) for part in parts)
    ):
        raise bad("--out", f"{path}, which cannot be read", "what `jaxsafety eval` wrote")
    return found


def describe(request: Request) -> dict[str, Any]:
    """What all models, sets and judges of a directory share."""
    marks = reasoning.parse("--reasoning", request.reasoning)
    return {
        "limit": request.limit,
        "seed": request.seed,
        "max_tokens": request.max_tokens,
        "decodings": list(request.decodings),
        # Absent where there are none, as in what was written before there could be any.
        **({"reasoning": list(marks)} if marks else {}),
    }


def marks_of(known: Mapping[str, Any]) -> reasoning.Marks | None:
    """The marks of thoughts that a directory is judged with; None where it has none.

    Raises:
      UsageError: `eval.json` holds what are no marks.
    """
    return reasoning.parse(f"{NAME}, reasoning", known["settings"].get("reasoning", ()))


def opens(known: Mapping[str, Any], arm: str) -> bool:
    """Whether an arm's template opens a thought in the prompt, by how its prompts end."""
    marks = marks_of(known)
    return marks is not None and reasoning.opens(known["arms"][arm].get("prompt_end", ""), marks)


def check_marks(known: Mapping[str, Any], request: Request) -> None:
    """Rejects other marks than the directory's, which `--rejudge` goes by.

    Raises:
      UsageError: see above; none given is none asked for.
    """
    own = marks_of(known)
    if request.reasoning and reasoning.parse("--reasoning", request.reasoning) != own:
        given = ",".join(request.reasoning)
        allowed = (
            f"{','.join(own)}, this directory's" if own else "none, as this directory has none"
        )
        raise bad("--reasoning", given, f"{allowed}; others need a new directory")


def join(
    out: Path,
    known: Mapping[str, Any],
    request: Request,
    *,
    arm: Mapping[str, Any],
    sets: Mapping[str, Mapping[str, Any]],
    judges: Mapping[str, Mapping[str, Any]],
    missing: tuple[str, ...] = (),
) -> dict[str, Any]:
    """`eval.json` with what this command adds; nothing is written.

    Args:
      out: the directory, for errors.
      known: what it holds; {} for a new one.
      request: of this command.
      arm: facts of its model.
      sets: name -> facts.
      judges: directory name -> facts.
      missing: sets of a suite that are not in the data.

    Raises:
      UsageError: a setting, this arm's model, a set or a judge is another one than it was; the
        line says what differs.
    """
    now = describe(request)
    before = known.get("settings") or now
    told = _changes("--", before, now, tuple({**now, **before}))
    allowed = "the same settings, or a new directory"
    arms = known.get("arms", {})
    if not told and request.arm in arms:
        told = _changes(f"{request.arm}: ", arms[request.arm], arm, (*MODEL, KERNELS))
        allowed = f"the same model, another --arm than {request.arm}, or a new directory"
    for what, of, olds, news in (
        ("set", SET, known.get("sets", {}), sets),
        ("judge", JUDGE, known.get("judges", {}), judges),
    ):
        for name in (n for n in news if n in olds and not told):
            told = _changes(f"{what} {name}: ", olds[name], news[name], of)
            allowed = f"the same {what}s, or a new directory"
            if what == "judge":
                allowed = "--rejudge, which judges all saved answers again, or a new directory"
    if told:
        raise bad("--out", f"{out}, made otherwise ({'; '.join(told)})", allowed)
    kept = arms.get(request.arm, {})
    have = {*known.get("sets", {}), *sets}
    return {
        "format": FORMAT,
        "settings": now,
        "arms": {
            **arms,
            request.arm: {**arm, **{k: kept[k] for k in ADDED if k in kept}},
        },
        "sets": {**known.get("sets", {}), **sets},
        "judges": {**known.get("judges", {}), **judges},
        "missing": sorted({*known.get("missing", ()), *missing} - have),
    }


def write(out: Path, value: Mapping[str, Any]) -> None:
    """Writes `eval.json`, unless that is what it holds."""
    if disk.read_json(out / NAME) != value:
        disk.write_json(out / NAME, value)


def _changes(
    where: str, old: Mapping[str, Any], new: Mapping[str, Any], names: tuple[str, ...]
) -> list[str]:
    """What differs, in words."""
    return [
        f"{where}{name.replace('_', '-')} was {_short(old.get(name))}, is {_short(new.get(name))}"
        for name in names
        if old.get(name) != new.get(name)
    ]


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    text = "nothing" if value is None else text
    return text if len(text) <= 40 else f"{text[:16]}..."
