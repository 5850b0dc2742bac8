"""Which run a tracker is told of: one per workdir, whoever the trackers of a start are."""

import pytest

from jaxsafety import registry
from jaxsafety.core import hosts
from jaxsafety.core.config import load_config, typed
from jaxsafety.experiment import tracked
from jaxsafety.experiment.identity import experiment_fingerprint
from jaxsafety.experiment.workdir import claim, read_meta
from jaxsafety.models.formats.source import ModelSource, directory
from jaxsafety.protocols import TrainConfig
from jaxsafety.train.metrics import NoWriter, read_metrics

TOLD = []


class Noted:
    """A tracker that notes what it is told of."""

    def __init__(self, about):
        TOLD.append(about)

    def write(self, step, scalars):
        pass

    def close(self, end):
        pass


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    for name in ("one", "other"):
        monkeypatch.setitem(registry.TRACKERS, name, f"{__name__}:Noted")
    TOLD.clear()
    return tmp_path / "mine"


def test_a_start_with_another_tracker_is_the_same_run(root, workdir, tmp_path):
    for step, name in enumerate(("one", "other"), 1):
        spec = f"{root / 'configs' / 'sft' / 'organism.py'}:smoke"
        cfg = load_config(spec, [f"train.trackers={name}", f"train.project=p{step}"])
        path = directory(typed(ModelSource, cfg.model, "model"))
        claim(workdir, cfg, experiment_fingerprint(cfg, path), path)
        train = TrainConfig(trackers=(name,), project=f"p{step}")
        writer = tracked.writer(workdir, train, cfg, print)
        writer.write("a", step, {"loss": 1.0})
        writer.close()
        workdir = workdir.rename(tmp_path / "moved")
    first, second = TOLD
    assert [first.name, first.id] == read_meta(workdir)["tracked_as"] and first.id.isalnum()
    assert (second.name, second.id, second.workdir) == ("mine", first.id, tmp_path / "moved")
    assert (first.workdir, first.project) == (tmp_path / "mine", "p1")
    assert second.config["train"]["trackers"] == ["other"]
    assert first.config["method"]["steps"] == 2
    assert [row["step"] for row in read_metrics(workdir)] == [1, 2]


def test_only_the_leader_tracks(workdir, monkeypatch):
    monkeypatch.setattr(hosts, "leader", lambda: False)
    writer = tracked.writer(workdir, TrainConfig(trackers=("one",)), {}, print)
    writer.write("a", 1, {"loss": 1.0})
    writer.close()
    assert isinstance(writer, NoWriter) and not TOLD and not workdir.exists()
