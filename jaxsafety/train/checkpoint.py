"""Checkpoints of a stage on orbax v1: `<workdir>/checkpoints/<stage>/<step>/`.

A step holds the whole state; of a finished stage only the last step stays, and of that only the
trained parameters, a third of AdamW's state. (Versions before kept whole states of finished stages:
they are read too.)
A step counts once orbax says that it is whole: by `commit_success.txt`, which it writes last in a
bucket, and on a local disk from 0.12.3 on; or by the time of the commit in the step's metadata,
which every version writes after the arrays. Nothing with a step's name is ever deleted for want of
either: it is left out, and a later save of that step replaces it. Temporaries are cleaned away.
What belongs to a step but is not an array (which config, is the stage finished, a digest)
travels in the same commit as custom metadata, so it cannot disagree with the arrays.
Measured: a 6 MB state takes about 0.1 s to save on two cores.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from etils import epath
from orbax.checkpoint import v1 as ocp

from jaxsafety.core import hosts, trees
from jaxsafety.core.errors import bad
from jaxsafety.protocols import Context

PyTree = Any
COMMIT_MARKER = "commit_success.txt"
METADATA = "_CHECKPOINT_METADATA"
RETIRED = "retired.json"  # in place of the steps of a stage that nobody reads again
TEMPORARY = ".orbax-checkpoint-tmp"
PARAMETERS = "parameters"  # metadata "holds" of a step without optimizer; else it is a state

_logger = logging.getLogger(__name__)


class Saved(NamedTuple):
    """A committed step."""

    step: int
    finished: bool


class Checkpoints:
    """The checkpoints of one stage."""

    def __init__(
        self, workdir: Path | str, stage: str, *, keep: int = 2, fingerprint: str = ""
    ) -> None:
        """Opens (without creating) the stage's directory and removes temporaries.

        Args:
          workdir: the run's directory; may be a bucket.
          stage: the stage's name; "/" becomes "." so that no stage lies inside another's steps.
          keep: how many of the newest steps stay.
          fingerprint: what identifies the config; a step of another one is refused.

        Raises:
          UsageError: the newest step belongs to another config.
        """
        if keep < 1:
            raise bad("train.keep", keep, "a positive integer")
        self.workdir = workdir
        self.directory = epath.Path(workdir).absolute() / "checkpoints" / stage.replace("/", ".")
        self.keep = keep
        self.fingerprint = fingerprint
        self._pending: tuple[Any, int, int] | None = None
        self._clean()
        newest = hosts.share(self._newest)
        if newest is not None and self.retired is None:
            metadata = self._metadata(newest)
            self._check_owner(metadata)
            if metadata.get("holds") == PARAMETERS:  # a kill may have come before the tidying
                self._tidy(1)

    def latest(self) -> Saved | None:
        """The newest committed step, or None."""
        self.wait()
        if (gone := self.retired) is not None:
            return Saved(gone, finished=True)
        step = hosts.share(self._newest)
        if step is None:
            return None
        return Saved(step, bool(self._metadata(step).get("finished", False)))

    def save(self, step: int, state: PyTree, *, finished: bool = False) -> None:
        """Saves a step; older ones beyond `keep` go once it is committed.

        On an accelerator the write continues in the background (orbax copies to the host first);
        the next save, `latest` and `wait` wait for it. On CPU, where a host copy may alias the
        device buffers that the next step donates, it is finished on return.

        Args:
          step: steps done, the directory's name.
          state: a pytree of jax arrays.
          finished: whether the stage ends here.
        """
        self._save(step, state, self.keep, finished=finished)

    def finish(self, step: int, params: PyTree) -> None:
        """Saves what a finished stage leaves, its parameters; then all other steps go.

        Args:
          step: steps done.
          params: the trained parameters.
        """
        self._save(step, {"params": params}, 1, finished=True, holds=PARAMETERS)

    def _save(self, step: int, tree: PyTree, keep: int, **facts: Any) -> None:
        self.wait()
        metadata = {"fingerprint": self.fingerprint, **facts, "digest": digest(tree)}
        self.directory.mkdir(parents=True, exist_ok=True)
        response = ocp.save_async(
            self.directory / str(step), tree, overwrite=True, custom_metadata=metadata
        )
        self._pending = (response, step, keep)
        if jax.default_backend() == "cpu":
            self.wait()

    @property
    def retired(self) -> int | None:
        """The last step of a finished stage whose parameters are gone; None where they are not.

        Raises:
          UsageError: it belongs to another config.
        """
        path = self.directory / RETIRED
        text = hosts.share(lambda: path.read_text() if path.exists() else "")
        if not text:
            return None
        told = json.loads(text)
        self._check_owner(told)
        return int(told["step"])

    def retire(self) -> None:
        """Removes what a finished stage left; it stays finished.

        Raises:
          UsageError: it is not finished.
        """
        saved = self.latest()
        if saved is None or not saved.finished:
            raise bad("stage", self.directory.name, "a finished one, to be retired")
        hosts.barrier(f"retiring {self.directory}")  # nobody reads what is being removed
        if hosts.leader():
            if not (self.directory / RETIRED).exists():
                told = {"step": saved.step, "fingerprint": self.fingerprint}
                temporary = self.directory / f".{RETIRED}.tmp"
                temporary.write_text(json.dumps(told))
                temporary.replace(self.directory / RETIRED)  # first: from here on it is retired
            for step in self._steps():
                (self.directory / str(step)).rmtree()
        hosts.barrier(f"retired {self.directory}")

    def wait(self) -> None:
        """Returns when nothing is being written; raises what a background write raised."""
        if self._pending is None:
            return
        response, step, keep = self._pending
        self._pending = None
        response.result()
        hosts.barrier(f"{self.directory} {step}")  # nobody lists what is being tidied
        self._tidy(keep)

    def steps(self) -> list[int]:
        """All committed steps, in order."""
        self.wait()
        return hosts.share(self._steps)

    def slim(self, step: int) -> bool:
        """Whether a committed step holds the parameters alone, as `finish` leaves it."""
        return self._metadata(step).get("holds") == PARAMETERS

    def restore_params(self, step: int, target: PyTree) -> PyTree:
        """`restore` of a slim step's parameters."""
        return self.restore(step, {"params": target})["params"]

    def restore(self, step: int, target: PyTree) -> PyTree:
        """Reads a committed step onto the target's shardings, whatever mesh it was saved from.

        Args:
          step: the step's number.
          target: ShapeDtypeStructs with shardings, the structure that was saved.

        Returns:
          The state.

        Raises:
          UsageError: the step has another structure or dtype, or its content is not what was saved.
        """
        if self.retired is not None:
            given = f"parameters of {self.directory.name}, which the program gave up"
            raise bad("stage", given, "another stage's: nothing is left of them")
        metadata = self._metadata(step)
        self._check_owner(metadata)
        self._check_dtypes(step, target)
        try:
            state = ocp.load(self.directory / str(step), target)
        except (ValueError, KeyError, TypeError) as error:
            why = str(error).strip().splitlines()[0][:200]
            raise bad(
                "workdir", str(self.workdir), f"a run of this config; {self._name(step)}: {why}"
            ) from error
        if trees.paths(state) != trees.paths(target):  # orbax leaves None where None was saved
            raise bad(
                "workdir",
                str(self.workdir),
                f"a run of this config; {self._name(step)} holds other leaves",
            )
        if digest(state) != metadata.get("digest"):
            raise bad(
                "workdir", str(self.workdir), f"intact checkpoints; {self._name(step)} is damaged"
            )
        return state

    def _name(self, step: int) -> str:
        return f"checkpoints/{self.directory.name}/{step}"

    def _newest(self) -> int | None:
        steps = self._steps()
        return steps[-1] if steps else None

    def _steps(self) -> list[int]:
        if not self.directory.exists():
            return []
        found = (path for path in self.directory.iterdir() if path.name.isdigit())
        return sorted(int(path.name) for path in found if _whole(path))

    def _tidy(self, keep: int) -> None:
        if hosts.leader():
            for old in self._steps()[:-keep]:
                (self.directory / str(old)).rmtree()

    def _clean(self) -> None:
        if not hosts.leader() or not self.directory.exists():
            return
        for path in self.directory.iterdir():
            if path.is_dir() and TEMPORARY in path.name:
                _logger.warning("removing the half-written checkpoint %s", path.name)
                path.rmtree()
            elif path.is_dir() and path.name.isdigit() and not _whole(path):
                _logger.warning("left out: checkpoint %s was never committed", path.name)

    def _metadata(self, step: int) -> dict[str, Any]:
        path = self.directory / str(step)
        found = _facts(path).get("custom_metadata")
        if not isinstance(found, dict):  # orbax itself reads the arrays' metadata too, for 20 ms
            found = ocp.checkpointables_metadata(path).custom_metadata
        return found if isinstance(found, dict) else {}

    def _check_dtypes(self, step: int, target: PyTree) -> None:
        """Orbax casts in silence, float32 even to integers; the digest would call it damage."""
        held = ocp.checkpointables_metadata(self.directory / str(step)).metadata
        if not isinstance(held, dict) or "state" not in held:
            return
        saved = dict(zip(trees.paths(held["state"]), jax.tree.leaves(held["state"]), strict=True))
        for name, leaf in zip(trees.paths(target), jax.tree.leaves(target), strict=True):
            was = getattr(saved.get(name), "dtype", leaf.dtype)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or was == leaf.dtype:
                continue
            raise bad(
                "workdir",
                str(self.workdir),
                f"a run of this config; in {self._name(step)} the dtype of {name} is {was}, here"
                f" {leaf.dtype} (train.master, model.dtype)",
            )

    def _check_owner(self, metadata: dict[str, Any]) -> None:
        owner = metadata.get("fingerprint", "")
        if owner != self.fingerprint:
            raise bad(
                "workdir",
                str(self.workdir),
                f"an empty directory, or one of config {self.fingerprint or '(none)'}"
                f" (this is of {owner or '(none)'})",
            )


