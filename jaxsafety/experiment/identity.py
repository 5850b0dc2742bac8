"""What makes two runs the same experiment: settings, and the content of every file they read.

A workdir belongs to one experiment (see `workdir.py`), so what is left out here may change between
two starts of a run, and what is not may not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsafety.core import config as configs
from jaxsafety.core import disk, hosts
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.files import located, spec

# What the fingerprint leaves out, because it may change between two starts of one experiment: where
# the model lies, how fast the run is and how much memory it takes, what is shown and kept. Rounding
# apart, no result depends on them (`optim.accum` is not one: micro-batches have keys of their own).
FREE = {
    *("model.path", "model.shape", "model.remat"),
    *("mesh.data", "mesh.fsdp", "mesh.tensor", "mesh.sampling"),
    *("train.progress", "train.log_every", "train.keep", "train.checkpoint_every"),
    *("train.trackers", "train.project", "eval.batch_size"),
}
# What a fingerprint is made of; one made otherwise belongs to another version of this package.
IDENTITY = 2
# Settings that came later: at these values a run is what it was before there were any.
LATER: dict[str, Any] = {
    "data.domains": [],
    "data.pairs": "",
    "eval.benchmarks": [],
    "eval.judge": "",
    "eval.reasoning": [],
    "method.layers": [],
    "method.judges": [],
    "method.repair": 20,
    "method.rates": [],
    "method.teacher": "steered",
    "method.context": "",
    "method.tokens.revote": 0,
    "method.base.teacher": "steered",
    "method.base.context": "",
    "method.base.tokens.revote": 0,
    "model.kernels": "float",
    "model.template": "",
    "optim.warmup_rule": "rounded",
    **{
        f"method.{section}{name}": usual
        for section in ("", "base.")  # of the method, and of studies of it
        for name, usual in (
            ("direction.opener_ids", []),
            ("direction.system", "template"),
            ("max_prompt", 0),
        )
    },
}
# Of `data` and `eval`: never a path.
NAMES = ("source", "overlap", "judge", "benchmarks", "reasoning")
NAMED = ("sets", "domains", "tasks", "scored")  # NAME=PATH in each case
# What a method's own section names: of the others none is a path that is read before it begins.
METHOD_FILES = ("tasks", "scored", "safe", "harmful", "harmless", "unaligned")
MODELS = ("unaligned",)  # of these
# Likewise of the sections within it.
INNER_FILES = ("attack.expand", "attack.hide", "reset.path", "scores.safety", "scores.helpful")
JUDGED = ("scores.safety", "scores.helpful")  # judges, of which files and directories count
JUDGES = ("eval.judge", "method.judges")  # likewise, one or several
# Besides the weights, what a run reads of a model directory.
MODEL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "world.json",
)


def experiment_fingerprint(cfg: configs.ConfigDict, model_dir: Path) -> str:
    """What makes two runs the same experiment: settings but `FREE` ones, model, prompt files.

    Files count by content: a model elsewhere is the same, an edited model or list is another.
    Several processes ask together, and the first one reads.

    Raises:
      UsageError: a directory without weights.
    """
    return hosts.share(lambda: _fingerprint(cfg, model_dir))


def _fingerprint(cfg: configs.ConfigDict, model_dir: Path) -> str:
    return _identify(cfg, file_digests(cfg, model_dir))


def _identify(cfg: configs.ConfigDict, digests: Mapping[str, str]) -> str:
    settings = {
        name: value
        for name, value in flat(configs.plain(cfg))
        if name not in FREE and not (name in LATER and value == LATER[name])
    }
    return configs.fingerprint({"settings": settings, "files": dict(digests)})


def before(cfg: configs.ConfigDict, model_dir: Path) -> set[str]:
    """Fingerprints of earlier versions, by which a run of theirs is known and goes on.

    Files of one name in one setting had one digest, the last one's; and what a judge is made of
    counted only where it was a file of a method's scores.
    """
    plain = configs.plain(cfg)
    digests, given = file_digests(cfg, model_dir), _given_files(plain)
    once = {name: disk.digest(path) for name, path in given}
    again = {name for name, _ in named_files(plain)} - set(once)
    merged = {n: d for n, d in digests.items() if n not in again} | once
    new = set(once) - {name for name, _ in _given_files(plain, judges=False)}
    unjudged = [{n: d for n, d in f.items() if n not in new} for f in (digests, merged)]
    return {_identify(cfg, found) for found in (merged, *unjudged)}


def flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Every setting of a config of nested dicts, as (dotted name, value)."""
    if not isinstance(value, dict):
        return [(prefix, value)]
    rows = [flat(v, f"{prefix}.{k}" if prefix else k) for k, v in value.items()]
    return [pair for row in rows for pair in row]


def file_digests(cfg: configs.ConfigDict, model_dir: Path) -> dict[str, str]:
    """The content of every file that an experiment reads: "setting: name" -> sha256.

    Raises:
      UsageError: a model directory without weights.
    """
    settings = configs.plain(cfg)
    found = model_digests(model_dir)
    found |= {name: disk.digest(path) for name, path in named_files(settings)}
    for i, path in enumerate(experts_of(settings)):
        inside = [f for f in sorted(Path(path).glob("adapter_*")) if f.is_file()]
        found.update({f"method paths {i}: {f.name}": disk.digest(f) for f in inside})
    return found


