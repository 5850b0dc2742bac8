"""Ctrl-C and SIGTERM of real processes: answered at once, never a crash, true words."""

import gc
import os
import signal
import subprocess
import sys
import time
import weakref

import pytest

from jaxsafety.core import attached, signals
from tests.conftest import QUICK

# Sits in native code that no Python handler interrupts, as a compilation does.
STUCK = """
import signal, sys, time, ctypes
from jaxsafety.core import signals
def act(number): raise KeyboardInterrupt
with signals.watch(lambda number: "stopping; " + signals.AGAIN, act):
    print("printed, not flushed")
    sys.stderr.write("ready\\n"); sys.stderr.flush()
    lock = ctypes.create_string_buffer(64)
    libc = ctypes.CDLL(None)
    libc.pthread_mutex_lock(lock); libc.pthread_mutex_lock(lock)  # waits for itself, for ever
"""
# A test run in the background of a script has SIGINT ignored, and so would its children.
RESTORE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
CHAT = ("-m", "jaxsafety", "chat", "--max-tokens=8")


def start(*arguments, **options):
    environment = {**os.environ, "XLA_FLAGS": QUICK, **options.pop("env", {})}
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.Popen(
        [sys.executable, "-c", RESTORE, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def test_the_first_is_answered_while_the_main_thread_is_stuck_and_the_second_ends_it():
    process = start("-c", STUCK)
    assert process.stderr is not None and process.stderr.readline() == "ready\n"
    time.sleep(0.5)  # and stuck
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert "stopping; Ctrl-C again stops at once" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == "printed, not flushed\n"
    assert time.monotonic() - began < 15


def test_a_signal_in_a_callback_of_the_collector_is_not_lost(capsys):
    """Python prints what these raise and goes on; JAX has one, and a run's start collects often."""

    def collected(phase, info):
        if phase == "start" and not sent:
            sent.append(True)
            signal.raise_signal(signal.SIGTERM)
            len(sent)

    def act(number):
        raise KeyboardInterrupt(number)

    sent = []
    gc.callbacks.append(collected)
    try:
        with (
            pytest.raises(KeyboardInterrupt, match=str(int(signal.SIGTERM))),
            signals.watch(lambda number: "", act, (signal.SIGTERM,)),
        ):
            gc.collect()
            until = time.monotonic() + 5
            while time.monotonic() < until:
                pass
    finally:
        gc.callbacks.remove(collected)
    assert sent and "Exception ignored" not in capsys.readouterr().err


def test_a_signal_while_a_weak_key_is_dropped_is_not_lost(capsys):
    """Python prints what these callbacks raise, too, and goes on."""

    class Asked:  # by the callback, whether somebody walks over the dictionary
        def __bool__(self):
            if not sent:
                sent.append(True)
                signal.raise_signal(signal.SIGTERM)
                len(sent)
            return False

    class Key:
        pass

    def act(number):
        raise KeyboardInterrupt(number)

    sent, weak, key = [], weakref.WeakKeyDictionary(), Key()
    weak[key], weak._iterating = 1, Asked()
    with (
        pytest.raises(KeyboardInterrupt, match=str(int(signal.SIGTERM))),
        signals.watch(lambda number: "", act, (signal.SIGTERM,)),
    ):
        del key
        until = time.monotonic() + 5
        while time.monotonic() < until:
            pass
    assert sent and "Exception ignored" not in capsys.readouterr().err


def test_a_chat_at_its_prompt_ends_with_true_words(root):
    process = start(*CHAT, cwd=root)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("hello\n")
    process.stdin.flush()
    assert process.stdout.readline()
    time.sleep(1)  # it waits for the next line
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; the conversation is not kept" in err
    assert "goes on" not in err and "Traceback" not in err


ORGANISM = ("-m", "jaxsafety", "run", "--config=configs/sft/organism.py:smoke")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_run_that_is_measuring_stops_between_batches(root, tmp_path, number, code):
    process = start(
        *ORGANISM,
        f"--workdir={tmp_path / 'run'}",
        "--config.eval.batch_size=2",
        cwd=root,
        env={"PYTHONUNBUFFERED": "1"},
    )
    generations = tmp_path / "run" / "generations"
    while process.poll() is None and not list(generations.glob("base/*")):
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    assert f"stopped by {'Ctrl-C' if code else 'SIGTERM'}" in out
    assert "the same command goes on from here" in out
    assert "stopping after" in err and "Traceback" not in err
    assert not list(generations.glob("student/*"))


VENDOR, KIND = "sys/bus/pci/devices/a/vendor", "sys/bus/pci/devices/a/class"


@pytest.mark.parametrize(
    ("environment", "files", "possible"),
    [
        ({}, {}, False),
        ({"TPU_SKIP_MDS_QUERY": "1"}, {}, False),  # JAX's own mark of no TPU
        ({}, {"dev/accel/accel0": ""}, False),  # an accelerator of another maker
        (
            {},
            {VENDOR: "0x1ae0\n", KIND: "0x020000"},
            False,
        ),  # Google's network card, on every cloud machine
        ({"JAX_PLATFORMS": "tpu,cpu"}, {}, True),
        ({"JAX_FORCE_TPU_INIT": "1"}, {}, True),
        ({"TPU_WORKER_ID": "0"}, {}, True),
        ({}, {"dev/accel0": ""}, True),
        ({}, {"dev/vfio/0": ""}, True),
        ({}, {VENDOR: "0x1ae0\n", KIND: "0x120000"}, True),
    ],
)
def test_libtpu_is_left_alone_only_where_no_tpu_can_be(tmp_path, environment, files, possible):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert attached.tpu_possible(environment, tmp_path) == possible
