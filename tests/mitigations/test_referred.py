"""The start's log-probabilities of a stage's rows: made once, attached, and what a step then costs.

`Constrained` is who reads them.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.interrupt import Interrupt
from jaxsafety.core.sharding import make_mesh
from jaxsafety.losses.logprobs import token_logp
from jaxsafety.mitigations import referred
from jaxsafety.mitigations.anchor import Anchor
from jaxsafety.mitigations.chain import chain
from jaxsafety.mitigations.constrained import Constrained
from jaxsafety.mitigations.means import factor
from jaxsafety.mitigations.vaccine import Vaccine
from jaxsafety.protocols import Mitigation, Planned, Stage, TrainConfig, unchanged
from jaxsafety.train.assemble import assemble, lower
from jaxsafety.train.begin import begun, rounded
from jaxsafety.train.loop import run_program
from jaxsafety.train.metrics import read_metrics
from tests.mitigations import chats, guarded

MESH = make_mesh(devices=jax.devices()[:1])


class Other:
    """A stage's batches: other rows of the stream, and perhaps the end of the process at a step."""

    offline = True

    def __init__(self, first=0, kill=None):
        self.rows, self.first, self.kill = guarded.known(), first, kill

    def __call__(self, variables, step):
        if variables and step == self.kill:  # not when rows are read before the first step
            raise chats.Killed
        return self.rows(variables, self.first + step)


def made():
    return Constrained().mitigation(guarded.means())


def ready(tmp_path, stage, train=guarded.TRAIN, **given):
    ctx = dataclasses.replace(guarded.context(tmp_path), **given)
    return begun(stage, ctx, MESH, train)


@pytest.mark.parametrize("rank", [0, 2])
def test_rows_get_the_start_s_log_probabilities_each_computed_once(tmp_path, monkeypatch, rank):
    model, base = guarded.tiny()
    calls, scorer = [], referred.scorer

    def counted(*args):
        return lambda base, rows: calls.append(rows.tokens.shape) or scorer(*args)(base, rows)

    monkeypatch.setattr(referred, "scorer", counted)
    stage = guarded.stage(made(), rank, steps=6, batches=guarded.known(), accum=2)
    found = ready(tmp_path, stage)
    assert calls == [(4, guarded.WIDTH)] * 3  # 12 rows in groups of a micro-batch, in 4 epochs
    assert not found.mitigation.extra and stage.mitigation.extra  # no copy of the start
    assert found._replace(batches=0, mitigation=0) == stage._replace(batches=0, mitigation=0)
    for step in range(6):
        given, rows = stage.batches({}, step), found.batches({}, step)
        assert trees.diff(dataclasses.replace(rows, reference=None), given) == ""
        hidden = model.apply(base, given.tokens, given.positions, segments=given.segments).hidden
        own = jnp.where(given.weight > 0, token_logp(hidden, model.head(base), given.tokens), 0)
        np.testing.assert_allclose(rows.reference, own, atol=1e-5)
    with pytest.raises(KeyError):  # a row that no step has
        referred.Attached(guarded.offline, found.batches.table)({}, 0)


def test_nothing_is_attached_where_rows_may_be_others(tmp_path):
    known, anchor = guarded.known(), Anchor(0.5).mitigation()
    vaccine = Vaccine().mitigation(guarded.means())
    for hooks, batches, attached in (
        (made(), known, True),
        (chain(anchor, made()), known, True),
        (chain(made(), Mitigation(after=dict)), known, True),
        (made(), guarded.offline, False),  # who may sample says nothing
        (chain(made(), anchor), known, False),  # it could draw rows beside the batch's
        (chain(made(), vaccine._replace(loss=Mitigation().loss)), known, False),
    ):
        stage = guarded.stage(hooks, 2, steps=1, batches=batches)
        found = ready(tmp_path, stage)
        assert (
            (found.batches is not batches)
            == attached
            == ("constrained" not in found.mitigation.extra)
        )
        assert attached or found is stage
    plain = guarded.stage(Mitigation(), 0)
    assert plain.mitigation.begin is unchanged and ready(tmp_path, plain) is plain

    def pairs(variables, step):
        return {}

    pairs.offline = True
    with pytest.raises(UsageError, match=r"^mitigations\.constrained: got 'batches of type dict'"):
        ready(tmp_path, guarded.stage(made(), 2, batches=pairs))


