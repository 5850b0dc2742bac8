"""launch/safesteer_real.sh by a fake interpreter: arms, one teacher, a stop, a second start."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

# Makes what each command would, unless the name of its arm is STOPPED.
PYTHON = """#!/usr/bin/env bash
echo "$*" >>"$LOG"
case "$1 ${2:-}" in
  "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  "--version "*) echo Python 3.11.0 ;;
  "-c "*) echo starter ;;
esac
option() { for x in "${args[@]}"; do case "$x" in "$1"=*) echo "${x#*=}" ;; esac; done; }
args=("$@")
if [ "$1 ${2:-} ${3:-}" = "-m jaxsafety run" ]; then
  where=$(option --workdir)
  [ "${where##*/}" != "${STOPPED:-}" ] || exit 0
  mkdir -p "$where/student" "$where/artifacts"
  for file in filter.json direction.json direction.npz token_set.json; do
    [ -f "$where/artifacts/$file" ] || echo "$where" >"$where/artifacts/$file"
  done
  touch "$where/student/config.json"
elif [ "$1 ${2:-} ${3:-}" = "-m jaxsafety eval" ]; then
  arm=$(option --arm)
  [ "measured-$arm" != "${STOPPED:-}" ] || exit 0
  file="$(option --out)/judges/xstest_list/verdicts/$arm/xstest_safe.greedy.jsonl"
  mkdir -p "${file%/*}"
  touch "$file"
elif [ "$1" = tools/compare_models.py ]; then
  echo '{"kl": 0}'
fi
"""


@pytest.fixture
def start(tmp_path, root):
    """`start(...)`: the exit code, the last line of stderr, and the arms trained and measured."""
    shutil.copytree(root / "launch", tmp_path / "repo" / "launch")
    shutil.copy(root / "pyproject.toml", tmp_path / "repo")
    fake, base = tmp_path / "python3", tmp_path / "base"
    fake.write_text(PYTHON)
    fake.chmod(0o755)
    base.mkdir()
    (base / "config.json").touch()

    def call(**given):
        log = tmp_path / "log"
        log.write_text("")
        env = {**os.environ, "PYTHON": str(fake), "LOG": str(log), "BASE": str(base)}
        env |= {"DATA": "data", "OUT": str(tmp_path / "out"), "SEEDS": "0", **given}
        script = tmp_path / "repo" / "launch" / "safesteer_real.sh"
        done = subprocess.run(
            ["bash", str(script)], env=env, capture_output=True, text=True, timeout=60
        )
        done_what = [
            word.rpartition("/")[2] if kind == "run" else word.partition("=")[2]
            for line in log.read_text().splitlines()
            for kind, option in (("run", "--workdir="), ("eval", "--arm="))
            if f"jaxsafety {kind} " in line
            for word in line.split()
            if word.startswith(option)
        ]
        said = done.stderr.splitlines()
        return done.returncode, said[-1] if said else "", done_what

    call.out = tmp_path / "out"
    return call


ARMS = [f"{arm}-0" for arm in ("steered", "context", "full", "bfloat16", "sft")]
MEASURED = [f"{arm}-0" for arm in ("steered", "context", "full", "bfloat16", "sft")]


def test_every_arm_is_trained_measured_and_compared_and_a_teacher_found_once(start):
    code, said, what = start()
    assert (code, what) == (0, ["base", *ARMS, *MEASURED]) and said.startswith("launch: install")
    assert sorted(p.stem for p in (start.out / "drift").iterdir()) == sorted(ARMS)
    own = str(start.out / "steered-0") + "\n"
    for arm in ("full-0", "bfloat16-0"):
        kept = start.out / arm / "artifacts"
        assert {p.read_text() for p in kept.iterdir()} == {own}  # what `steered` found
        assert sorted(p.name for p in kept.iterdir())[:2] == ["direction.json", "direction.npz"]
    assert (start.out / "context-0" / "artifacts" / "direction.json").read_text() != own


@pytest.mark.parametrize(
    ("stopped", "line", "before"),
    [
        ("full-0", "stopped before", ["base", "steered-0", "context-0", "full-0"]),
        ("measured-context-0", "all of context-0", ["base", *ARMS, "steered-0", "context-0"]),
    ],
)
def test_a_stop_is_told_and_a_second_start_goes_on(start, stopped, line, before):
    code, said, what = start(STOPPED=stopped)
    assert code == 1 and line in said and "the same command goes on" in said and what == before
    assert start()[0] == 0
    assert len(list((start.out / "drift").iterdir())) == len(ARMS)
    assert not list(start.out.rglob("*.part"))


def test_what_it_needs_is_one_line(start):
    assert start(BASE="nowhere")[:2] == (
        2,
        "safesteer_real: nowhere: no model; launch/real.sh makes one",
    )
    code, said, _ = start(DATA="")
    assert code == 1 and "a directory with files of AdvBench, XSTest and ARC easy" in said
