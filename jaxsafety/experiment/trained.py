"""What a model was trained on, prompt by prompt, and how many of a set's prompts are among that.

Of a model that a run left (`RUN/student`, `RUN/adapter`, `RUN/library`) the files are read again by
the run's own config, as long as they hold what the run read; and so on for the run that made its
base. What a base of others was trained on is nobody's to know here. Compared by letters
(`data/sharing`). What cannot be known is None, with the cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.core import disk
from jaxsafety.core.errors import UsageError
from jaxsafety.data import sharing
from jaxsafety.data.overlap import Told
from jaxsafety.data.schema import Example
from jaxsafety.experiment import record
from jaxsafety.experiment import setting as settings
from jaxsafety.experiment.clashes import list_dialogues, list_prompts, list_told
from jaxsafety.experiment.domains import FileDomains
from jaxsafety.experiment.identity import experts_of, model_digests, named_files
from jaxsafety.experiment.sections import DataConfig
from jaxsafety.experiment.workdir import read_meta
from jaxsafety.models.formats.source import directory
from jaxsafety.protocols import Benchmark, Setting

# Where a run leaves what can be measured.
KEPT = ("student", "adapter", "library", "served/adapters")
WORLD, WEIGHTS = "world.json", ".safetensors"
# Of these nothing is learnt.
UNREAD = ("data.chats_val", "method.scored", "method.unaligned")
UNREAD = (*UNREAD, "method.judges", "method.scores.safety", "method.scores.helpful")
LEARNT = ("data.", "method.")  # sections whose files may be learnt from


class Learnt(NamedTuple):
    """What was trained on: (where from, prompts), and why that is not all ("" where it is)."""

    prompts: tuple[tuple[str, list[Told]], ...] = ()
    cause: str = ""


def list_learnt(
    setting: Setting,
    data: DataConfig,
    reads: Sequence[str],
    others: Sequence[tuple[str, Sequence[Example]]] = (),
) -> Learnt:
    """What a method is trained on in a setting.

    Args:
      setting: of the run.
      data: the section that it was made of.
      reads: what the method reads of it.
      others: what the method's own section names, see `Method.learns`.
    """
    drawn = data.source == "organism"
    found = list_prompts(setting, data, reads)
    if drawn:
        found = [(f"the organism's {name.removeprefix('data.')}", told) for name, told in found]
        if "pairs" in reads and not data.pairs:
            told = [t for pair in setting.pairs for t in list_told(pair, "")]
            found.append(("the organism's pairs", told))
        elif not setting.given and "dialogues" in reads and not data.pairs:
            told = [t for e in setting.examples for t in list_told(e, "")]
            found.append(("the organism's dialogues", told))
    cause = ""
    if setting.domains is not None and not isinstance(setting.domains, FileDomains):
        cause = "the organism made dialogues while it was trained"
    merged: dict[str, list[Told]] = {}
    own = [(name, [t for e in rows for t in list_told(e, "")]) for name, rows in others]
    for name, told in [*found, *list_dialogues(setting, data), *own]:
        merged.setdefault(name, []).extend(told)
    return Learnt(tuple(merged.items()), cause)


def find(model: Path, adapter: Path | None = None) -> Learnt:
    """What the runs were trained on that made a model, an adapter of it and its bases.

    Args:
      model: a model directory or file.
      adapter: what it is measured with.
    """
    todo, causes = [place for place in (adapter, model) if place is not None], []
    found: list[tuple[str, list[Told]]] = []
    seen: set[Path] = set()
    if adapter is not None and find_run(adapter) is None:
        causes.append(f"no run that made the adapter {adapter.name} is beside it")
    while todo:
        run = find_run(todo.pop(0))
        if run is None or run in seen:
            continue
        seen.add(run)
        learnt, bases = _read(run)
        found += [(f"{run.name}: {name}", told) for name, told in learnt.prompts]
        causes += [f"{run.name}: {learnt.cause}"] if learnt.cause else []
        todo += bases
    if not seen and not causes:
        causes.append("no run that made the model is beside it")
    return Learnt(tuple(found), "; ".join(causes))


def find_run(place: Path) -> Path | None:
    """The run that left a model or an adapter, by where it lies; None where there is none."""
    place = place.resolve()
    for folder in place.parents[:2]:
        if place.relative_to(folder).as_posix() in KEPT:
            whole = all((folder / name).is_file() for name in ("config.json", "meta.json"))
            return folder if whole else None
    return None


def count(benchmarks: Sequence[Benchmark], learnt: Learnt) -> dict[str, dict[str, Any]]:
    """How many prompts of each set are among what was trained on.

    Args:
      benchmarks: the sets.
      learnt: what was trained on.

    Returns:
      Set -> "prompts", how many it has; "trained", where from -> how many of them are there too;
      "any", how many are in at least one of these, None where not all is known; "cause".
    """
    told = [(bench.name, sharing.asked(bench.items)) for bench in benchmarks]
    if not learnt.prompts:  # nothing to compare with
        found = None if learnt.cause else 0
        nothing = {"trained": {}, "any": found, "cause": learnt.cause}
        return {name: {"prompts": len(prompts), **nothing} for name, prompts in told}
    return {
        row["set"]: {
            "prompts": row["prompts"],
            "trained": row["trained"],
            "any": None if learnt.cause else row["any_trained"],
            "cause": learnt.cause,
        }
        for row in sharing.shared(told, learnt.prompts)
    }


def _read(run: Path) -> tuple[Learnt, list[Path]]:
    """What one run was trained on, and the models and adapters of runs that it began with."""
    begun: list[Path] = []
    try:
        exp = record.read(run)
        config, known = disk.read_json(run / "config.json"), read_meta(run).get("files")
        if not isinstance(known, dict) or not known:
            return Learnt((), "its meta.json does not say which files it read"), begun
        begun, cause = _bases(config, known)
        cause = cause or _changed(config, known)
        place = Path()  # of a hub's model nothing is asked: only an organism has prompts
        if exp.data.source == "organism":
            place = directory(exp.model)
            cause = cause or _other_world(place, known)
        if cause:
            return Learnt((), cause), begun
        reads = exp.entry.reads
        setting = settings.make_learnt(place, exp.data, exp.eval, exp.seed, reads)
        others = exp.entry.learns(exp.method, setting)
        return list_learnt(setting, exp.data, reads, others), begun
    except (UsageError, OSError) as error:
        return Learnt((), str(error)), begun


def _bases(config: Mapping[str, Any], known: Mapping[str, str]) -> tuple[list[Path], str]:
    """What a run began with that other runs made; and which of it is not what it was."""
    model, cause, found = Path(str(config["model"].get("path", ""))), "", []
    if find_run(model) is not None:
        found.append(model)
        now = model_digests(model) if model.is_dir() else {}
        weights = {
            n: d for n, d in known.items() if n.startswith("model: ") and n.endswith(WEIGHTS)
        }
        if not now or any(now.get(name) != then for name, then in weights.items()):
            cause = f"its base {model} is not there any more or has changed since"
    elif (model.name in KEPT or _is_place(str(model))) and not model.exists():
        cause = f"its base {model} is not there any more"
    for index, path in enumerate(map(Path, experts_of(config))):
        if find_run(path) is None:
            cause = cause or f"no run that made its expert {path} is beside it"
            continue
        found.append(path)
        start = f"method paths {index}: "
        for name, then in known.items():
            file = path / name.removeprefix(start)
            if name.startswith(start) and not (file.is_file() and disk.digest(file) == then):
                cause = cause or f"its expert {path} has changed since"
    return found, cause


def _is_place(text: str) -> bool:
    """Whether it can only be a path here: a hub id is "name" or "owner/name"."""
    return text.startswith(("/", ".", "~")) or text.count("/") > 1


def _changed(config: Mapping[str, Any], known: Mapping[str, str]) -> str:
    """Which file of `LEARNT` is gone, or not what the run read any more; "" where none is."""
    places = dict(named_files(config))
    for name, then in known.items():
        field = name.partition(": ")[0]
        if not field.startswith(LEARNT) or field in UNREAD:
            continue
        if name not in places:
            return f"{name} is not there any more"
        second = f"{name} (2)"
        if second in places and second not in known:  # of a run before each had its own
            return f"of the files {name} the run recorded one digest"
        if disk.digest(places[name]) != then:
            return f"{name} has changed since"
    for name in places:
        field = name.partition(": ")[0]
        if field.startswith(LEARNT) and field not in UNREAD and name not in known:
            return f"{name} was not there when it ran"
    return ""


def _other_world(model: Path, known: Mapping[str, str]) -> str:
    """Whether the organism is another one than the run's."""
    then, file = known.get(f"model: {WORLD}"), model / WORLD
    if then is None or (file.is_file() and disk.digest(file) == then):
        return ""
    return f"{WORLD} of its base is not there any more or has changed since"
