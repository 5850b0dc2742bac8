"""The process that kills itself: `python anchored_run.py OUT ARGUMENTS OF jaxsafety...`.

As `method_run.py`, of a run of the anchored study. It says where it is, a line "at PLACE" each:

    step of STAGE           after every update, before the marked step or checkpoint that follows
    marking STAGE, marked STAGE         around the writing of a marked step
    saving STAGE, saved STAGE           around that of a checkpoint
    asking                  before every set of questions
    replacing FILE, replaced FILE       around the moment at which a written file is there

With KILL_AT="PLACE|N" in the environment it dies of SIGKILL at the N-th time that it is there.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jaxsafety.core import disk
from jaxsafety.studies.anchored import measure
from jaxsafety.train import loop, marks
from tests.faults import method_run


class Places:
    """Says them, counts them, and ends the process at one of them."""

    def __init__(self, aim: str) -> None:
        self.place, _, number = aim.partition("|")
        self.left = int(number or 1)

    def __call__(self, place: str) -> None:
        print(f"at {place}", flush=True)
        self.left -= place == self.place
        if place == self.place and not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def watch(at: Places) -> None:
    """Puts a line around everything that is said above; nothing else changes."""
    run: Any = loop._StageRun
    watched, save, mark, ask = run.watch, run.save, marks.save, measure.ask

    def step(self: Any, step: int) -> Any:
        if step:
            at(f"step of {self.stage.name}")
        return watched(self, step)

    def saved(self: Any, *args: Any, **options: Any) -> None:
        at(f"saving {self.stage.name}")
        save(self, *args, **options)
        at(f"saved {self.stage.name}")

    def marked(ctx: Any, stage: Any, *rest: Any) -> None:
        at(f"marking {stage.name}")
        mark(ctx, stage, *rest)
        at(f"marked {stage.name}")

    def asked(*args: Any) -> Any:
        at("asking")
        return ask(*args)

    def replace(source: Any, target: Any) -> None:
        at(f"replacing {Path(target).name}")
        os.replace(source, target)
        at(f"replaced {Path(target).name}")

    run.watch, run.save, marks.save, measure.ask = step, saved, marked, asked
    disk.os = SimpleNamespace(**{**vars(os), "replace": replace})


if __name__ == "__main__":
    watch(Places(os.environ.get("KILL_AT", "")))
    sys.exit(method_run.main(*sys.argv[1:]))
