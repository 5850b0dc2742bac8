"""The scripts for TPU slices and Slurm against stubs of gcloud, srun and scontrol."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

# Logs its arguments; `describe` says the next state of $STATES, one word per call.
GCLOUD = """#!/usr/bin/env bash
echo "gcloud $*" >>"$LOG"
case "$*" in
  *describe*)
    read -r now rest <"$STATES" || true
    [ -z "$rest" ] || echo "$rest" >"$STATES"
    [ "$now" = NONE ] && exit 1
    echo "$now" ;;
  *"test -f"*) read -r now rest <"$ENDS"; echo "$rest" >"$ENDS"; exit "${now:-0}" ;;
  *"jaxsafety run"*) read -r now rest <"$RUNS"; echo "$rest" >"$RUNS"; exit "${now:-0}" ;;
esac
"""
LOGGED = '#!/usr/bin/env bash\necho "$(basename "$0") $*" >>"$LOG"\n'
RUN = ("--config=configs/safesteer/llama3_8b.py", "--config.data.harmful=a b.jsonl")


@pytest.fixture
def cluster(tmp_path, root):
    """A repository and stubs on PATH, as a function that runs a script."""
    repo = tmp_path / "repo"
    shutil.copytree(root / "launch", repo / "launch")
    shutil.copy(root / "pyproject.toml", repo)
    bins = tmp_path / "bin"
    bins.mkdir()
    for name, text in (("gcloud", GCLOUD), ("srun", LOGGED), ("scontrol", LOGGED), ("git", LOGGED)):
        (bins / name).write_text(text)
        (bins / name).chmod(0o755)

    def call(script, *args, states="ACTIVE", runs="0", ends="0", **env):
        log = tmp_path / "log"
        log.write_text("")
        for name, text in (("STATES", states), ("RUNS", runs), ("ENDS", ends)):
            (tmp_path / name).write_text(text + "\n")
            env[name] = str(tmp_path / name)
        path = f"{bins}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", f"launch/{script}", *args],
            cwd=repo,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path, "LOG": str(log), "WAIT": "0", **env},
            timeout=60,
        )
        said = [line for line in log.read_text().splitlines() if not line.startswith("git")]
        return done, said

    call.repo = repo
    return call


TPU = {"NAME": "ours", "ZONE": "us-east5-a", "TYPE": "v5p-32", "BUCKET": "mine"}


def kinds(log):
    """What was asked of gcloud, without the looks at the state."""
    names = ("create", "scp", "launch/venv.sh", "jaxsafety run", "test -f", "delete")
    asked = [line for line in log if "describe" not in line]
    whole = "\n".join(asked).replace("\n    ", " ").splitlines()  # a command of several lines
    return [next(n for n in names if n in line) for line in whole]


def test_a_slice_is_asked_for_used_and_deleted(cluster):
    done, log = cluster("tpu_pod.sh", *RUN, states="NONE WAITING_FOR_RESOURCES ACTIVE", **TPU)
    assert done.returncode == 0, done.stderr
    assert kinds(log) == ["create", "scp", "launch/venv.sh", "jaxsafety run", "test -f", "delete"]
    create = next(line for line in log if " create " in line)
    for word in (
        "--spot",
        "--accelerator-type=v5p-32",
        "--runtime-version=v2-alpha-tpuv5",
        "--zone=us-east5-a",
        "--node-id=ours",
    ):
        assert word in create.split()
    run = next(line for line in log if "jaxsafety run" in line)
    assert "--worker=all" in run and "--distributed" in run
    assert "--workdir=$HOME/bucket/runs/ours" in run and r"a\ b.jsonl" in run


def test_preemption_asks_for_another_slice_and_goes_on(cluster):
    # The run dies with the slice; only the third look finds it suspended.
    states = "ACTIVE ACTIVE ACTIVE SUSPENDED SUSPENDED PROVISIONING ACTIVE ACTIVE"
    done, log = cluster("tpu_pod.sh", *RUN, states=states, runs="255 0", **TPU)
    assert done.returncode == 0, done.stderr
    start = ["scp", "launch/venv.sh", "jaxsafety run"]
    assert kinds(log) == [*start, "delete", "create", *start, "test -f", "delete"]


def test_saved_after_sigterm_is_run_again(cluster):
    done, log = cluster("tpu_pod.sh", *RUN, runs="0 0", ends="1 0", **TPU, KEEP="1")
    assert done.returncode == 0, done.stderr
    assert kinds(log).count("jaxsafety run") == 2 and "delete" not in kinds(log)


def test_a_failed_run_is_not_tried_again(cluster):
    done, log = cluster("tpu_pod.sh", *RUN, runs="2", **TPU)
    assert done.returncode == 2 and kinds(log).count("jaxsafety run") == 1
    assert "delete" not in kinds(log)


def test_dry_run_prints_and_runs_nothing(cluster):
    done, log = cluster("tpu_pod.sh", "--dry-run", *RUN, HF_TOKEN="hf_secret", PROJECT="p", **TPU)
    assert done.returncode == 0 and not log
    assert done.stdout.count("gcloud compute tpus") == 6  # one copies the token, as a file
    assert "hf_secret" not in done.stdout and "--project=p" in done.stdout


def test_the_token_is_on_no_command_line(cluster):
    done, log = cluster("tpu_pod.sh", *RUN, HF_TOKEN="hf_secret", **TPU)
    assert done.returncode == 0 and not any("hf_secret" in line for line in log)
    assert any(".jaxsafety_token" in line and " scp " in line for line in log)


def test_a_run_that_fails_with_its_slice_alive_is_a_failure(cluster):
    done, log = cluster("tpu_pod.sh", *RUN, runs="1", **TPU)
    assert done.returncode == 1 and kinds(log).count("jaxsafety run") == 1


@pytest.mark.parametrize("missing", sorted(TPU))
def test_what_is_missing_is_named(cluster, missing):
    done, log = cluster("tpu_pod.sh", *RUN, **{**TPU, missing: ""})
    assert done.returncode == 2 and not log and missing in done.stderr
    done, log = cluster("tpu_pod.sh", **TPU)
    assert done.returncode == 2 and not log and "--config" in done.stderr


def slurm(cluster, tasks, report):
    fake = cluster.repo / ".venv" / "bin"
    fake.mkdir(parents=True, exist_ok=True)
    (fake / "python").write_text(LOGGED)
    (fake / "python").chmod(0o755)
    (cluster.repo / "runs").mkdir(exist_ok=True)
    if report:
        (cluster.repo / "runs" / "report.html").write_text("")
    return cluster("gpu_slurm.sh", *RUN, "--workdir=runs", SLURM_NTASKS=tasks, SLURM_JOB_ID="7")


def test_slurm_runs_a_task_per_gpu_and_requeues_what_was_saved(cluster):
    done, log = slurm(cluster, "16", report=False)
    assert done.returncode == 0, done.stderr
    run = next(line for line in log if line.startswith("srun"))
    assert run.endswith("--workdir=runs --distributed") and "a b.jsonl" in run
    assert "--gpu-bind=none" in run
    assert log[-1] == "scontrol requeue 7"
    done, log = slurm(cluster, "1", report=True)
    assert done.returncode == 0 and not any("requeue" in line for line in log)
    assert "--distributed" not in log[-1]
    done, log = cluster("gpu_slurm.sh", *RUN)
    assert done.returncode == 2 and not log and "--workdir" in done.stderr


def test_slurm_header(root):
    head = (root / "launch" / "gpu_slurm.sh").read_text()
    assert "#SBATCH --signal=TERM@120\n#SBATCH --requeue\n" in head
