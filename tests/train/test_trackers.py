"""Trackers beside metrics.jsonl: what they are told, and that none of them can cost a run."""

import importlib
import json
import os
import subprocess
import sys
import threading
import types

import pytest
from huggingface_hub import constants

from jaxsafety import registry
from jaxsafety.core.errors import UsageError
from jaxsafety.core.interrupt import Preempted
from jaxsafety.train.metrics import MetricWriter, closing, read_metrics
from jaxsafety.train.trackers import aside, opening
from jaxsafety.train.trackers.api import FAILED, FINISHED, INTERRUPTED, Tracked

CONFIG = {"program": "sft", "method": {"steps": 3}}
LOSES = "the run goes on without it, metrics.jsonl has every number"


class Told:
    """What the trackers of a test were told."""

    def __init__(self, tmp_path, monkeypatch):
        self.workdir, self.patch = tmp_path, monkeypatch
        self.calls, self.lines = [], []

    def add(self, name="mine", *, make=None, write=None, close=None, needs=""):
        """One more tracker, whose calls are noted unless something else is to happen."""
        told = self

        class Mine:
            NEEDS = needs

            def __init__(self, about):
                told.calls.append((name, about))
                if make:
                    make(about)

            def write(self, step, scalars):
                if write:
                    write(step)
                told.calls.append((name, step, scalars))

            def close(self, end):
                if close:
                    close()
                told.calls.append((name, end))

        module = types.ModuleType(f"tracker_{name}")
        module.Mine = Mine
        self.patch.setitem(sys.modules, module.__name__, module)
        self.patch.setitem(registry.TRACKERS, name, f"{module.__name__}:Mine")
        return self

    def writer(self, *names, **about):
        about = {"name": "run", "id": "ab12", "config": CONFIG, **about}
        tracked = Tracked(self.workdir, log=self.lines.append, **about)
        return MetricWriter(self.workdir, tracker=opening.begin(names, tracked))

    @property
    def rows(self):
        return [call[1:] for call in self.calls if len(call) == 3]


@pytest.fixture
def told(tmp_path, monkeypatch):
    before = set(threading.enumerate())
    yield Told(tmp_path, monkeypatch)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)  # tensorboardX does not wait for the feeder of its queue
        assert not thread.is_alive(), f"{thread.name} outlived its writer"


def test_rows_are_named_by_stage_and_finite(told):
    writer = told.add().writer("mine")
    writer.write("a", 1, {"loss": 0.5, "kl": float("nan")})
    writer.write("a", 2, {"kl": float("inf")})  # nothing to tell
    writer.write("b", 1, {"loss": 0.25})
    writer.close()
    assert told.rows == [(1, {"a/loss": 0.5}), (1, {"b/loss": 0.25})]
    assert told.calls[-1] == ("mine", FINISHED) and not told.lines
    assert [row.get("nonfinite") for row in read_metrics(told.workdir)] == [["kl"], ["kl"], None]


def test_the_one_of_the_page_works(told, root):
    page = (root / "docs" / "trackers.md").read_text().partition("```python\n")[2]
    names = {}
    exec(page.partition("```")[0], names)
    told.patch.setattr(sys.modules[__name__], "Csv", names["Csv"], raising=False)
    told.patch.setitem(registry.TRACKERS, "csv", f"{__name__}:Csv")
    writer = told.writer("csv")
    writer.write("sft", 1, {"loss": 0.31, "kl": 2.0})
    writer.close()
    assert (told.workdir / "mine.csv").read_text() == "sft/loss,1,0.31\nsft/kl,1,2.0\n"
    assert not told.lines


def test_several_at_once_and_each_name_once(told):
    writer = told.add("one").add("two").writer("one", "two", "one")
    writer.write("a", 1, {"loss": 1.0})
    writer.close()
    writer.close()  # twice is fine
    names = sorted(call[0] for call in told.calls if call[-1] == FINISHED)
    assert names == ["one", "two"]


def test_a_start_without_rows_opens_none(told):
    told.add().writer("mine").close()
    assert told.calls == []