def test_a_step_costs_plain_fine_tuning_s(tmp_path):
    """Passes through the model, and the compiled FLOPs: so that the cost cannot come back."""
    hooks = made()
    stage = ready(tmp_path, guarded.stage(hooks, 0, steps=1, batches=guarded.known()))
    known = stage.batches({}, 0)
    count, ratio = guarded.passes(hooks, known)
    assert count == 1 and ratio < 1.15 * factor(hooks.budget) == 1.15
    counts = [
        guarded.passes(hooks, batch, wrapped)[0]
        for batch, wrapped in (
            (known, True),
            (dataclasses.replace(known, reference=None), False),
            (dataclasses.replace(known, reference=None), True),
        )
    ]
    assert counts == [2, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("accum", [1, 2])
def test_training_is_that_with_a_frozen_pass_in_every_step(tmp_path, rank, accum):
    found = []
    for name, batches in {
        "known": guarded.known(),
        "sampled": lambda *a: guarded.known()(*a),
    }.items():
        stage = guarded.stage(made(), rank, accum=accum, batches=batches)
        found.append(guarded.run(tmp_path / name, stage))
    (first, rows), (second, others) = found
    assert rows[0]["constrained"] == pytest.approx(1, rel=1e-6)
    assert abs(rows[-1]["constrained"] - 1) > 1e-2
    for a, b in zip(rows, others, strict=True):
        for name in ("loss", "nll", "constrained", "grad_norm"):
            np.testing.assert_allclose(a[name], b[name], rtol=2e-5)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_it_resumes_to_the_same_bits_and_equal_stages_compile_once(tmp_path, monkeypatch, rank):
    compiled, compile_ = [], jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered, "compile", lambda self, *a: compiled.append(1) or compile_(self, *a)
    )

    def program(kill=(None, None)):
        final: Any = None
        for index in range(2):  # the second begins where the first ended, and reads it if resumed
            batches = Other(10 * index, kill[1] if kill[0] == index else None)
            stage = guarded.stage(made(), rank, name=f"s{index}", batches=batches, marks=(2,))
            final = yield stage if final is None else stage._replace(start=None)
        return final

    def run(workdir, kill=(None, None)):
        return run_program(program(kill), guarded.context(workdir), guarded.TRAIN)

    whole = run(tmp_path / "whole")
    assert len(compiled) == 1
    for kill in ((0, 3), (1, 3)):
        with pytest.raises(chats.Killed):
            run(tmp_path / "run", kill)
    for _ in range(2):  # the second time from what is finished
        assert trees.diff(run(tmp_path / "run"), whole) == ""
    told = [
        [(row["step"], row["loss"], row["constrained"]) for row in read_metrics(tmp_path / name)]
        for name in ("run", "whole")
    ]
    assert told[0] == told[1] and len(told[0]) == 8


@pytest.mark.slow
def test_it_ends_between_groups_where_it_is_asked_to(tmp_path, monkeypatch):
    """Before the first step and when resumed; what comes then is what an unbroken run has."""
    batches, said = Other(), []
    stage = guarded.stage(made(), 2, batches=batches)
    whole, _ = guarded.run(tmp_path / "whole", stage)

    def program(kill=None):
        batches.kill = kill
        return (yield stage)

    def run(flag):
        ctx = dataclasses.replace(
            guarded.context(tmp_path / "run"), interrupt=flag, log=said.append
        )
        return partial(run_program, ctx=ctx, train=guarded.TRAIN)

    def asked():
        flag = Interrupt()
        flag.set()
        return flag

    with pytest.raises(SystemExit) as ended:
        run(asked())(program())
    assert ended.value.code == 0 and "goes on with the first step of s" in said[-1]
    with pytest.raises(chats.Killed):
        run(Interrupt())(program(3))
    with pytest.raises(SystemExit):
        run(asked())(program())
    assert "goes on from step 3 of s" in said[-1]
    flag = Interrupt()
    assert trees.diff(run(flag)(program()), whole) == "" and flag.doing == "what it is doing"


@pytest.mark.slow
def test_masters_in_bfloat16_begin_at_a_weight_of_one(tmp_path):
    train = TrainConfig(progress=False, master="bfloat16")
    stage = guarded.stage(made(), 0, batches=guarded.known())
    _, rows = guarded.run(tmp_path, stage, train)
    assert rows[0]["constrained"] == pytest.approx(1, rel=1e-6)
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2, jnp.int32), "c": jnp.zeros(2, jnp.bfloat16)}
    kinds = [str(x.dtype) for x in jax.tree.leaves(rounded(params, "bfloat16"))]
    assert kinds == ["bfloat16", "int32", "bfloat16"]
    assert rounded(params, "float32")["c"] is params["c"]


def test_a_plan_falls_back_to_the_frozen_pass():
    """As `planning.plan` lowers it: shapes, and the mitigation as it is built."""
    every, trainable = guarded.variables(0)
    shape = partial(jax.tree.map, lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    stage = guarded.stage(made(), 0)
    rows = shape(guarded.offline(None, 0))
    planned = Planned("s", stage.loss, trainable, shape(every), rows, 2, mitigation=made())
    whole = Stage(*planned[:3], lambda *_: rows, 2, start=planned.variables)
    parts = assemble(whole._replace(mitigation=planned.mitigation), None, MESH, guarded.TRAIN)
    _, frozen = trees.partition(planned.variables, trainable)

    def placed(tree, places):
        return jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, places
        )

    spots = jax.tree.map(lambda _: parts.shardings.state.step, rows)
    state = placed(parts.abstract, parts.shardings.state)
    text = lower(parts, state, placed(frozen, parts.shardings.frozen), placed(rows, spots))
    assert "start" in parts.abstract.extra["constrained"] and text.as_text()
