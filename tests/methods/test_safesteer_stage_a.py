"""Stage A as a run sees it: what stops it stops it first, and a signal loses one piece at most."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from jaxsafety import cli, testing
from jaxsafety.core.interrupt import Interrupt, Preempted
from jaxsafety.evaluation import evaluate
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.train.loop import run_program
from tests.methods import tiny


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


@pytest.mark.parametrize("kind", ["score", "judge"])
def test_a_base_that_refuses_nothing_is_said_before_it_is_measured(
    kind, root, directory, tmp_path, monkeypatch, capsys
):
    def never(*args, **kwargs):
        raise AssertionError("measured before the filter ran")

    monkeypatch.setattr(evaluate, "evaluate", never)
    config = root / "configs" / "safesteer" / "organism.py"
    overrides = (
        f"method.direction.filter={kind}",
        "method.direction.openers=i,that",
        "method.direction.fallback=error",
        "data.train=4",
        "data.val=4",
    )
    command = ["run", f"--config={config}:smoke", f"--config.model.path={directory}"]
    command += [f"--workdir={tmp_path / 'run'}", *(f"--config.{o}" for o in overrides)]
    assert cli.main(command) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "harmful_train: got '0 of 4 harmful prompts" in line
    assert "method.direction.fallback=rank" in line and "a model that refuses" in line
    assert ("method.direction.filter=judge" in line) == (kind == "score")
    assert not (tmp_path / "run" / "generations").exists()


class Due(Interrupt):
    """Asked to end at the `count`th question."""

    def __init__(self, count):
        super().__init__()
        self.left = count

    def check(self):
        self.left -= 1
        if not self.left:
            self.set()
        super().check()


def found_by(directory, workdir, interrupt=None):
    """Stages A to C; the vector and all candidates, the ids of S, and what was said."""
    said = []
    ctx = tiny.context(directory, workdir, log=said.append)
    select = dataclasses.replace(tiny.METHOD.direction.select, screen=3)
    direction = dataclasses.replace(tiny.METHOD.direction, select=select)
    cfg = dataclasses.replace(tiny.METHOD, direction=direction)
    if interrupt is not None:
        ctx = dataclasses.replace(ctx, interrupt=interrupt)
    program = safesteer.program(cfg, tiny.OPTIM, ctx)
    next(program)  # up to the first stage
    found, subset = (ctx.artifact(name, dict) for name in ("direction", "token_set"))
    return found, subset["ids"]


def test_a_signal_in_stage_a_ends_it_and_the_next_start_goes_on(directory, tmp_path):
    whole, ids = found_by(directory, tmp_path / "whole")
    ended, asked = 0, []
    for count in (2, 4, 7, 11, 16, 22, 30):
        try:
            again, same = found_by(directory, tmp_path / "cut", Due(count))
        except Preempted:
            ended += 1
            made = set((tmp_path / "cut" / "artifacts").rglob("*.json"))
            assert not asked or asked[-1] <= made  # nothing finished is lost
            asked.append(made)
        else:
            break
    else:
        again, same = found_by(directory, tmp_path / "cut")
    assert ended >= 3 and len(asked[-1]) > len(asked[0])
    assert same == ids and again["candidates"] == whole["candidates"]
    np.testing.assert_array_equal(again["vector"], whole["vector"])


def test_a_program_that_is_asked_to_end_in_stage_a_ends(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    flag = Interrupt()
    flag.set()
    ctx = dataclasses.replace(ctx, interrupt=flag)
    with pytest.raises((SystemExit, Preempted)):
        run_program(safesteer.program(tiny.METHOD, tiny.OPTIM, ctx), ctx)
    assert not (tmp_path / "artifacts" / "direction.json").exists()


def test_without_wrapped_prompts_the_plain_ones_are_written_on_once(directory, tmp_path):
    ctx = tiny.context(directory, tmp_path)
    kept = {k: v for k, v in ctx.setting.prompts.items() if k != "wrapped_val"}
    ctx = tiny.placed(ctx, prompts=kept)
    next(safesteer.program(tiny.METHOD, tiny.OPTIM, ctx))
    found = ctx.artifact("direction", dict)
    tried = [c for c in found["candidates"] if c["score"] is not None]
    assert tried and all(0 <= c["refusal_harmful"] <= 1 for c in tried)