def test_what_is_redone_is_told_again(told):
    for first in (1, 2):
        writer = told.add().writer("mine")
        writer.truncate("a", first - 1)
        for step in range(first, 4):
            writer.write("a", step, {"loss": 1 / step})
        writer.close()
    assert [row["step"] for row in read_metrics(told.workdir)] == [1, 2, 3]
    assert [step for step, _ in told.rows] == [1, 2, 3, 2, 3]


def test_it_is_told_of_the_run_without_secrets(told):
    secrets = {"api_key": "s", "HF-TOKEN": "s", "password": "s"}
    config = {**CONFIG, **secrets, "eval": {"max_tokens": 5, "token": "s", "key": {"a": "s"}}}
    writer = told.add().writer("mine", project="p", config=config)
    writer.write("a", 1, {"loss": 1.0})
    writer.close()
    about = told.calls[0][1]
    assert about[:4] == (told.workdir, "p", "run", "ab12")
    assert about.config == {**CONFIG, "eval": {"max_tokens": 5}}


def fails(*args):
    raise RuntimeError("no route\nto host")


@pytest.mark.parametrize("where", ["make", "write", "close"])
def test_one_that_fails_costs_a_line(told, where):
    writer = told.add(**{where: fails}).add("other").writer("mine", "other")
    for step in range(1, 4):
        writer.write("a", step, {"loss": 1.0})
    writer.close()
    assert told.lines == [f"tracker mine: RuntimeError: no route to host; {LOSES}"]
    assert [row["step"] for row in read_metrics(told.workdir)] == [1, 2, 3]
    assert [call[1] for call in told.calls if call[0] == "other"][1:] == [1, 2, 3, FINISHED]


def test_one_that_exits_ends_nothing(told):
    writer = told.add(close=lambda: sys.exit(3)).writer("mine")
    writer.write("a", 1, {"loss": 1.0})
    writer.close()
    assert told.lines == [f"tracker mine: SystemExit: 3; {LOSES}"]


@pytest.mark.parametrize("where", ["make", "write", "close"])
def test_one_that_hangs_is_left_behind(told, monkeypatch, where):
    monkeypatch.setattr(aside, "WAIT", 0.3)
    free, named = threading.Event(), {t.name for t in threading.enumerate()}
    told.add(**{where: lambda *args: free.wait()}).add("other")
    writer = told.writer("mine", "other")
    for step in range(1, 4):
        writer.write("a", step, {"loss": 1.0})
    writer.close()
    assert told.lines == [f"tracker mine: it did not end within 0 s; {LOSES}"]
    assert ("other", FINISHED) in told.calls
    (left,) = [t for t in threading.enumerate() if t.name not in named]
    assert left.name == "tracker mine" and left.daemon
    free.set()
    left.join()


def test_one_that_is_too_slow_is_given_up(told, monkeypatch):
    monkeypatch.setattr(aside, "MOST", 2)
    begun, free = threading.Event(), threading.Event()
    writer = told.add(write=lambda step: (begun.set(), free.wait())).writer("mine")
    writer.write("a", 1, {"loss": 1.0})
    assert begun.wait(10)
    for step in range(2, 9):
        writer.write("a", step, {"loss": 1.0})
    assert told.lines == [f"tracker mine: 2 rows wait for it; {LOSES}"]
    free.set()
    writer.close()
    assert told.rows == [(1, {"a/loss": 1.0})] and len(told.lines) == 1


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (None, FINISHED),
        (SystemExit(0), INTERRUPTED),
        (Preempted(), INTERRUPTED),
        (UsageError("a"), FAILED),
        (MemoryError(), FAILED),
    ],
)
def test_how_a_run_ended_is_told(told, error, end):
    def block(writer):
        with closing(writer):
            writer.write("a", 1, {"loss": 1.0})
            if error:
                raise error

    writer = told.add().writer("mine")
    if error:
        with pytest.raises(type(error)):
            block(writer)
    else:
        block(writer)
    assert told.calls[-1] == ("mine", end)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(UsageError) as error:
        opening.check(("tensorboard", "wanbd"))
    known = "'wandb'? known: tensorboard, trackio, wandb"
    assert str(error.value) == f"train.trackers, a tracker: got 'wanbd'; allowed: {known}"


