"""Which meshes are tried for `--mesh=auto`, which is chosen, and what is said of it."""

from __future__ import annotations

import jax
import pytest

from jaxsafety import cli
from jaxsafety.core.config import load_config
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.models.formats.source import ModelSource
from jaxsafety.planning import hlo, meshes, plan, program, topology

SFT = "configs/sft/llama3_2_1b.py"
FSDP, DATA, TENSOR = MeshConfig(fsdp=8), MeshConfig(data=8), MeshConfig(fsdp=2, tensor=4)


def shape():
    """Llama 3.2 1B: 32 heads, 8 of keys and values, 128,256 tokens."""
    return plan.model_config(ModelSource(shape="llama3.2-1b"))


def test_every_axis_of_a_candidate_divides():
    found = meshes.candidates(shape(), 16, 16)
    assert found[:2] == [MeshConfig(fsdp=16), MeshConfig(data=16)]
    assert {m.data * m.fsdp * m.tensor for m in found} == {16}
    assert max(m.tensor for m in found) == 8  # key and value heads
    assert len(set(found)) == len(found) == 8


def test_rows_that_do_not_divide_leave_out_meshes():
    assert {m.data * m.fsdp for m in meshes.candidates(shape(), 4, 8)} == {4, 2, 1}
    with pytest.raises(UsageError, match=r"--mesh: got 'auto, with 32 devices'.*\(3 here\)"):
        meshes.candidates(shape(), 3, 32)


def account(at_least, between, needed, fits=True):
    step = {"seconds_at_least": at_least, "seconds_between_chips": between}
    return {"programs": {"step": step | {"hbm_per_chip": {"sum": needed}}}, "fits": fits}


def choose(facts):
    """Chooses among mesh -> (floor, kept, plan); what was compiled, in order, and the plan."""
    compiled = []

    def make(mesh):
        compiled.append(mesh)
        return {**facts[mesh][2], "mesh": mesh}

    known = {mesh: meshes.Known(floor, kept, 100) for mesh, (floor, kept, _) in facts.items()}
    return meshes.choose(list(facts), known.__getitem__, make), compiled


def test_the_fastest_that_fits_is_chosen_by_floor_and_links():
    facts = {
        FSDP: (1.0, 10, account(1.0, 3.0, 50)),
        DATA: (1.0, 40, account(1.0, 1.5, 90)),
        TENSOR: (0.5, 10, account(0.5, 0.1, 120, fits=False)),
    }
    found, compiled = choose(facts)
    assert found["mesh"] == DATA and compiled == [TENSOR, FSDP, DATA]
    assert found["mesh_because"] == "the fastest that fits, by floor and links"
    assert [r["seconds"] for r in found["tried"]] == [0.5, 3.0, 1.5]


@pytest.mark.parametrize("sampling", ["split", "data"])
def test_what_is_told_of_sampling_is_the_plan_s(sampling):
    facts = {mesh: (1.0, 10, account(1.0, 3.0, 50)) for mesh in (FSDP, DATA)}
    found, _ = choose(facts)
    assert all(set(record["mesh"]) == {"data", "fsdp", "tensor"} for record in found["tried"])
    text = meshes.lines({**found, "mesh": {"data": 1, "fsdp": 8}, "sampling": sampling})
    assert ("--config.mesh.sampling=data" in text[0]) == (sampling == "data")
    assert not any("sampling" in line for line in text[1:])


def test_what_cannot_be_faster_or_cannot_fit_is_not_compiled():
    facts = {
        FSDP: (1.0, 10, account(1.0, 0.2, 50)),
        DATA: (1.0, 40, account(1.0, 0.2, 90)),
        TENSOR: (0.5, 101, account(0.5, 0.1, 120)),
    }
    found, compiled = choose(facts)
    assert found["mesh"] == FSDP == compiled[0] and len(compiled) == 1
    causes = [record.get("cause", "") for record in found["tried"]]
    assert "weights and moments" in causes[0] and causes[1] == "" and "faster" in causes[2]


def test_where_none_fits_the_least_memory_counts():
    facts = {
        FSDP: (1.0, 10, account(1.0, None, 150, fits=False)),
        DATA: (1.0, 400, account(1.0, 0.2, 900, fits=False)),
        TENSOR: (2.0, 20, account(2.0, 0.1, 120, fits=False)),
    }
    found, compiled = choose(facts)
    assert found["mesh"] == TENSOR and "none fits" in found["mesh_because"]
    assert compiled == [FSDP, TENSOR]
    assert found["tried"][0]["seconds"] is None and "refused" in found["tried"][0]["cause"]
    # Where weights alone are too much everywhere, the least of them is compiled all the same.
    found, compiled = choose({m: (f, k + 200, p) for m, (f, k, p) in facts.items()})
    assert found["mesh"] == FSDP and compiled == [FSDP]


def test_a_plan_prints_what_it_chose_and_why(monkeypatch):
    """All but the compiler is real; here data parallelism sends least."""

    def step(stage, model, mesh, parts, where, judges):
        sent = {"all-reduce": hlo.Traffic(1, 10**12 if mesh.shape["fsdp"] > 1 else 10**6)}
        return program.Program({"parameters": 1}, 1, topology.usable(where), sent, unknown="a fake")

    monkeypatch.setattr(topology, "devices", lambda where: jax.devices())
    monkeypatch.setattr(program, "step", step)
    found = plan.plan(load_config(SFT), "h100:8", auto=True, log=lambda text: None)
    assert found["mesh"] == {"data": 4, "fsdp": 1, "tensor": 2}
    lines = meshes.lines(found)
    assert "the fastest that fits" in lines[0] and "--config.mesh.data=4" in lines[0]
    assert len(lines) == 1 + len(found["tried"]) == 6
    assert "cannot be faster" in lines[-1] and "fits" in lines[1]
    assert meshes.lines({"mesh": found["mesh"]}) == []


def test_another_mesh_is_one_line(root, capsys):
    argv = ["plan", f"--config={root / SFT}", "--topology=h100:8", "--mesh=8x1"]
    assert cli.main(argv) == 2
    line = capsys.readouterr().err.strip()
    assert "--mesh: got '8x1'; allowed: auto" in line and "\n" not in line
