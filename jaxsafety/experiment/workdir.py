"""What a run leaves on disk, and whose it is: artifacts, config, facts.

Files are written whole or not at all (a temporary neighbour, then a rename), so whatever is there
can be trusted by the next start.
"""

from __future__ import annotations

import datetime
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
from jaxsafety.core.errors import bad
from jaxsafety.experiment import identity


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


def check_owner(
    workdir: Path, cfg: configs.ConfigDict, fingerprint: str, model_dir: Path | None = None
) -> bool:
    """Whether the workdir holds a run of this config; False if it holds none.

    Args:
      workdir: the directory.
      cfg: the config.
      fingerprint: see `identity.experiment_fingerprint`.
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
    if model_dir is not None and owner in identity.before(cfg, model_dir):
        return True
    if meta and meta.get("identity", 1) != identity.IDENTITY:
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
    digests = identity.file_digests(cfg, model_dir) if model_dir is not None else {}
    owner = {"fingerprint": fingerprint, "identity": identity.IDENTITY, "files": digests}
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
        old = dict(identity.flat(json.loads(path.read_text())))
    except ValueError:
        return "its config.json is not readable"
    new = dict(identity.flat(configs.plain(cfg)))
    counts, later = sorted({*old, *new} - identity.FREE), identity.LATER
    changed = [k for k in counts if old.get(k, later.get(k)) != new.get(k)]
    if changed:
        told = [f"{k} was {old.get(k)!r}, is {new.get(k)!r}" for k in changed[:6]]
        return "; ".join(told) + (f"; {len(changed) - 6} more" if len(changed) > 6 else "")
    then = (meta or {}).get("files")
    if not then or model_dir is None:
        return "same settings, other files"
    now = identity.file_digests(cfg, model_dir)
    other = [k for k in sorted({*then, *now}) if then.get(k) != now.get(k)]
    if not other:
        return "same settings and files"
    names = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
    return f"same settings, but what these files hold has changed: {names}"


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
