"""The shell scripts against a fake interpreter: what they install, skip, run and forward."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Logs its arguments; `-m venv DIR` makes a DIR/bin that logs too.
PYTHON = """#!/usr/bin/env bash
echo "python $*" >>"$LOG"
echo "JAX_DISABLE_MOST_OPTIMIZATIONS=${JAX_DISABLE_MOST_OPTIMIZATIONS:-}" >>"$LOG.settings"
case "$1 ${2:-}" in
  "-c "*) exit "${TOO_OLD:-0}" ;;
  "-m venv")
    mkdir -p "$3/bin"
    for name in python ruff pyright mine; do cp "$FAKE" "$3/bin/$name"; done ;;
  "--version "*) echo Python 3.11.0 ;;
esac
[ "$1 ${2:-}" != "-m pytest" ] || exit "${TESTS:-${FAIL:-0}}"
case "$*" in *--dry-run*) exit "${OFFLINE:-0}" ;; *--editable*) exit "${PIP:-${FAIL:-0}}" ;; esac
exit "${FAIL:-0}"
"""


@pytest.fixture
def checkout(tmp_path, root):
    """A copy of the scripts with a fake python3, as a function that runs one of them."""
    for name in ("launch", ".ci"):
        shutil.copytree(root / name, tmp_path / "repo" / name)
    shutil.copy(root / "pyproject.toml", tmp_path / "repo")
    fake = tmp_path / "python3"
    fake.write_text(PYTHON)
    fake.chmod(0o755)

    def call(script: str, *args: str, **given: str) -> tuple[int, list[str]]:
        log = tmp_path / "log"
        log.write_text("")
        env = {**os.environ, "PYTHON": str(fake), "PYTHON_NEWEST": str(fake)}
        env |= {"FAKE": str(fake), "LOG": str(log), **given}
        done = subprocess.run(
            ["bash", str(tmp_path / "repo" / script), *args],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, log.read_text().splitlines()

    call.path = tmp_path / "repo"
    return call


def installs(log):
    return [
        line.split("--editable ")[1]
        for line in log
        if "pip install" in line and "--dry-run" not in line
    ]


def test_demo_installs_once_and_forwards(checkout):
    code, log = checkout("launch/demo.sh", "--config.seed=3", "two words")
    assert code == 0 and installs(log) == ["."]
    run = "python -m jaxsafety run --config=configs/safesteer/organism.py --workdir=runs/demo"
    assert log[-1] == f"{run} --config.seed=3 two words"
    code, log = checkout("launch/demo.sh")
    assert code == 0 and not installs(log) and not any("venv" in line for line in log)
    (checkout.path / "pyproject.toml").write_text("changed")
    assert installs(checkout("launch/demo.sh")[1]) == ["."]


def test_extras_serve_the_plain_install_too(checkout):
    code, log = checkout("launch/test.sh", "tests/x.py", "-k", "a b")
    assert code == 0 and installs(log) == [".[dev]"]
    assert log[-1].startswith("python -m pytest -q -n 2") and log[-1].endswith("tests/x.py -k a b")
    assert any("check --quiet" in line for line in log)
    assert not installs(checkout("launch/demo.sh")[1])
    assert installs(checkout("launch/local.sh", "mine", EXTRAS="tpu")[1]) == [".[tpu]"]


def test_local_runs_any_command_of_the_environment(checkout):
    code, log = checkout("launch/local.sh", "mine", "a b", "c")
    assert code == 0 and log[-1] == "python a b c"


def test_failures_are_not_swallowed(checkout):
    assert checkout("launch/local.sh", "mine")[0] == 0
    assert checkout("launch/demo.sh", FAIL="3")[0] == 3
    code, log = checkout("launch/test.sh", FAIL="3")
    assert code == 3 and not any("pytest" in line for line in log)


def test_an_old_python_is_named(checkout):
    code, log = checkout("launch/demo.sh", TOO_OLD="1")
    assert code == 2 and not installs(log) and not (checkout.path / ".venv").exists()


@pytest.mark.parametrize(("code", "passes"), [("0", True), ("5", True), ("1", False), ("4", False)])
def test_ci_runs_all_tiers_and_reports(checkout, code, passes):
    assert checkout("launch/test.sh")[0] == 0
    for name in ("a/test_slow", "a/test_fast", "distributed/test_slow", "faults/test_slow"):
        file = checkout.path / "tests" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("" if name.endswith("fast") else "@pytest.mark.slow")
    done, log = checkout(".ci/run", FAIL=code)
    settings = (checkout.path.parent / "log.settings").read_text().splitlines()[-3:]
    assert not any(line.endswith("=0") for line in settings)  # parity's conftest sees to it
    ran = [line for line in log if "python -m pytest -q -n 2" in line]
    times, file = "--durations=15 --durations-min=5", "--dist loadfile --no-loadscope-reorder"
    assert [line.removeprefix("python -m pytest -q -n 2 ") for line in ran[-3:]] == [
        f"{times} -m slow tests/a/test_slow.py",
        f"{times} tests/parity",
        f"{file} {times} tests/distributed tests/faults",
    ]
    assert (done == 0) is passes
    # The newest stack comes directly after the default tier; without a venv it is left out. What
    # parity needs is installed beside it.
    newest = [i for i, line in enumerate(log) if line.endswith("tests/losses/test_eager.py")]
    default = next(i for i, line in enumerate(log) if "python -m pytest" in line)
    parity = next(i for i, line in enumerate(log) if line.endswith(".[dev,parity,judges]"))
    ahead = log.index(next(line for line in log if "tests/parity" in line))
    assert len(newest) == (code == "0") and all(default < i < ahead for i in newest)
    assert parity < ahead and (code != "0" or default < parity)


def test_the_newest_stack_runs_the_numerical_tests_and_each_method(checkout):
    code, log = checkout("launch/newest.sh")
    assert code == 0 and installs(log) == [".[dev]"]
    first, second, third = (line for line in log if "-m pytest" in line)
    assert all("--timeout=300" in line for line in (first, second, third))  # names what hangs
    assert first.endswith("tests/losses/test_eager.py")
    compiled = ("losses/test_divergence.py", "train/test_step.py", "sampling/test_decode.py")
    compiled = (*compiled, "models/test_transformer.py")
    assert all(f"tests/{name}" in second for name in compiled)
    assert all(f"[{name}/organism]" in third for name in ("sft", "safesteer", "safemoe"))
    settings = (checkout.path.parent / "log.settings").read_text().splitlines()
    zero = [line.endswith("=0") for line in settings[-3:]]
    assert zero == [True, False, True]  # as users compile
    code, log = checkout("launch/newest.sh", "mine", "--flag")
    assert code == 0 and not any("-m pytest" in line for line in log)
    assert installs(log) == [".[dev]"]  # there may be newer ones today


@pytest.mark.parametrize(
    ("given", "code"), [({"OFFLINE": "1"}, 77), ({"PIP": "1"}, 1), ({"PIP": "2"}, 2)]
)
def test_packages_that_do_not_go_together_are_not_skipped(checkout, given, code):
    ended, log = checkout("launch/newest.sh", **given)
    assert ended == code and not any("-m pytest" in line for line in log)


def test_every_part_on_the_newest_stack_runs_also_when_one_fails(checkout):
    code, log = checkout("launch/newest.sh", TESTS="3")
    assert code == 3 and len([line for line in log if "-m pytest" in line]) == 3


def test_half_a_venv_is_not_kept(checkout):
    assert checkout("launch/newest.sh", FAIL="1")[0] == 77
    assert not (checkout.path / ".newest" / "venv").exists()


def test_without_a_newer_python_one_line_says_what_is_missing(checkout):
    tools = checkout.path.parent / "tools"
    tools.mkdir()
    for name in ("id", "python3", "python3.12", "python3.13", "python3.14"):
        (tools / name).write_text(f"#!/bin/sh\necho 1000\nexit {int(name != 'id')}\n")
        (tools / name).chmod(0o755)
    command = ["bash", str(checkout.path / "launch" / "newest.sh")]
    env = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tools), "LOG": "/dev/null"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 77 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("newest: skipped: Python 3.12 or newer is needed")
    (tools / "python3.13").write_text("#!/bin/sh\n")  # would serve, but another is asked for
    env["PYTHON_NEWEST"] = str(tools / "python3.14")
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 77 and "Python 3.12 or newer is needed" in done.stderr


def test_shellcheck(root):
    scripts = [*sorted((root / "launch").glob("*.sh")), root / ".ci" / "run"]
    assert len(scripts) >= 5
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
    tool = Path(sys.executable).with_name("shellcheck")
    if not tool.exists():
        pytest.skip("shellcheck is of the extra dev")
    command = [str(tool), "--external-sources", *map(str, scripts)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stdout