def model_digests(model_dir: Path) -> dict[str, str]:
    """The content of what is read of a model: "model: name" -> sha256.

    Raises:
      UsageError: a directory without weights.
    """
    files = [model_dir] if model_dir.is_file() else _model_files(model_dir)
    return {f"model: {f.name}": disk.digest(f) for f in files}


def named_files(settings: Mapping[str, Any]) -> list[tuple[str, Path]]:
    """Every file that a config names and that is there: ("data.chats: name", path).

    A second file of the same name in one setting is "data.chats: name (2)": each has its digest.
    """
    found: dict[str, Path] = {}
    for plain, file in _given_files(settings):
        name, count = plain, 1
        while name in found and found[name].resolve() != file.resolve():
            count += 1
            name = f"{plain} ({count})"
        found[name] = file
    return list(found.items())


def _given_files(settings: Mapping[str, Any], judges: bool = True) -> list[tuple[str, Path]]:
    """As `named_files`, but a name may come more than once; without `judges` as before these."""
    found = []
    for setting, text, whole in _named(settings, judges):
        place = Path(text)
        inside = sorted(place.iterdir()) if place.is_dir() else [place]
        inside = [file for file in inside if file.is_file()]
        if whole and not place.is_file():
            with contextlib.suppress(UsageError):  # nothing is there: its reader has said so
                inside += [f for f in located.locate(text).files if f not in inside]
        found += [(f"{setting}: {file.name}", file) for file in inside]
    return found


def _model_files(model_dir: Path) -> list[Path]:
    """What is read of a model directory."""
    weights = sorted(model_dir.glob("*.safetensors"))
    if not weights:
        allowed = "a directory with config.json and *.safetensors, or a GGUF file"
        raise bad("model.path", str(model_dir), allowed)
    return [*weights, *(f for f in map(model_dir.joinpath, MODEL_FILES) if f.is_file())]


def _named(settings: Mapping[str, Any], judges: bool = True) -> list[tuple[str, str, bool]]:
    """(setting, text, whether it names rows) of what data and eval may name.

    That is PATH, NAME=PATH and PATH=WEIGHT. A part that may be a path by chance counts if it is
    there, and is asked of no hub; what is a name in any case is no path, even where a file is
    called so.
    """
    found: list[tuple[str, str, bool]] = []
    for section in ("data", "eval", "method"):
        for key, value in settings.get(section, {}).items():
            if section == "method" and key not in METHOD_FILES:
                continue
            texts = [value] if isinstance(value, str) else value if isinstance(value, list) else ()
            for text in texts if key not in NAMES else ():
                named, weighed = text.partition("=")[2], text.rpartition("=")[0]
                parts = [named] if key in NAMED else [named, text, weighed]
                rows = named if key in NAMED else weighed if key == "mix" else text
                rows = "" if key in MODELS else rows
                found += [(f"{section}.{key}", part, part == rows) for part in parts if part]
    for name in JUDGES if judges else ():
        section, _, key = name.partition(".")
        value = settings.get(section, {}).get(key) or ()
        texts = [value] if isinstance(value, str) else value
        found += [(name, place, False) for text in texts for place in _judges_places(str(text))]
    for name in INNER_FILES:
        section, _, key = name.partition(".")
        inner = settings.get("method", {}).get(section)
        text = inner.get(key) if isinstance(inner, dict) else None
        if not isinstance(text, str):
            continue
        places = [text] if text else []
        if name in JUDGED:
            files = [place for place in _ends(text) if Path(place).is_file()]
            places = _judges_places(text) if judges else files
        found += [(f"method.{name}", place, name not in JUDGED) for place in places]
    return found


def _judges_places(text: str) -> list[str]:
    """What is on this disk of the places that a judge is made of.

    A file may be named with a slice or a column of it ("labels.jsonl[:400]"): the file counts.
    """
    return list(dict.fromkeys(place for place in map(_place, _ends(text)) if place))


def _ends(text: str) -> list[str]:
    """The places in NAME=WHERE, NAME=NAME=WHERE and lists of these with + between them."""
    parts = [piece.split("=") for piece in text.split("+")]
    ends = ["=".join(p[i:]).strip() for p in parts for i in range(1, len(p))]
    whole = text.partition("=")[2].strip()  # of a path that has a + itself
    return [end for end in dict.fromkeys([whole, *ends]) if end]


def _place(text: str) -> str:
    """The file or directory here that a text names, "" if it names none."""
    if Path(text).exists():
        return text
    with contextlib.suppress(UsageError):  # its reader has said so, or will
        named = spec.parse(text, "judge")
        return "" if named.kind == "hub" else named.place
    return ""


def experts_of(settings: Mapping[str, Any]) -> list[str]:
    """Adapter directories that a config's method begins with."""
    return _experts(settings.get("method", {}))


def _experts(method: Any) -> list[str]:
    """Adapter directories that a method's section names, at any depth."""
    if not isinstance(method, dict):
        return []
    own = [str(p) for p in method.get("paths", ())]
    return own + [p for value in method.values() for p in _experts(value)]


def model_fingerprint(model_dir: Path) -> str:
    """Which base an adapter belongs to: a digest of its weights and shape, 16 hex digits.

    Of a GGUF file it is one of the whole file.

    Several processes ask together, and the first one reads.
    """
    parts = [*sorted(model_dir.glob("*.safetensors")), model_dir / "config.json"]
    parts = [model_dir] if model_dir.is_file() else parts
    return hosts.share(lambda: disk.fingerprint(map(disk.digest, parts)))
