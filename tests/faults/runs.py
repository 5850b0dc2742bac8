"""Real runs of the command line in a process of their own, ended by a signal at a chosen line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from jaxsafety.train.metrics import read_metrics
from tests.conftest import QUICK

SCRIPT = Path(__file__).with_name("method_run.py")
CONFIGS = SCRIPT.parents[2] / "configs"


def launch(config, settings, model, workdir, *, script=SCRIPT, **environment):
    """Starts `jaxsafety run` of a smoke config into `workdir/run`, by a script of this folder."""
    overrides = [f"--config.{name}={value}" for name, value in settings.items()]
    command = [
        sys.executable,
        str(script),
        str(workdir / "final.npz"),
        "run",
        f"--config={CONFIGS / config}:smoke",
        f"--config.model.path={model}",
        f"--workdir={workdir / 'run'}",
        *overrides,
    ]
    environment = {
        **os.environ,
        "XLA_FLAGS": QUICK,
        "PYTHONUNBUFFERED": "1",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **environment,
    }
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def finish(process):
    text, _ = process.communicate(timeout=1500)
    assert process.returncode == 0, text
    return text


def rows(workdir):
    """All metrics but the times."""
    found = read_metrics(workdir / "run")
    return [{k: v for k, v in row.items() if not k.startswith("time")} for row in found]


def said_until(process, mark, count):
    """What is said up to the `count`th line that begins with `mark`."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        count -= line.startswith(mark)
        if not count:
            break
    return "".join(said)


def kill_at(process, mark, count, delay):
    """Kills `delay` seconds after `mark` was said for the `count`th time; says if it died of it."""
    said = said_until(process, mark, count)
    time.sleep(delay)
    process.kill()
    process.communicate()
    died = process.returncode == -signal.SIGKILL
    assert died or process.returncode == 0, said
    return died


def terminate_at(process, mark, count):
    """SIGTERM when a line that begins with `mark` is said for the `count`th time; what it said."""
    said = said_until(process, mark, count)
    process.send_signal(signal.SIGTERM)
    return said + finish(process)


def assert_same(workdir, whole, names):
    """The same bits in memory, the same metrics and the same files `names` of both runs."""
    final, expected = (dict(np.load(d / "final.npz")) for d in (workdir, whole))
    assert final.keys() == expected.keys()
    for name, leaf in final.items():
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)
    assert rows(workdir) == rows(whole)
    for name in names:
        both = [(d / "run" / name).read_bytes() for d in (workdir, whole)]
        assert both[0] == both[1], name
