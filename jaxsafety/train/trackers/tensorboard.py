"""TensorBoard: event files in `tb/` of the workdir, one more with every start of the run."""

from __future__ import annotations

from collections.abc import Mapping

from jaxsafety.train.trackers.api import FINISHED, Tracked


class TensorBoard:
    """A `Tracker` by tensorboardX."""

    def __init__(self, about: Tracked) -> None:
        """Opens an event file."""
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
