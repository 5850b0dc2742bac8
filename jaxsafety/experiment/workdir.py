"""What a run leaves on disk, and whose it is: artifacts, config, fingerprint, facts.

Files are written whole or not at all (a temporary neighbour, then a rename), so whatever is there
can be trusted by the next start.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import platform
import subprocess
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsafety.core import config as configs
from jaxsafety.core import disk, hosts, outputs, trees
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.files import located


class Artifacts:
    """`artifact(name, make)`: made once, then read back from `artifacts/<name>.json` (+ .npz)."""

    def __init__(self, workdir: Path) -> None:
        """Keeps everything below `workdir/artifacts`; what a kill left half written goes."""
        self.directory = workdir / "artifacts"
        if hosts.leader():
            for left in self.directory.glob(".*.tmp.*"):  # of `disk.replaced`
                left.unlink(missing_ok=True)

    def __call__(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Reads artifact `name`, or makes and saves it; arrays go to the npz, the rest to json.

        What is returned is always what was read back, so a resumed run sees the very same value.
        """
        path = self.directory / f"{name}.json"
        if not hosts.share(path.is_file):
            self._write(path, make())
            hosts.barrier(f"artifact {name}")
        value = disk.read_json(path)
        if not isinstance(value, dict):
            allowed = "what the run wrote; without it and its .npz it is made again"
            raise bad("workdir", f"{path}, which is damaged", allowed)
        if path.with_suffix(".npz").is_file():
            with np.load(path.with_suffix(".npz")) as saved:
                value.update({k: saved[k] for k in saved.files})
        return value

    def _write(self, path: Path, value: dict[str, Any]) -> None:
        arrays: dict[str, Any] = {
            k: trees.host(v) for k, v in value.items() if isinstance(v, np.ndarray | jax.Array)
        }
        rest = {k: v for k, v in value.items() if k not in arrays}
        self.directory.mkdir(parents=True, exist_ok=True)
        if arrays and hosts.leader():
            with disk.replaced(path.with_suffix(".npz")) as temporary:
                np.savez(temporary, **arrays)
        disk.write_json(path, rest)  # last: its presence says that the artifact is whole


# What the fingerprint leaves out, because it may change between two starts of one experiment: where
# the model lies, how fast the run is and how much memory it takes, what is shown and kept. Rounding
# apart, no result depends on them (`optim.accum` is not one: micro-batches have keys of their own).
FREE = {
    *("model.path", "model.shape", "model.remat", "mesh.data", "mesh.fsdp", "mesh.tensor"),
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
}
# Of `data` and `eval`: never a path.
NAMES = ("source", "overlap", "judge", "benchmarks", "reasoning")
NAMED = ("sets", "domains", "tasks", "scored")  # NAME=PATH in each case
# What a method's own section names: of the others none is a path that is read before it begins.
METHOD_FILES = ("tasks", "scored", "safe", "harmful", "harmless", "unaligned")
MODELS = ("unaligned",)  # of these
# Likewise of the sections within it.
INNER_FILES = ("attack.expand", "attack.hide", "reset.path", "scores.safety", "scores.helpful")
JUDGED = ("scores.safety", "scores.helpful")  # judges, of which files count
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
        for name, value in _flat(configs.plain(cfg))
        if name not in FREE and not (name in LATER and value == LATER[name])
    }
    return configs.fingerprint({"settings": settings, "files": dict(digests)})


