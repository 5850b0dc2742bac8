"""The benchmark scripts run; what they measure is for a quiet machine."""

import json
import subprocess
import sys

import pytest

TINY = {"head": {"rows": 32}}


@pytest.mark.slow
def test_the_gpu_script_at_toy_sizes(tmp_path, root):
    out = tmp_path / "gpu.jsonl"
    # Half a billion parameters take minutes here; the other jobs are for a machine that has a GPU.
    command = [
        sys.executable,
        "tests/bench/gpu.py",
        "--models=qwen2.5-0.5b",
        f"--out={out}",
        "--jobs=head",
        f"--sizes={json.dumps(TINY)}",
    ]
    subprocess.run(command, cwd=root, check=True, timeout=500)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["job"] for r in rows] == ["reverse KL head"]
    assert all(r["tokens_per_second"] > 0 and 0 < r["utilisation"] < 1 for r in rows)


def test_a_busy_machine_is_refused(root):
    code = (
        "import os; os.getloadavg = lambda: (9.0, 9.0, 9.0)\n"
        "import sys; sys.argv = ['speed.py']; sys.path.insert(0, '.')\n"
        "from tests.bench import speed; sys.exit(speed.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and "load 9.00; allowed: at most 0.5" in done.stderr
