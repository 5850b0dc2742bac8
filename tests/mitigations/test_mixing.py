"""Mixing: both formulas, draws, accumulation, what it costs, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.mitigations.anchor import Anchor
from jaxsafety.mitigations.chain import chain
from jaxsafety.mitigations.drawn import Carried, salted
from jaxsafety.mitigations.mixing import Mixing
from jaxsafety.protocols import EXTRA, Mitigation, OptimConfig
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.train.metrics import read_metrics
from tests.mitigations import chats
from tests.train import toy

SAFE = chats.wide(12, 1)


def prepared(made, params):
    """What a loss is called with: everything is trained."""
    holes = jax.tree.map(lambda _: None, toy.variables())
    return {**holes, EXTRA: {name: each.init(params) for name, each in made.extra.items()}}


@pytest.mark.parametrize(
    ("settings", "own", "other", "count"),
    [
        (Mixing(weight=0.7), 1.0, 0.7, 8),
        (Mixing("count", count=4, task=12), 0.75, 0.25, 2),
    ],
)
def test_the_loss_and_its_gradient_are_the_dense_formula_s(settings, own, other, count):
    params, batch = toy.variables(), chats.offline(None, 0)
    made = settings.mitigation(chats.means(safe=SAFE))
    frozen, seen = prepared(made, params), []

    def spied(params, frozen, batch, key):
        seen.append(batch)
        return chats.loss(params, frozen, batch, key)

    @jax.jit
    def both(params, key):
        hook = made.loss(spied, 1.0)
        hook(params, frozen, batch, key)
        drawn = seen[1]

        def dense(params):
            parts = [chats.likelihood(params["base"], x) for x in (batch, drawn)]
            return own * parts[0] + other * parts[1], {"rows": 1.0, "mixing": parts[1]}

        found = jax.value_and_grad(hook, has_aux=True)(params, frozen, batch, key)
        return drawn, found, jax.value_and_grad(dense, has_aux=True)(params)

    drawn, found, expected = both(params, jax.random.key(5))
    assert seen[0] is batch and drawn.tokens.shape == (count, 10)
    np.testing.assert_allclose(drawn.weight.sum(), 1, rtol=1e-6)
    there = {row.tobytes() for row in SAFE.tokens}
    assert all(np.asarray(row).tobytes() in there for row in drawn.tokens)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_by_count_the_loss_is_that_of_a_shuffled_set_in_expectation():
    """Over all draws of rows: those of the mixture, and those of task and safe dialogues joined."""
    base, task = toy.variables()["base"], chats.dialogues(9, 2, width=10)
    settings = Mixing("count", count=3, task=9)
    carried = Carried(chats.means(safe=SAFE), ("safe",), 3)(None)["safe"]

    @jax.jit
    def by_row(rows):
        alone = jax.tree.map(lambda x: x[:, None], rows)
        return jax.vmap(lambda row: chats.likelihood(base, row))(alone)

    joined = np.concatenate([by_row(task), by_row(carried)]).mean()
    p = settings.share_of_rows
    mixed = (1 - p) * by_row(task).mean() + p * by_row(carried).mean()
    assert p == 0.25
    np.testing.assert_allclose(mixed, joined, rtol=1e-6)


def test_a_smaller_count_is_part_of_a_larger_one():
    given = chats.means(safe=SAFE)
    few, more = (
        {row.tobytes() for row in np.asarray(Carried(given, ("safe",), n)(None)["safe"].tokens)}
        for n in (3, 7)
    )
    assert len(few) == 3 and len(more) == 7 and few < more


def test_draws_are_of_step_seed_and_mitigation():
    keys = [
        salted(jax.random.key(step), {"seed": jnp.uint32(seed)}, name)
        for step, seed, name in ((0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"), (0, 0, "a"))
    ]
    drawn = [tuple(jax.random.key_data(key).tolist()) for key in keys]
    assert len(set(drawn)) == 4 and drawn[0] == drawn[4]
    given = [Carried(chats.means(safe=SAFE, seed=s), ("safe",), 6)(None) for s in (1, 2, 1)]
    assert [int(each["seed"]) for each in given] == [1, 2, 1]
    assert trees.diff(given[0], given[2]) == "" != trees.diff(given[0]["safe"], given[1]["safe"])


def test_without_weight_it_is_no_mitigation_and_a_little_moves_a_little(tmp_path):
    given = chats.means(safe=SAFE)
    assert Mixing(weight=0.0).mitigation(given) == Mitigation()
    descent = OptimConfig(name="sgd", lr=0.05, b1=0.0, clip=0.0)  # AdamW would scale it up again
    plain, *moved = (
        chats.run(
            tmp_path / f"{weight}",
            chats.stage(Mixing(weight=weight).mitigation(given), optim=descent),
        )
        for weight in (0.0, 1e-3, 1.0)
    )
    gaps = [
        float(trees.norm(jax.tree.map(jnp.subtract, each["base"], plain["base"]))) for each in moved
    ]
    assert 0 < 100 * gaps[0] < gaps[1]
    assert all(row["mixing"] > 0 for row in read_metrics(tmp_path / "1.0"))


def test_micro_batches_draw_their_part_and_add_up(tmp_path):
    one = jax.tree.map(lambda x: jnp.asarray(x[:1]), SAFE)  # whatever is drawn is the same
    found = []
    for accum in (1, 4):
        made = Mixing(weight=0.5).mitigation(chats.means(safe=one))
        trained = chats.stage(made, accum=accum, loss=chats.loss)
        final = chats.run(tmp_path / f"{accum}", trained)
        found.append((final, [row["mixing"] for row in read_metrics(tmp_path / f"{accum}")]))
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4)
    for a, b in zip(*(jax.tree.leaves(final) for final, _ in found), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    odd = Mixing(rows=6).mitigation(chats.means(safe=SAFE))
    with pytest.raises(UsageError, match=r"^mitigations\.mixing\.rows: got 6.*optim\.accum, 4"):
        chats.run(tmp_path / "odd", chats.stage(odd, accum=4))


@pytest.mark.slow  # what is carried is as Lisa's, whose test is not
def test_it_resumes_to_the_same_bits_and_compiles_once(tmp_path, monkeypatch):
    given = chats.means(safe=SAFE)
    chats.check_resumed(tmp_path, lambda: Mixing(weight=0.5).mitigation(given), monkeypatch)


def test_before_an_anchor_in_the_chain_that_counts_once():
    params, given = toy.variables(), chats.means(safe=SAFE)
    moved = jax.tree.map(lambda x: np.asarray(x) + np.float32(0.1), params)
    mixing, anchor = Mixing(weight=1.0).mitigation(given), Anchor(0.5).mitigation()
    both = chain(mixing, anchor)
    frozen = prepared(both, params)
    args = (moved, frozen, chats.offline(None, 0), jax.random.key(0))
    plain, pulled = (jax.jit(m.loss(chats.loss, 1.0))(*args)[0] for m in (mixing, both))
    pull = 0.5 / 2 * sum(0.01 * x.size for x in jax.tree.leaves(params))
    np.testing.assert_allclose(pulled, plain + pull, rtol=1e-5)


def test_budgets_are_declared():
    given = chats.means(safe=SAFE)
    assert Mixing().mitigation(given).budget == {"safe": 12, "gradients": 1.0}
    fewer = Mixing("count", count=4, task=12).mitigation(given)
    assert fewer.budget == {"safe": 4, "gradients": 0.25}


def test_bad_settings_and_batches_are_one_line():
    made = typed(resolve(MITIGATIONS, "mixing"), {"weight": 0.3}, "mitigations.mixing")
    assert made == Mixing(weight=0.3)
    for bad in (
        {"kind": "shuffle"},
        {"weight": -1.0},
        {"weight": float("nan")},
        {"rows": -1},
        {"kind": "count", "count": 0, "task": 9},
    ):
        with pytest.raises(UsageError, match=r"^mitigations\.mixing\."):
            Mixing(**bad)
    with pytest.raises(UsageError, match="got 13; allowed: at most 12 safe dialogues"):
        Mixing("count", count=13, task=9).mitigation(chats.means(safe=SAFE))
    other = Mixing().mitigation(chats.means(safe=SAFE))
    with pytest.raises(UsageError, match=r"^mitigations\.mixing: got 'batches of type dict'"):
        other.loss(chats.loss, 1.0)({}, {}, {"tokens": jnp.zeros((2, 2))}, jax.random.key(0))
