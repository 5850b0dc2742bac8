"""Weights & Biases: one wandb run a workdir, whose id the workdir keeps.

wandb counts its rows itself and refuses a step that goes back, so the step of a stage is a number
of the row, `step`, and the axis of every curve. A resumed run adds its rows to the wandb run; those
that are redone stand there twice, at the same step.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from jaxsafety.train.trackers.api import FINISHED, INTERRUPTED, Tracked

# What is left out and how long is waited; a version of wandb that lacks one of them goes without.
SETTINGS: Mapping[str, Any] = {
    "console": "off",  # what is printed
    "disable_git": True,
    "save_code": False,
    "host": "",
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "x_transaction_log_flush_interval": 1.0,  # s: what a kill may cost of a run that is offline
    "init_timeout": 30.0,  # s
    "finish_timeout": 20.0,  # s: without it a dead network holds the end of the run
}
SERVICE = "WANDB_SERVICE"  # set while wandb has a process


class Wandb:
    """A `Tracker` by wandb."""

    NEEDS = "wandb"

    def __init__(self, about: Tracked) -> None:
        """Begins the run, or goes on with it; without a login it is kept on disk.

        Raises:
          Exception: what wandb raises, after `init_timeout` where nobody answers.
        """
        # Even a run that is offline by an argument would tell its makers how it went.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # pyright: ignore[reportMissingImports]

        self._wandb, self._own = wandb, SERVICE not in os.environ
        try:
            self._run = wandb.init(
                project=about.project or os.environ.get("WANDB_PROJECT") or "jaxsafety",
                name=os.environ.get("WANDB_NAME") or about.name,
                id=about.id,
                resume="allow",
                reinit="create_new",  # a run of the user's own stays as it is
                dir=str(about.workdir),
                config=dict(about.config),
                mode=self._mode(about),
                settings=wandb.Settings(**_known(wandb.Settings)),
            )
            self._run.define_metric("step")
            self._run.define_metric("*", step_metric="step")
        except BaseException:
            self._end_process()
            raise

    def _mode(self, about: Tracked) -> Any:
        """None, which is the user's own choice, or "offline" where wandb would ask for a login."""
        local = os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled")
        if local or self._wandb.login(prompt=False, verify=False):
            return None
        place = about.workdir / "wandb"
        about.log(f"not logged in, so its run is kept in {place}; `wandb sync` sends it")
        return "offline"

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """One row, with its step."""
        self._run.log({"step": step, **scalars})

    def close(self, end: str = FINISHED) -> None:
        """Ends the run as finished, preempted or failed, and wandb's process with it."""
        try:
            if end == INTERRUPTED:
                self._run.mark_preempting()
            self._run.finish(exit_code=int(end != FINISHED))
        finally:
            self._end_process()

    def _end_process(self) -> None:
        """Unless it is the user's own, or has a run of theirs by now."""
        if self._own and self._wandb.run is None:
            with contextlib.suppress(ConnectionError):  # it is gone already
                self._wandb.teardown()


def _known(settings: Any) -> dict[str, Any]:
    return {name: value for name, value in SETTINGS.items() if name in settings.model_fields}
