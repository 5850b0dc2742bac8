"""GPUs that are not there: what the compiler is told, what may be used, what is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.planning import gpu, topology

CONFIG = "configs/sft/llama3_2_1b.py"


@pytest.fixture(autouse=True)
def no_fraction(monkeypatch):
    for name in gpu.FRACTION:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", gpu.CARDS)
def test_the_text_says_the_card_and_no_version_of_cub(name):
    card, text = gpu.CARDS[name], gpu.target(gpu.CARDS[name])
    assert text.count("{") == text.count("}") == 2 and "cub_version" not in text
    said = dict(line.strip().split(": ", 1) for line in text.splitlines() if ": " in line)
    assert int(said["core_count"]) == card.cores and int(said["device_memory_size"]) == card.memory
    assert int(said["shared_memory_per_block_optin"]) < int(said["shared_memory_per_core"])
    assert f"major: {card.major}" in text and said["device_description_str"] == f'"{card.name}"'


def test_counts_parse_and_others_are_refused():
    where = topology.parse("h200:8")
    assert (where.chips, where.gpus, where.chip.devices) == (8, True, 1)
    assert [t.name for t in topology.larger(where)] == ["h200:16", "h200:32"]
    assert not topology.parse("v5e:2x2").gpus
    for name in ("h100", "h100:3", "h100:64", "h100:2x2", "b300:8"):
        with pytest.raises(UsageError, match="--topology: got"):
            topology.parse(name)


def test_the_limit_is_what_jax_takes_of_the_card(monkeypatch):
    where = topology.parse("h100:1")
    topology.usable.cache_clear()
    assert topology.usable(where) == int(0.75 * gpu.CARDS["h100"].memory)
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", ".9")
    topology.usable.cache_clear()
    assert topology.usable(where) == int(0.9 * gpu.CARDS["h100"].memory)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".8")
    with pytest.raises(UsageError, match="XLA_CLIENT_MEM_FRACTION and XLA_PYTHON"):
        gpu.fraction()
    monkeypatch.delenv("XLA_CLIENT_MEM_FRACTION")
    assert gpu.fraction() == 0.8
    topology.usable.cache_clear()


@pytest.mark.parametrize("text", ["0", "1.5", "-1", "nan", "most"])
def test_a_fraction_that_is_none_is_one_line(monkeypatch, text):
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", text)
    with pytest.raises(UsageError, match="XLA_CLIENT_MEM_FRACTION: got") as caught:
        gpu.fraction()
    assert "\n" not in str(caught.value)


def plan(*options):
    command = [sys.executable, "-m", "jaxsafety", "plan", f"--config={CONFIG}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def installed():
    try:
        return importlib.util.find_spec("jax_plugins.xla_cuda13") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.skipif(installed(), reason="the compiler is here")
def test_without_the_compiler_one_line_names_the_extra():
    done = plan("--topology=h100:8")
    assert done.returncode == 2 and "jaxsafety[gpu-plan]" in done.stderr.splitlines()[-1]


def test_what_the_plugin_says_is_told_and_the_environment_stays(monkeypatch):
    """A plugin that refuses, first for its libraries and then for good."""

    class Plugin:
        initialize = staticmethod(lambda: None)

    from jax.experimental import topologies

    seen = []

    def refuse(**given):
        seen.append(os.environ.get(gpu.UNCHECKED))
        raise ValueError("topology not implemented" if len(seen) < 2 else "no such allocator")

    monkeypatch.delenv(gpu.UNCHECKED, raising=False)
    monkeypatch.setattr(gpu, "_plugin", lambda: Plugin)
    monkeypatch.setattr(topologies, "get_topology_desc", refuse)
    with pytest.raises(UsageError, match="no such allocator.*plugin of jax") as caught:
        gpu.devices("h100", 8)
    assert seen == [None, "1"] and gpu.UNCHECKED not in os.environ
    assert "pip install" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not installed(), reason="needs the extra gpu-plan")
@pytest.mark.parametrize("count", [1, 8, 16])
def test_the_real_step_compiles_without_a_gpu(tmp_path, count):
    file = tmp_path / "plan.json"
    done = plan(f"--topology=h100:{count}", f"--json={file}")
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    memory = found["programs"]["step"]["hbm_per_chip"]
    assert found["fits"] and found["chips"] == count and found["mesh"]["fsdp"] == count
    assert memory["limit"] == int(0.75 * gpu.CARDS["h100"].memory)
    assert 1 < memory["sum"] / topology.GIB < 6
    assert bool(found["programs"]["step"]["collectives"]) == (count > 1)


@pytest.mark.skipif(not installed(), reason="needs the extra gpu-plan")
@pytest.mark.parametrize("name", gpu.CARDS)
def test_devices_are_found_after_backends_have_started(name):
    """A notebook that has used its CPU already."""
    code = (
        "import jax; jax.devices()\n"
        "from jaxsafety.planning import topology\n"
        f"found = topology.devices(topology.parse('{name}:16'))\n"
        "print(len(found), {d.process_index for d in found}, found[0].platform)\n"
    )
    kept = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept)
    assert done.stdout.split("\n")[0] == "16 {0, 1} gpu", done.stderr