def test_one_of_a_user_s_own_may_need_what_is_no_extra(told):
    line = "train.trackers, a tracker: got 'mine'; allowed: an installation with nobody_knows_this"
    with pytest.raises(UsageError, match=f"^{line}$"):
        told.add(needs="nobody_knows_this").writer("mine")


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_missing_package_is_one_line_with_its_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(UsageError) as error:
        opening.check((name,))
    install = f"an installation with {name}: pip install 'jaxsafety[{name}]'"
    assert str(error.value) == f"train.trackers, a tracker: got {name!r}; allowed: {install}"


def test_a_broken_package_is_no_mistake_of_the_user_s(told, monkeypatch):
    """Its import fails for another reason: that is a line of the run, not its end."""
    (told.workdir / "broken_tracker_package.py").write_text("raise RuntimeError('old protobuf')\n")
    monkeypatch.syspath_prepend(told.workdir)
    importlib.invalidate_caches()

    def make(about):
        importlib.import_module("broken_tracker_package")

    writer = told.add(make=make, needs="broken_tracker_package").writer("mine")
    writer.write("a", 1, {"loss": 1.0})
    writer.close()
    assert told.lines == [f"tracker mine: RuntimeError: old protobuf; {LOSES}"]


class FakeWandb(types.ModuleType):
    """As much of wandb as is used; `calls` is what was asked of it."""

    def __init__(self, *, login=True, init=None):
        super().__init__("wandb")
        self.calls, self.run, self._login, self._init = [], None, login, init

    class Settings:
        model_fields = ("console", "finish_timeout", "init_timeout", "host")

        def __init__(self, **given):
            assert set(given) == set(self.model_fields)  # what a version lacks is left out
            self.given = given

    def login(self, **given):
        assert given == {"prompt": False, "verify": False}  # nobody is asked for anything
        return self._login

    def init(self, **given):
        os.environ["WANDB_SERVICE"] = "of the test"
        self.calls.append(("init", given))
        if self._init:
            self._init()
        return self

    def define_metric(self, *args, **given):
        self.calls.append(("metric", args, given))

    def log(self, row):
        self.calls.append(("log", row))

    def mark_preempting(self):
        self.calls.append(("preempting",))

    def finish(self, exit_code):
        self.calls.append(("finish", exit_code))

    def teardown(self):
        os.environ.pop("WANDB_SERVICE", None)
        self.calls.append(("teardown",))


@pytest.fixture
def fake(monkeypatch):
    def make(**given):
        for name in ("SERVICE", "MODE", "PROJECT", "NAME", "ERROR_REPORTING"):
            monkeypatch.setenv(f"WANDB_{name}", "")  # so that what is set is taken back
            monkeypatch.delenv(f"WANDB_{name}")
        module = FakeWandb(**given)
        monkeypatch.setitem(sys.modules, "wandb", module)
        return module

    return make


def test_wandb_goes_on_with_the_run_of_the_workdir(told, fake):
    wandb = fake()
    for first in (1, 2):
        writer = told.writer("wandb", project="p")
        writer.write("a", first, {"loss": 0.5})
        writer.close()
    (_, given), *rest = wandb.calls[:6]
    settings = given.pop("settings").given
    assert given == {
        **{"project": "p", "name": "run", "id": "ab12", "resume": "allow", "reinit": "create_new"},
        **{"dir": str(told.workdir), "config": CONFIG, "mode": None},
    }
    assert settings["console"] == "off" and settings["finish_timeout"] < aside.WAIT
    assert rest == [
        ("metric", ("step",), {}),
        ("metric", ("*",), {"step_metric": "step"}),
        ("log", {"step": 1, "a/loss": 0.5}),
        ("finish", 0),
        ("teardown",),
    ]
    again = [c[1]["id"] for c in wandb.calls if c[0] == "init"]
    assert again == ["ab12", "ab12"] and not told.lines
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"


@pytest.mark.parametrize(
    ("error", "calls"),
    [(SystemExit(0), [("preempting",), ("finish", 1)]), (ValueError(), [("finish", 1)])],
)
def test_wandb_is_told_how_it_ended(told, fake, error, calls):
    wandb = fake()
    with pytest.raises(type(error)), closing(writer := told.writer("wandb")):
        writer.write("a", 1, {"loss": 0.5})
        raise error
    assert wandb.calls[4:] == [*calls, ("teardown",)]