def _as_before(cfg: configs.ConfigDict, model_dir: Path) -> str:
    """The fingerprint of when files of one name in one setting had one digest, the last one's."""
    given = _given_files(configs.plain(cfg))
    again = {name for name, _ in named_files(configs.plain(cfg))} - {name for name, _ in given}
    found = {n: d for n, d in file_digests(cfg, model_dir).items() if n not in again}
    return _identify(cfg, found | {name: disk.digest(path) for name, path in given})


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
    """Every file that `data` and `eval` name and that is there: ("data.chats: name", path).

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


def _given_files(settings: Mapping[str, Any]) -> list[tuple[str, Path]]:
    """As `named_files`, but a name may come more than once."""
    found = []
    for setting, text, whole in _named(settings):
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


def _named(settings: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
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
    for name in INNER_FILES:
        section, _, key = name.partition(".")
        inner = settings.get("method", {}).get(section)
        text = inner.get(key) if isinstance(inner, dict) else None
        if not isinstance(text, str):
            continue
        places = _judges_files(text) if name in JUDGED else [text] if text else []
        found += [(f"method.{name}", place, name not in JUDGED) for place in places]
    return found


def _judges_files(text: str) -> list[str]:
    """Files among what NAME=WHERE, NAME=NAME=WHERE and lists of these with + between them name."""
    parts = [piece.split("=") for piece in text.split("+")]
    ends = ["=".join(p[i:]).strip() for p in parts for i in range(1, len(p))]
    whole = text.partition("=")[2].strip()  # of a path that has a + itself
    return [end for end in dict.fromkeys([whole, *ends]) if end and Path(end).is_file()]


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
    whole = lambda: hashlib.sha256("".join(map(disk.digest, parts)).encode())  # noqa: E731
    return hosts.share(lambda: whole().hexdigest()[:16])


def check_owner(
    workdir: Path, cfg: configs.ConfigDict, fingerprint: str, model_dir: Path | None = None
) -> bool:
    """Whether the workdir holds a run of this config; False if it holds none.

    Args:
      workdir: the directory.
      cfg: the config.
      fingerprint: see `experiment_fingerprint`.
      model_dir: of the model, so that the error can name the file that changed.

    Raises:
      UsageError: the workdir holds a run of another config or model, or of an older version; or it
        cannot be made.
    """
    outputs.directory("workdir", workdir)
    path = workdir / "config.json"
    if not path.is_file():
        return False
    meta = read_meta(workdir)
    owner = meta.get("fingerprint", "unknown")
    if owner == fingerprint:
        return True
    if model_dir is not None and owner == _as_before(cfg, model_dir):
        return True
    if meta and meta.get("identity", 1) != IDENTITY:
        given = f"{workdir}, a run made by an older version of jaxsafety"
        allowed = "a new directory (report, chat and eval --workdir still read this one)"
        raise bad("workdir", given, allowed)
    if not meta:  # whose it is stood there
        raise bad("workdir", f"{workdir}, whose meta.json is not readable", "a new directory")
    raise bad(
        "workdir",
        f"{workdir}, a run of another config or model ({difference(path, cfg, meta, model_dir)})",
        "a new directory, or the config that this one was made with",
    )


def claim(
    workdir: Path, cfg: configs.ConfigDict, fingerprint: str, model_dir: Path | None = None
) -> None:
    """Makes the workdir this config's own, or checks that it is (see `check_owner`)."""
    path = workdir / "config.json"
    if check_owner(workdir, cfg, fingerprint, model_dir):
        try:
            json.loads(path.read_text())
        except ValueError:  # whose it is stands in meta.json: the same config, written again
            disk.write_json(path, configs.plain(cfg))
        return
    workdir.mkdir(parents=True, exist_ok=True)
    digests = file_digests(cfg, model_dir) if model_dir is not None else {}
    owner = {"fingerprint": fingerprint, "identity": IDENTITY, "files": digests}
    write_meta(workdir, {**owner, "git": git_hash(), "versions": versions()})
    disk.write_json(path, configs.plain(cfg))


def difference(
    path: Path,
    cfg: configs.ConfigDict,
    meta: Mapping[str, Any] | None = None,
    model_dir: Path | None = None,
) -> str:
    """The settings in which a saved config and this one differ, as text; else the files.

    Args:
      path: of the saved config.json.
      cfg: this config.
      meta: the saved meta.json, with the digests of the files.
      model_dir: of this config's model.
    """
    try:
        old = dict(_flat(json.loads(path.read_text())))
    except ValueError:
        return "its config.json is not readable"
    new = dict(_flat(configs.plain(cfg)))
    changed = [k for k in sorted({*old, *new} - FREE) if old.get(k, LATER.get(k)) != new.get(k)]
    if changed:
        told = [f"{k} was {old.get(k)!r}, is {new.get(k)!r}" for k in changed[:6]]
        return "; ".join(told) + (f"; {len(changed) - 6} more" if len(changed) > 6 else "")
    then = (meta or {}).get("files")
    if not then or model_dir is None:
        return "same settings, other files"
    now = file_digests(cfg, model_dir)
    other = [k for k in sorted({*then, *now}) if then.get(k) != now.get(k)]
    if not other:
        return "same settings and files"
    names = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
    return f"same settings, but what these files hold has changed: {names}"


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    rows = [_flat(v, f"{prefix}.{k}" if prefix else k) for k, v in value.items()]
    return [pair for row in rows for pair in row]


def write_meta(workdir: Path, values: dict[str, Any]) -> None:
    """Merges facts of the run into `meta.json`."""
    if not hosts.leader():
        return
    path = workdir / "meta.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    disk.write_json(path, {**known, **values})


def read_meta(workdir: Path) -> dict[str, Any]:
    """The facts of `meta.json`; {} where there is none or it cannot be read."""
    found = disk.read_json(workdir / "meta.json")
    return found if isinstance(found, dict) else {}


def add_seconds(workdir: Path, seconds: float, *, finished: bool) -> None:
    """Adds the time of one start of a run to `meta.json`: "seconds" is the sum of all starts.

    A start that found the run finished did nothing and adds nothing.

    Args:
      workdir: of the run.
      seconds: of this start.
      finished: whether the run is finished now.
    """
    known = read_meta(workdir) if hosts.leader() else {"finished": True}
    if known.get("finished"):
        return
    total = round(known.get("seconds", 0.0) + seconds, 1)
    starts = known.get("starts", 0) + 1
    write_meta(workdir, {"seconds": total, "starts": starts, "finished": finished})


def begun_on(workdir: Path) -> str:
    """The date that chat templates with a clock write in a run: of its first start, or today's."""
    return str(read_meta(workdir).get("date") or datetime.date.today().isoformat())


def versions() -> dict[str, str]:
    """Versions of what numbers depend on."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "jaxsafety")
    found = {"python": platform.python_version(), "backend": jax.default_backend()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_hash() -> str:
    """The commit of the source tree, "" outside a checkout.

    A repository that merely holds an environment with this package installed is somebody else's:
    its commit says nothing of this code.
    """
    here = Path(__file__)
    if not _git("ls-files", "--error-unmatch", here.name):
        return ""
    return _git("rev-parse", "HEAD")


def _git(*args: str) -> str:
    """What git says from this file's directory, "" where it refuses or is not there."""
    command = ["git", "-C", str(Path(__file__).parent), *args]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
