"""A run's seconds are those of all its starts, also of those that a signal ended."""

from __future__ import annotations

import time

import pytest

from jaxsafety.core.interrupt import Preempted
from jaxsafety.experiment import run
from jaxsafety.experiment.workdir import read_meta, write_meta


@pytest.mark.parametrize("ended", [SystemExit(130), Preempted()], ids=["in a stage", "elsewhere"])
def test_a_start_that_was_interrupted_counts(tmp_path, monkeypatch, ended):
    def start(cfg, workdir, log, interrupt):
        write_meta(workdir, {"fingerprint": "x"})
        time.sleep(0.2)
        raise ended

    monkeypatch.setattr(run, "_run", start)
    for count in (1, 2):
        with pytest.raises(SystemExit):
            run.run(None, tmp_path, log=lambda line: None)
        meta = read_meta(tmp_path)
        assert meta["starts"] == count and not meta["finished"]
        assert meta["seconds"] == pytest.approx(0.2 * count, abs=0.15)


def test_a_start_that_owned_nothing_leaves_nothing(tmp_path, monkeypatch):
    def start(cfg, workdir, log, interrupt):
        raise Preempted

    monkeypatch.setattr(run, "_run", start)
    with pytest.raises(SystemExit):
        run.run(None, tmp_path / "w", log=lambda line: None)
    assert not (tmp_path / "w").exists()
