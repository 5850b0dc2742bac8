"""TensorBoard: event files in `tb/` of the workdir, one more with every start of the run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import Any

from jaxsafety.train.trackers.api import FINISHED, Tracked


class TensorBoard:
    """A `Tracker` by tensorboardX."""

    def __init__(self, about: Tracked) -> None:
        """Opens an event file."""
        with _Without("torch"):
            from tensorboardX import SummaryWriter

        self._to = SummaryWriter(str(about.workdir / "tb"))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """One scalar each."""
        for name, number in scalars.items():
            self._to.add_scalar(name, number, step)

    def close(self, end: str = FINISHED) -> None:
        """Flushes it."""
        del end
        self._to.close()


class _Without:
    """Within it, a package that nobody has imported yet is not there, for this thread alone.

    tensorboardX imports torch wherever it is installed, for tensors that might be given to it: more
    than a second of every start of a run, and memory, for plain numbers.
    """

    def __init__(self, name: str) -> None:
        self.name, self.thread = name, threading.get_ident()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """What the import system asks first."""
        if name == self.name and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)
