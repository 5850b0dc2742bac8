"""Every configuration runs at smoke size, to the report, and a second run of some repeats it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CONFIGS = sorted(
    p for p in (Path(__file__).parent.parent / "configs").rglob("*.py") if p.name != "common.py"
)


# A minute each, and tests/methods runs their programs at a smaller size.
LONG = ("attacked", "controls", "vanishing", "mistral_7b", "mistral_7b_router", "llama3_2_3b")
LONG = (*LONG, "gemma2_2b")
LONG_NAMES = (
    "anchored/llama3_1_8b",
    "anchored/organism",
    "anchored/smollm2_135m",
    "dpo/organism",
    "safemoe/organism",
    "safemoe/smollm2_135m",
    "safesteer/smollm2_135m",
    "selfmoa/organism",
    "selfmoa/smollm2_135m",
    "selfmoa/weak",
)


def smoke_form(file):
    """The smoke form of a config, without the shape that `plan` alone reads."""
    from jaxsafety.core.config import load_config, plain

    settings = plain(load_config(f"{file}:smoke"))
    settings["model"].pop("shape")
    return settings


# What a second run does is in no method: one of each way of keeping a model.
AGAIN = ("sft/organism", "safesteer/organism", "safemoe/organism", "anchored/organism")


def cases():
    """Every config whose smoke form, but for its optimizer, no other has."""
    seen = set()
    for file in CONFIGS:
        form = json.dumps({**smoke_form(file), "optim": {}}, sort_keys=True, default=str)
        name = f"{file.parent.name}/{file.stem}"
        if form not in seen:
            slow = file.stem in LONG or name in LONG_NAMES
            yield pytest.param(file, id=name, marks=pytest.mark.slow if slow else ())
        seen.add(form)


@pytest.mark.parametrize("file", list(cases()))
def test_config_runs(file, tmp_path, capsys):
    from jaxsafety import cli

    command = ["run", f"--config={file}:smoke", f"--workdir={tmp_path}"]
    assert cli.main(command) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert out.rstrip().endswith("report.html")
    first = (tmp_path / "results.jsonl").read_text()
    records = [json.loads(line) for line in first.splitlines()]
    assert {"base", "student"} <= {record["arm"] for record in records}
    assert all(r["lo"] <= r["value"] <= r["hi"] and r["n"] > 0 for r in records)
    # Weights, or a mixture, or an adapter that is merged into nothing.
    kept = ("student/config.json", "library/router.safetensors", "adapter/adapter_config.json")
    assert 1 <= sum((tmp_path / name).is_file() for name in kept)
    assert (tmp_path / "metrics.jsonl").read_text().strip()
    if f"{file.parent.name}/{file.stem}" not in AGAIN:
        return
    assert cli.main(command) == 0
    assert (tmp_path / "results.jsonl").read_text() == first
    assert cli.main([*command, "--config.seed=91"]) == 2
    assert "workdir" in capsys.readouterr().err


def test_a_config_that_is_not_run_is_one_that_is():
    """But for its optimizer, which is built and takes a step."""
    import jax.numpy as jnp

    from jaxsafety.core.config import load_config, typed
    from jaxsafety.protocols import OptimConfig
    from jaxsafety.train.optim import make_optimizer

    run = [param.values[0] for param in cases()]
    forms = [smoke_form(file) | {"optim": {}} for file in run]
    rest = [file for file in CONFIGS if file not in run]
    assert rest and all(smoke_form(file) | {"optim": {}} in forms for file in rest)
    for file in rest:
        optim = typed(OptimConfig, load_config(f"{file}:smoke").optim, "optim")
        tx = make_optimizer(optim, 2)
        params = {"w": jnp.ones(3)}
        state = tx.init(params)
        for _ in range(2):  # a warm-up begins at 0
            change, state = tx.update({"w": jnp.ones(3)}, state, params)
        assert jnp.all(jnp.abs(change["w"]) > 0) and jnp.all(jnp.isfinite(change["w"]))
