"""Where the numbers of a run's training go: its workdir, and trackers that know it by one id."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from jaxsafety.core import config as configs
from jaxsafety.core import hosts
from jaxsafety.experiment.workdir import read_meta, write_meta
from jaxsafety.protocols import TrainConfig
from jaxsafety.train.metrics import MetricWriter, NoWriter
from jaxsafety.train.trackers import opening
from jaxsafety.train.trackers.api import Tracked

ID = "tracked_as"  # of meta.json: name and id, which stay where a workdir is moved


def writer(
    workdir: Path, train: TrainConfig, cfg: configs.ConfigDict, log: Callable[[str], None]
) -> MetricWriter | NoWriter:
    """The leader's writer, with the trackers of the config; the other processes write nothing.

    Args:
      workdir: of the run, which is its own by now: name and id of the first start are kept in it.
      train: `trackers` and `project`.
      cfg: all settings, which trackers show beside the numbers.
      log: where a tracker that fails says so.

    Raises:
      UsageError: see `opening.check`.
    """
    if not hosts.leader():
        return NoWriter()
    known = read_meta(workdir).get(ID) or [workdir.absolute().name, secrets.token_hex(4)]
    write_meta(workdir, {ID: known})
    name, number = map(str, known)
    about = Tracked(workdir, train.project, name, number, configs.plain(cfg), log)
    return MetricWriter(workdir, tracker=opening.begin(train.trackers, about))
