"""What a run leaves on disk, and whose it is: artifacts, config, fingerprint, facts.

Files are written whole or not at all (a temporary neighbour, then a rename), so whatever is there
can be trusted by the next start.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsafety import config as configs
from jaxsafety import hosts, trees
from jaxsafety.errors import bad


class Artifacts:
    """`artifact(name, make)`: made once, then read back from `artifacts/<name>.json` (+ .npz)."""

    def __init__(self, workdir: Path) -> None:
        """Keeps everything below `workdir/artifacts`."""
        self.directory = workdir / "artifacts"

    def __call__(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Reads artifact `name`, or makes and saves it; arrays go to the npz, the rest to json.

        What is returned is always what was read back, so a resumed run sees the very same value.
        """
        path = self.directory / f"{name}.json"
        if not hosts.share(path.is_file):
            self._write(path, make())
            hosts.barrier(f"artifact {name}")
        value = json.loads(path.read_text())
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
            temporary = path.with_suffix(".tmp.npz")
            np.savez(temporary, **arrays)
            os.replace(temporary, path.with_suffix(".npz"))
        write_json(path, rest)  # last: its presence says that the artifact is whole


# What the fingerprint leaves out: it may change between two starts of one experiment.
FREE = {"train.progress", "model.path", "mesh.data", "mesh.fsdp", "mesh.tensor"}
# Besides the weights, what a run reads of a model directory.
MODEL_FILES = (
    "config.json", "tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt",
    "added_tokens.json", "tokenizer_config.json",
    "special_tokens_map.json", "generation_config.json", "chat_template.jinja", "world.json",
)  # fmt: skip


def experiment_fingerprint(cfg: configs.ConfigDict, model_dir: Path) -> str:
    """What makes two runs the same experiment: config without display, model, prompt files.

    Files count by content: a model elsewhere is the same, an edited model or list is another.
    """
    settings = configs.plain(cfg)
    settings["train"] = {k: v for k, v in settings["train"].items() if k != "progress"}
    for name in ("path", "shape"):  # where it lies, and what only `plan` reads
        settings["model"].pop(name, None)
    settings.pop("mesh", None)  # a run may go on on other devices
    weights = sorted(model_dir.glob("*.safetensors"))
    if not weights:
        raise bad("model.path", str(model_dir), "a directory with config.json and *.safetensors")
    model = [*weights, *(f for f in map(model_dir.joinpath, MODEL_FILES) if f.is_file())]
    settings["model_files"] = [(f.name, f.stat().st_size, _digest(f)) for f in model]
    data = settings.get("data", {})
    lists = [data.get(name) for name in ("harmful", "harmless", "distil", "chats", "chats_val")]
    lists += [text.partition("=")[2] for text in settings.get("eval", {}).get("sets", ())]
    lists += [text.rpartition("=")[0] for text in data.get("mix", ())]
    prompts = [Path(name) for name in lists if name]
    folders = [f for name in prompts if name.is_dir() for f in sorted(name.iterdir())]
    files = [f for f in (*prompts, *folders) if f.is_file()]
    paths = _experts(settings.get("method", {}))
    files += [f for name in paths for f in sorted(Path(name).glob("adapter_*")) if f.is_file()]
    settings["prompt_files"] = [_digest(f) for f in files]
    return configs.fingerprint(settings)


def _experts(method: Any) -> list[str]:
    """Adapter directories that a method's section names, at any depth."""
    if not isinstance(method, dict):
        return []
    own = [str(p) for p in method.get("paths", ())]
    return own + [p for value in method.values() for p in _experts(value)]


def model_fingerprint(model_dir: Path) -> str:
    """Which base an adapter belongs to: a digest of its weights and shape, 16 hex digits."""
    parts = [*sorted(model_dir.glob("*.safetensors")), model_dir / "config.json"]
    return hashlib.sha256("".join(map(_digest, parts)).encode()).hexdigest()[:16]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_owner(workdir: Path, cfg: configs.ConfigDict, fingerprint: str) -> bool:
    """Whether the workdir holds a run of this config; False if it holds none.

    Raises:
      UsageError: the workdir holds a run of another config or model.
    """
    path = workdir / "config.json"
    if not path.is_file():
        return False
    try:
        theirs = json.loads((workdir / "meta.json").read_text())["fingerprint"]
    except (OSError, ValueError, KeyError):
        theirs = "unknown"
    if theirs != fingerprint:
        raise bad(
            "workdir",
            f"{workdir}, a run of another config or model ({difference(path, cfg)})",
            "a new directory, or the config that this one was made with",
        )
    return True


def claim(workdir: Path, cfg: configs.ConfigDict, fingerprint: str) -> None:
    """Makes the workdir this config's own, or checks that it is (see `check_owner`)."""
    path = workdir / "config.json"
    if check_owner(workdir, cfg, fingerprint):
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_meta(workdir, {"fingerprint": fingerprint, "git": git_hash(), "versions": versions()})
    write_json(path, configs.plain(cfg))


def difference(path: Path, cfg: configs.ConfigDict) -> str:
    """The first setting in which a saved config and this one differ, as text."""
    try:
        old = dict(_flat(json.loads(path.read_text())))
    except ValueError:
        return "its config.json is not readable"
    new = dict(_flat(configs.plain(cfg)))
    changed = [k for k in sorted({*old, *new} - FREE) if old.get(k) != new.get(k)]
    if not changed:
        return "same settings, other weights"
    return f"{changed[0]} was {old.get(changed[0])!r}, is {new.get(changed[0])!r}"


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    rows = [_flat(v, f"{prefix}.{k}" if prefix else k) for k, v in value.items()]
    return [pair for row in rows for pair in row]


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all."""
    hosts.write(path, json.dumps(value, indent=1, default=_plain_number) + "\n")


def _plain_number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def write_meta(workdir: Path, values: dict[str, Any]) -> None:
    """Merges facts of the run into `meta.json`."""
    if not hosts.leader():
        return
    path = workdir / "meta.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    write_json(path, {**known, **values})


def begun_on(workdir: Path) -> str:
    """The date that chat templates with a clock write in a run: of its first start, or today's."""
    try:
        return str(json.loads((workdir / "meta.json").read_text())["date"])
    except (OSError, ValueError, KeyError, TypeError):
        return datetime.date.today().isoformat()


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
    """The commit of the source tree, "" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
