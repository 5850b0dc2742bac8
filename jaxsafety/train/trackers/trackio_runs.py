"""Trackio: a local database, or a Hugging Face Space where the environment names one.

A resumed run goes on in the trackio run of the same name; rows that are redone stand there twice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from huggingface_hub import constants

from jaxsafety.train.trackers.api import FINISHED, Tracked

REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")  # what trackio itself reads


class Trackio:
    """A `Tracker` by trackio."""

    NEEDS = "trackio"

    def __init__(self, about: Tracked) -> None:
        """Begins the run, or goes on with it.

        Trackio finds runs by name, so the name ends in the id. Its monitors of the machine stay
        off: they are threads, and nobody asked for them.
        """
        import trackio  # pyright: ignore[reportMissingImports]

        remote = any(os.environ.get(name) for name in REMOTE)
        with contextlib.nullcontext() if remote else _no_hub():
            self._run = trackio.init(
                project=about.project or "jaxsafety",
                name=f"{about.name}-{about.id}",
                config=dict(about.config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """One row at its step."""
        self._run.log(dict(scalars), step=step)

    def close(self, end: str = FINISHED) -> None:
        """Waits for its thread; trackio does not say how a run ended."""
        del end
        self._run.finish()


@contextlib.contextmanager
def _no_hub() -> Iterator[None]:
    """A local run asks the Hub who the user is, where there is a token: not here."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