def checkpoints_of(ctx: Context, name: str, keep: int) -> Checkpoints:
    """The checkpoints of a stage in the run's workdir; see `Checkpoints`."""
    fingerprint = ctx.fingerprint
    return Checkpoints(ctx.workdir, name, keep=keep, fingerprint=fingerprint)


def _whole(path: Any) -> bool:
    """Whether orbax finished the step in this directory."""
    if (path / COMMIT_MARKER).exists():
        return True
    return bool(_facts(path).get("commit_timestamp_nsecs"))


def _facts(path: Any) -> dict[str, Any]:
    """What orbax wrote about a step, ours among it; nothing where it cannot be read."""
    try:
        found = json.loads((path / METADATA).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def digest(state: PyTree, *, leaves: int = 16, values: int = 256) -> str:
    """A short hash of all names and shapes and the first values of some leaves.

    Enough to notice a state restored onto fresh or mixed-up leaves, at a cost that does not grow
    with the model. The same for every sharding of the state, over any number of processes.
    """
    named = list(zip(trees.paths(state), jax.tree.leaves(state), strict=True))
    stride = max(1, len(named) // leaves)
    sha = hashlib.sha256()
    for index, (name, leaf) in enumerate(named):
        sha.update(f"{name}:{leaf.shape}".encode())
        if index % stride == 0:
            if leaf.size > values and leaf.ndim:
                leaf = trees.host(leaf) if _here(leaf) else leaf
                leaf = leaf[tuple(slice(0, 4) for _ in leaf.shape)]
            sha.update(trees.host(leaf).tobytes())
    return sha.hexdigest()[:16]


def _here(leaf: Any) -> bool:
    """Whether a leaf lies in the host's memory as it is: there a slice is no program to compile."""
    devices = getattr(getattr(leaf, "sharding", None), "device_set", ())
    return len(devices) <= 1 and all(device.platform == "cpu" for device in devices)
