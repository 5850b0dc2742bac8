"""`chain` is associative, `Mitigation()` is neutral, and the order is from the inside out."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError
from jaxsafety.mitigations.anchor import Anchor
from jaxsafety.mitigations.chain import chain
from jaxsafety.mitigations.ema import Ema
from jaxsafety.protocols import Extra, Mitigation, Stage, TrainConfig
from jaxsafety.train.loop import run_program, run_stage
from jaxsafety.train.metrics import read_metrics
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=2, progress=False)
STAGE = Stage("s", toy.noisy_loss, ("base/mlp",), toy.offline, 3, toy.OPTIM)


@dataclasses.dataclass(frozen=True)
class Affine:
    """x -> a x + b: does not commute. As a `loss` hook it is applied to what is passed."""

    a: int
    b: int

    def __call__(self, x, *share):
        return self.a * x + self.b


HOOKS = ("loss", "grad", "update", "begin", "after", "serve")
NUMBERS = st.integers(-3, 3)


@st.composite
def mitigations(draw, names):
    """A mitigation with some hooks; what it carries is of `names`."""
    hooks = {h: Affine(draw(NUMBERS), draw(NUMBERS)) for h in HOOKS if draw(st.booleans())}
    extra = {name: Extra(abs, abs) for name in names if draw(st.booleans())}
    budget = draw(st.dictionaries(st.sampled_from(("copies", "gradients")), NUMBERS))
    return Mitigation(**hooks, extra=extra, budget=budget)


@settings(deadline=None)
@given(mitigations("ab"), mitigations("cd"), mitigations("ef"))
def test_chains_are_associative_and_the_identity_is_neutral(a, b, c):
    whole = chain(a, b, c)
    assert chain(chain(a, b), c) == whole == chain(a, chain(b, c))
    assert chain(Mitigation(), a) == a == chain(a, Mitigation()) == chain(a)
    for hook in HOOKS:  # from the inside out
        rest = {"loss": (0.5,), "begin": (None, None)}.get(hook, ())
        parts = [getattr(m, hook) for m in (a, b, c)]
        expected = functools.reduce(lambda x, part: part(x, *rest), parts, 7)
        assert getattr(whole, hook)(7, *rest) == expected
        if all(part == getattr(Mitigation(), hook) for part in parts):
            assert getattr(whole, hook) is getattr(Mitigation(), hook)
    assert whole.extra == {**a.extra, **b.extra, **c.extra}
    assert all(whole.budget[k] == sum(m.budget.get(k, 0) for m in (a, b, c)) for k in whole.budget)


def test_no_mitigation_is_the_identity_and_one_of_a_kind_is_enough():
    assert chain() == Mitigation()
    with pytest.raises(UsageError, match="two that carry 'ema'"):
        chain(Ema().mitigation(), Anchor().mitigation(), Ema(0.5).mitigation())


def doubled(compute_of):
    """A `grad` hook: twice the gradient."""

    def build(loss):
        compute = compute_of(loss)

        def gradients(*args):
            value, grads = compute(*args)
            return value, jax.tree.map(lambda g: 2 * g, grads)

        return gradients

    return build


def masked(tx):
    """An `update` hook: `up` stays as it is."""

    def none(updates, state, params=None):
        zero = trees.map_named(lambda name, u: 0 * u if "/up/" in name else u, updates)
        return zero, state

    return optax.chain(tx, optax.GradientTransformation(lambda params: optax.EmptyState(), none))


def halved(variables):
    """An `after` hook: half way back to nothing."""
    return jax.tree.map(lambda x: x / 2, variables)


def test_every_hook_reaches_the_stage_and_a_resumed_one(tmp_path):
    plain = run_stage(STAGE, toy.variables(), toy.context(tmp_path / "plain"), TRAIN)
    twice = STAGE._replace(mitigation=Mitigation(grad=doubled))
    run_stage(twice, toy.variables(), toy.context(tmp_path / "twice"), TRAIN)
    norms = [read_metrics(tmp_path / d)[0]["grad_norm"] for d in ("plain", "twice")]
    assert norms[1] == pytest.approx(2 * norms[0], rel=1e-6)
    some = STAGE._replace(mitigation=Mitigation(update=masked))
    found = run_stage(some, toy.variables(), toy.context(tmp_path / "some"), TRAIN)
    start = toy.variables()["base"]["mlp"]
    assert trees.diff(found["base"]["mlp"]["up"], start["up"]) == ""
    assert trees.diff(found["base"]["mlp"]["down"], start["down"]) != ""
    half = STAGE._replace(mitigation=Mitigation(after=halved))
    for _ in range(2):  # the second time from the checkpoint
        ended = run_stage(half, toy.variables(), toy.context(tmp_path / "half"), TRAIN)
        assert trees.diff(dict(ended), halved(plain)) == ""


def test_what_changes_the_structure_is_refused(tmp_path):
    def cut(variables):
        return {"base": variables["base"]}

    stage = STAGE._replace(mitigation=Mitigation(after=cut))
    with pytest.raises(UsageError, match=r"^stage\.mitigation\.after: got '- teacher/"):
        run_stage(stage, toy.variables(), toy.context(tmp_path), TRAIN)
    carried = Extra(
        lambda params: (),
        lambda tree, params, step: tree,
        lambda tree, params: jax.tree.map(jnp.int32, params),
    )
    stage = STAGE._replace(mitigation=Mitigation(extra={"x": carried}))
    with pytest.raises(UsageError, match=r"^stage\.mitigation\.extra\.x\.last: got "):
        run_stage(stage, toy.variables(), toy.context(tmp_path / "last"), TRAIN)


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("kill", [(0, 3), (1, 2), (2, 0)])
def test_a_chain_resumes_to_the_same_bits_and_compiles_once(tmp_path, monkeypatch, kill):
    compiled, compile_ = [], jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered, "compile", lambda self, *a: compiled.append(1) or compile_(self, *a)
    )

    def program(kill=None):
        final = None
        for index in range(3):

            def batches(variables, step, index=index):
                if kill == (index, step):
                    raise Killed
                return toy.batch(10 * index + step)

            made = chain(Anchor(0.5).mitigation(), Ema(0.9).mitigation(), Mitigation(after=halved))
            final = yield STAGE._replace(
                name=f"s{index}", batches=batches, steps=5, mitigation=made, marks=(3,)
            )
        return final

    whole = run_program(program(), toy.context(tmp_path / "whole"), TRAIN)
    assert len(compiled) == 1
    with pytest.raises(Killed):
        run_program(program(kill), toy.context(tmp_path / "run"), TRAIN)
    for _ in range(2):
        final = run_program(program(), toy.context(tmp_path / "run"), TRAIN)
        assert trees.diff(final, whole) == ""
    assert all(np.isfinite(row["anchor"]) for row in read_metrics(tmp_path / "run"))
