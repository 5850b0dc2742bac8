"""wandb and trackio themselves, offline: two starts of one run, and nothing leaves the machine.

Each start is a process of its own, as they are for users; both packages read the environment when
they are imported.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

# A writer with one tracker: rows FIRST to LAST, then ps and threads as JSON, or a hard kill.
START = """
import json, os, subprocess, sys, threading, time
from pathlib import Path
from jaxsafety.train.metrics import MetricWriter
from jaxsafety.train.trackers import opening
from jaxsafety.train.trackers.api import Tracked
name, workdir, first, last, end = sys.argv[1:]
said = []
about = Tracked(Path(workdir), "", "run", "ab12cd34", {"method": {"steps": 9}}, said.append)
before = {t.name for t in threading.enumerate()}
writer = MetricWriter(workdir, tracker=opening.begin((name,), about))
writer.truncate("a", int(first) - 1)
for step in range(int(first), int(last) + 1):
    writer.write("a", step, {"loss": 1 / step, "kl": float("nan")})
if end == "kill":
    time.sleep(4)  # more than either package holds rows back
    print("ready", flush=True)
    time.sleep(600)
began = time.monotonic()
writer.close(end)
took = time.monotonic() - began
children = Path(f"/proc/self/task/{os.getpid()}/children")
left = children.read_text().split() if children.exists() else []
threads = [t.name for t in threading.enumerate() if t.name not in before]
print("DONE" + json.dumps({"said": said, "took": took, "left": left, "threads": threads}))
"""


class Listener:
    """A proxy that nobody should ask: counts connections and answers none."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.asked, self.held = 0, []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                self.held.append(self.socket.accept()[0])
            except OSError:
                return
            self.asked += 1


@pytest.fixture
def listener():
    made = Listener()
    yield made
    made.socket.close()
    for connection in made.held:
        connection.close()


@pytest.fixture
def start(root, tmp_path, listener):
    """Runs START with a home of its own; what it said at its end."""
    base = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "TRACKIO", "HF_"))}
    base |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(root), "NO_PROXY": ""}
    base |= {name: listener.address for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy")}
    base["TRACKIO_DIR"] = str(tmp_path / "trackio")
    (tmp_path / "home").mkdir()

    def call(name, first, last, end="finished", **env):
        command = [sys.executable, "-c", START, name, str(tmp_path / "work")]
        process = subprocess.Popen(
            [*command, str(first), str(last), end],
            env=base | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if end == "kill":
            while (line := process.stdout.readline()) and line != "ready\n":
                pass
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
            return None
        text = process.communicate(timeout=240)[0]
        assert process.returncode == 0, text[-3000:]
        return json.loads(text.rpartition("DONE")[2].splitlines()[0])

    return call


def wandb_records(path):
    """The records of a .wandb file: LevelDB's log format behind a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2 as protocol

    data, at, part = Path(path).read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        body = data[at + 7 : at + 7 + size]
        part, at = (body if kind in (1, 2) else part + body), at + 7 + size
        if kind in (1, 4):
            record = protocol.Record()
            record.ParseFromString(part)
            yield record


def wandb_parts(workdir):
    """Of each start: the run's record, its rows, its exit code (None without an end)."""
    found = []
    for folder in sorted((workdir / "wandb").glob("*run-*")):
        (file,) = folder.glob("*.wandb")
        run, rows, code = None, [], None
        for record in wandb_records(file):
            kind = record.WhichOneof("record_type")
            run = record.run if kind == "run" else run
            code = record.exit.exit_code if kind == "exit" else code
            if kind == "history":
                items = record.history.item
                row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
                rows.append({k: v for k, v in row.items() if not k.startswith("_")})
        found.append((run, rows, code))
    return found


def rows_of(first, last):
    return [{"step": step, "a/loss": 1 / step} for step in range(first, last + 1)]


@pytest.mark.parametrize("mode", ["offline", "no login"])
def test_wandb_goes_on_in_one_run_and_asks_nobody(start, tmp_path, listener, mode):
    pytest.importorskip("wandb", reason="wandb is of the extra wandb")
    env = {"WANDB_MODE": "offline"} if mode == "offline" else {}
    start("wandb", 1, 5, "kill", **env)
    time.sleep(1.1)  # folders are named by the second
    ends = [start("wandb", 4, 8, "interrupted", **env)]
    time.sleep(1.1)
    ends.append(start("wandb", 9, 9, **env))
    for told in ends:
        assert told["left"] == [] and told["threads"] == [] and told["took"] < 30
        kept = ["not logged in" in line for line in told["said"]]
        assert kept == ([] if mode == "offline" else [True])
    parts = wandb_parts(tmp_path / "work")
    assert [rows for _, rows, _ in parts] == [rows_of(1, 5), rows_of(4, 8), rows_of(9, 9)]
    assert [code for _, _, code in parts] == [None, 1, 0]
    for run, _, _ in parts:
        assert (run.run_id, run.display_name, run.project) == ("ab12cd34", "run", "jaxsafety")
        assert run.resume and not run.host
        config = {u.key: json.loads(u.value_json) for u in run.config.update}
        assert config["method"] == {"steps": 9}
    assert listener.asked == 0


@pytest.mark.slow  # it waits for a server that is not there
def test_wandb_whose_server_is_gone_costs_a_line(start, listener):
    pytest.importorskip("wandb", reason="wandb is of the extra wandb")
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"http://127.0.0.1:{server.getsockname()[1]}"
    told = start("wandb", 1, 3, WANDB_API_KEY="a" * 40, WANDB_BASE_URL=where, NO_PROXY="*")
    assert told["took"] < 35 and len(told["said"]) == 1
    assert "metrics.jsonl has every number" in told["said"][0]


def trackio_rows(start, tmp_path):
    """Runs of the project and the rows of the only one, read by trackio in a process of its own."""
    code = "import json; from trackio.sqlite_storage import SQLiteStorage as S; p = 'jaxsafety'\n"
    code += "runs = S.get_run_records(p)\n"
    code += "found = {'names': [r['name'] for r in runs], 'rows': S.get_logs(p, runs[0]['name'])}\n"
    code += "found['config'] = S.get_run_config(p, runs[0]['name'])\nprint(json.dumps(found))"
    env = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_trackio_goes_on_in_one_run_and_asks_nobody(start, tmp_path, listener):
    pytest.importorskip("trackio", reason="trackio is of the extra trackio")
    token = {"HF_TOKEN": "hf_" + "a" * 34}  # with one it would ask whose it is
    start("trackio", 1, 5, "kill", **token)
    told = start("trackio", 4, 8, **token)
    assert told["left"] == [] and told["threads"] == [] and told["said"] == []
    found = trackio_rows(start, tmp_path)
    assert found["names"] == ["run-ab12cd34"]
    steps = [row["step"] for row in found["rows"]]
    assert sorted(steps) == [1, 2, 3, 4, 4, 5, 5, 6, 7, 8]
    assert all(row["a/loss"] == 1 / row["step"] and "a/kl" not in row for row in found["rows"])
    assert found["config"]["method"] == {"steps": 9}
    assert listener.asked == 0


@pytest.mark.slow  # likewise
def test_trackio_whose_hub_is_gone_costs_a_line(start, listener):
    pytest.importorskip("trackio", reason="trackio is of the extra trackio")
    told = start("trackio", 1, 3, TRACKIO_SPACE_ID="me/space", HF_ENDPOINT="http://127.0.0.1:9")
    assert told["took"] < 35 and len(told["said"]) == 1
    assert "metrics.jsonl has every number" in told["said"][0]
