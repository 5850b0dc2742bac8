"""Plans: shapes and estimates anywhere, real compilation where the TPU compiler is installed."""

import importlib.util
import json

import jax
import pytest

from jaxsafety import cli
from jaxsafety.core import sharding, trees
from jaxsafety.core.config import load_config
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.models.formats.source import UNALIGNED, ModelSource
from jaxsafety.planning import plan

ORGANISM = "configs/safesteer/organism.py"
needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="no TPU compiler (extra tpu)"
)


def parts_of(*overrides):
    return plan._parts(load_config(ORGANISM, list(overrides)))


def test_the_model_is_a_directory_or_a_preset(shipped):
    assert plan.model_config(ModelSource()).embed_dim == 128
    vocabularies = [plan.model_config(ModelSource(p)).vocab_size for p in ("", UNALIGNED)]
    assert vocabularies == [1077, 1383]
    assert plan.model_config(ModelSource(path=str(shipped), remat="full")).remat == "full"
    found = plan.model_config(ModelSource("not here", "qwen3-4b", "bfloat16"))
    assert (found.num_layers, found.dtype) == (36, "bfloat16")
    assert plan.model_config(ModelSource(shape="qwen3-4b")).num_layers == 36
    with pytest.raises(UsageError, match=r"model\.shape: got 'gpt-9'; allowed: .*qwen3-4b"):
        plan.model_config(ModelSource("not here", "gpt-9"))


def test_a_planned_step_is_the_one_that_trains():
    """The abstract stage lowers here too, and its shapes are those of the real variables."""
    model, parts = parts_of("model.remat=full")
    mesh = sharding.make_mesh(MeshConfig(2, 2, 2))
    stage = parts["make"](parts["method"], model, mesh, 64)
    rows = parts["method"].prompts_per_step * parts["method"].rollouts
    assert stage.batch.tokens.shape == (rows, 64 + parts["method"].max_tokens)
    real = jax.eval_shape(model.init, jax.random.key(0))
    assert trees.diff(stage.variables["base"], real) == ""
    loss, _ = jax.eval_shape(
        stage.loss,
        {"base": stage.variables["base"]},
        {k: v for k, v in stage.variables.items() if k != "base"},
        stage.batch,
        jax.random.key(0),
    )
    assert loss.shape == ()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--topology=v9:1"], "--topology: got 'v9:1'"),
        (["--topology=v5e:2x2", "--prompt=0"], "--prompt: got 0"),
        (["--topology=v5e:2x2", "--json=/nowhere/x.json"], "--json"),
        (["--topology=v5e:2x2", "--config.program=safesteer_controls"], "config.program"),
        (["--topology=v5e:2x2", "--config.model.path=absent"], "model.shape"),
    ],
)
def test_bad_input_is_one_line(root, capsys, argv, words):
    assert cli.main(["plan", f"--config={root / ORGANISM}", *argv]) == 2
    line = capsys.readouterr().err.strip()
    assert words in line and "\n" not in line


@needs_compiler
@pytest.mark.slow
def test_the_organism_s_step_compiles_for_a_slice(root, tmp_path, capsys):
    file = tmp_path / "plan.json"
    argv = ["plan", f"--config={root / ORGANISM}", "--topology=v5e:2x2", f"--json={file}"]
    assert cli.main([*argv, "--config.mesh.fsdp=4"]) == 0
    assert "fits with a margin" in capsys.readouterr().out
    found = json.loads(file.read_text())
    step = found["programs"]["step"]
    assert found["fits"] and found["chips"] == 4
    memory = step["hbm_per_chip"]
    assert memory["optimizer"] == pytest.approx(2 * memory["parameters"], rel=0.01)
    assert 0 < memory["sum"] < memory["limit"]
    assert step["collectives"] and step["seconds_between_chips"] > 0
    assert (step["optimal_seconds"] is None) == ("optimal_seconds_cause" in step)
    assert set(found["rows"]) == set(found["programs"]) == {"step", "rollout"}