@pytest.mark.parametrize("mode", ["", "online", "offline", "disabled"])
def test_wandb_without_a_login_stays_on_disk(told, fake, monkeypatch, mode):
    wandb = fake(login=False)
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    writer = told.writer("wandb")
    writer.write("a", 1, {"loss": 0.5})
    writer.close()
    asked = mode in ("offline", "disabled")  # by the user, in whose environment it stands
    assert wandb.calls[0][1]["mode"] == (None if asked else "offline")
    place = f"its run is kept in {told.workdir / 'wandb'}; `wandb sync` sends it"
    assert told.lines == ([] if asked else [f"tracker wandb: not logged in, so {place}"])
    assert wandb.calls[0][1]["project"] == "jaxsafety"


def test_wandb_that_cannot_begin_leaves_no_process(told, fake):
    wandb = fake(init=fails)
    writer = told.writer("wandb")
    writer.write("a", 1, {"loss": 0.5})
    writer.close()
    assert [call[0] for call in wandb.calls] == ["init", "teardown"]
    assert told.lines == [f"tracker wandb: RuntimeError: no route to host; {LOSES}"]


@pytest.mark.parametrize("whose", ["process", "run"])
def test_what_the_user_has_of_wandb_stays(told, fake, monkeypatch, whose):
    wandb = fake()
    if whose == "process":
        monkeypatch.setenv("WANDB_SERVICE", "of the user")
    wandb.run = wandb if whose == "run" else None
    writer = told.writer("wandb")
    writer.write("a", 1, {"loss": 0.5})
    writer.close()
    assert wandb.calls[-1] == ("finish", 0)


def test_names_in_wandb_s_own_environment_count(told, fake, monkeypatch):
    wandb = fake()
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_NAME", "called")
    writer = told.writer("wandb")
    writer.write("a", 1, {"loss": 0.5})
    writer.close()
    assert (wandb.calls[0][1]["project"], wandb.calls[0][1]["name"]) == ("theirs", "called")


@pytest.mark.parametrize("remote", ["", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"])
def test_trackio_finds_its_run_by_a_name_of_its_own(told, monkeypatch, remote):
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    if remote:
        monkeypatch.setenv(remote, "me/space")
    calls = []

    class Run:
        def log(self, row, step):
            calls.append((row, step))

        def finish(self):
            calls.append("finish")

    def init(**given):
        calls.append((given, constants.HF_HUB_OFFLINE))
        return Run()

    module = types.ModuleType("trackio")
    module.init = init
    monkeypatch.setitem(sys.modules, "trackio", module)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    writer = told.writer("trackio")
    writer.write("a", 1, {"loss": 0.5})
    writer.close()
    given, offline = calls[0]
    assert offline == (not remote) and constants.HF_HUB_OFFLINE is False
    monitors = {"auto_log_gpu": False, "auto_log_cpu": False}
    assert given == {
        **{"project": "jaxsafety", "name": "run-ab12", "config": CONFIG, "resume": "allow"},
        **{"embed": False, **monitors},
    }
    assert calls[1:] == [({"a/loss": 0.5}, 1), "finish"] and not told.lines


def test_tensorboard_has_the_scalars(told):
    writer = told.writer("tensorboard")
    writer.write("a", 1, {"loss": 1.0, "bad": float("nan")})
    writer.close()
    (events,) = (told.workdir / "tb").iterdir()
    assert b"a/loss" in events.read_bytes() and b"a/bad" not in events.read_bytes()
    assert json.loads((told.workdir / "metrics.jsonl").read_text())["bad"] is None


def test_tensorboard_does_not_wait_for_torch(tmp_path, root):
    """Nor takes it from anybody: this stands for one that is installed."""
    (tmp_path / "torch.py").write_text("print('torch is imported')\n")
    code = """
import pathlib, types
from jaxsafety.train.trackers.tensorboard import TensorBoard
to = TensorBoard(types.SimpleNamespace(workdir=pathlib.Path("run")))
to.write(1, {"loss": 0.5})
to.close()
print("written")
import torch
"""
    paths = os.pathsep.join([str(tmp_path), str(root)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["written", "torch is imported"]
    assert list((tmp_path / "run" / "tb").iterdir())
