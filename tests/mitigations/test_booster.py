"""Booster: the analytic direction on a quadratic, what it keeps of plain training, and draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.mitigations.booster import HARMFUL as HARMFUL_ROWS
from jaxsafety.mitigations.booster import Booster, stepped
from jaxsafety.mitigations.means import build, factor, missing
from jaxsafety.protocols import EXTRA, OptimConfig
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.train.metrics import read_metrics
from tests.mitigations import chats

KEY = jax.random.key(4)
SAFE, HARMFUL = chats.dialogues(6, 1), chats.wide(9, 2)


def made(alpha=0.1, strength=5.0, rows=0, **given):
    return Booster(alpha, strength, rows).mitigation(
        chats.means(**{"safe": SAFE, "harmful": HARMFUL, **given})
    )


def value_and_grad(loss):
    return jax.value_and_grad(loss, has_aux=True)


def hessian(seed, size=5):
    square = np.random.default_rng(seed).normal(size=(size, size))
    return square @ square.T / size + np.eye(size)


@pytest.mark.parametrize("accum", [1, 4])
def test_on_quadratics_it_is_the_analytic_direction(accum):
    """L_s = (p-a)' A (p-a) / 2 and L_h = (p-b)' B (p-b) / 2, known by the tokens of the rows."""
    hessians = {"safe": hessian(1), "harmful": hessian(2)}
    centres = {name: np.random.default_rng(i).normal(size=5) for i, name in enumerate(hessians)}
    rows = {
        name: jax.tree.map(lambda x, t=t: x if x.dtype == np.float32 else 0 * x + t, SAFE)
        for name, t in (("safe", 1), ("harmful", 2))
    }

    def loss(params, frozen, batch, key):
        del frozen, key
        p = jnp.concatenate([params["x"], params["y"]])
        each = []
        for name, token in (("safe", 1), ("harmful", 2)):
            gap = p - jnp.float32(centres[name])
            quadratic = gap @ jnp.float32(hessians[name]) @ gap / 2
            each.append(quadratic * jnp.sum(batch.weight * (batch.tokens == token)))
        return sum(each), {}

    alpha, strength = 0.3, 2.0
    hooks = made(alpha, strength, safe=rows["safe"], harmful=rows["harmful"])
    p = np.array([0.3, -1.0, 0.7, 0.2, -0.4])
    params = {"x": jnp.float32(p[:2]), "y": jnp.float32(p[2:]), "hole": None}
    frozen = {EXTRA: {name: each.init(params) for name, each in hooks.extra.items()}}
    compute = jax.jit(hooks.grad(value_and_grad)(hooks.loss(loss, 1 / accum)))
    batch = rows["safe"].replace(weight=rows["safe"].weight / 6)
    total, told = np.zeros(5), 0.0
    for index in range(accum):  # micro-batches that weigh 1 together
        part = batch.replace(weight=batch.weight / accum)
        (_, metrics), grads = compute(params, frozen, part, jax.random.fold_in(KEY, index))
        total += np.concatenate([grads["x"], grads["y"]])
        told += np.array([metrics["booster"], metrics["booster/drop"]])
    g1 = hessians["harmful"] @ (p - centres["harmful"])
    away = p - alpha * g1 / np.linalg.norm(g1)
    g2 = hessians["harmful"] @ (away - centres["harmful"])
    analytic = hessians["safe"] @ (p - centres["safe"]) + strength * (g1 - g2)
    np.testing.assert_allclose(total, analytic, rtol=1e-5, atol=1e-5)
    # which is a step along the Hessian, whose length the gradient does not change
    along = alpha * hessians["harmful"] @ g1 / np.linalg.norm(g1)
    np.testing.assert_allclose(g1 - g2, along, rtol=1e-9)
    gaps = [x - centres["harmful"] for x in (p, away)]
    before, after = (gap @ hessians["harmful"] @ gap / 2 for gap in gaps)
    np.testing.assert_allclose(told, [before, before - after], rtol=1e-5, atol=1e-5)


def test_a_step_has_its_length_and_none_without_a_gradient():
    params = {"a": jnp.ones(3), "b": jnp.ones((2, 2), jnp.bfloat16), "hole": None}
    grads = jax.tree.map(lambda x: jnp.full_like(x, 2), params)
    moved = stepped(params, grads, 0.5)
    assert moved["b"].dtype == jnp.bfloat16
    np.testing.assert_allclose(moved["a"], 1 - 0.5 / np.sqrt(7), rtol=1e-6)
    still = stepped(params, jax.tree.map(jnp.zeros_like, params), 0.5)
    assert trees.diff(still, params) == ""


def test_without_strength_training_is_plain_to_the_bit(tmp_path):
    plain = chats.run(tmp_path / "plain", chats.stage())
    none = chats.run(tmp_path / "none", chats.stage(made(strength=0.0)))
    some = chats.run(tmp_path / "some", chats.stage(made()))
    assert trees.diff(none, plain) == "" and trees.diff(some, plain) != ""
    for row in read_metrics(tmp_path / "some"):
        assert row["booster"] > row["booster/drop"] > 0


def test_micro_batches_add_up_to_the_harmful_term_once(tmp_path):
    one = jax.tree.map(lambda x: x[:1], HARMFUL)  # whatever is drawn is the same
    found = []
    for accum in (1, 4):
        trained = chats.stage(made(harmful=one), accum=accum, loss=chats.loss)
        final = chats.run(tmp_path / f"{accum}", trained)
        found.append((final, [row["booster"] for row in read_metrics(tmp_path / f"{accum}")]))
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4)
    for a, b in zip(*(jax.tree.leaves(final) for final, _ in found), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    with pytest.raises(UsageError, match=r"^mitigations\.booster\.rows: got 6.*optim\.accum, 4"):
        chats.run(tmp_path / "odd", chats.stage(made(rows=6), accum=4))


def test_a_harmful_step_lowers_the_harmful_loss_less_than_after_plain_training(tmp_path):
    """Trained by either, then attacked by equal steps: what Booster is for."""
    whole = HARMFUL.replace(weight=HARMFUL.weight / len(HARMFUL.weight))
    descent = OptimConfig(name="sgd", lr=0.02, b1=0.0, clip=0.0, warmup=0.0, schedule="constant")

    @jax.jit
    def fall(base):
        def at(mlp):
            return chats.likelihood({"embed": base["embed"], "mlp": mlp}, whole)

        before, grads = jax.value_and_grad(at)(base["mlp"])
        return before - at(stepped(base["mlp"], grads, 0.5))

    fell = []
    for name, hooks in (("plain", chats.NONE), ("booster", made(0.5))):
        trained = chats.stage(hooks, steps=40, loss=chats.loss, optim=descent)
        fell.append(float(fall(chats.run(tmp_path / name, trained)["base"])))
    assert 0 < fell[1] < 0.6 * fell[0]


def test_it_resumes_to_the_same_bits_and_compiles_once(tmp_path, monkeypatch):
    given = chats.means(safe=SAFE, harmful=HARMFUL)
    chats.check_resumed(tmp_path, lambda: Booster().mitigation(given), monkeypatch)


def test_harmful_rows_are_those_of_the_means_and_the_same_at_both_points():
    def spied(params, frozen, batch, key):
        del params, frozen, key
        return jnp.zeros(()), {"rows": batch.tokens}

    hooks, found = made(rows=4), []
    params = {"p": jnp.ones(())}
    frozen = {EXTRA: {name: each.init(params) for name, each in hooks.extra.items()}}

    def told(loss):
        def compute(*args):
            (value, metrics), grads = value_and_grad(loss)(*args)
            found.append(metrics["rows"])
            return (value, metrics), grads

        return compute

    inner = hooks.loss(spied, 1.0)
    args = (params, frozen, chats.offline(None, 0))
    (_, own), _ = hooks.grad(told)(inner)(*args, KEY)
    assert own["rows"].shape == (8, 8) and found[0] is own["rows"]
    asked = {**frozen, HARMFUL_ROWS: ()}
    drawn = [
        np.asarray(inner(params, asked, args[2], key)[1]["rows"])
        for key in (KEY, KEY, jax.random.key(9))
    ]
    assert drawn[0].shape == (4, 10) and (drawn[0] == drawn[1]).all()
    assert {row.tobytes() for row in drawn[0]} <= {row.tobytes() for row in HARMFUL.tokens}
    assert (drawn[2] != drawn[0]).any()  # another step, other rows


def test_needs_costs_and_bad_settings():
    settings = typed(resolve(MITIGATIONS, "booster"), {"strength": 2.0}, "mitigations.booster")
    assert settings == Booster(strength=2.0)
    assert made().budget == {"safe": 6, "harmful": 9, "gradients": 2}
    assert factor(made().budget) == 3 and factor(made(rows=4).budget) == 2
    assert missing(settings, chats.means(safe=SAFE)) == (
        "no dialogues of harmful requests that are carried out"
    )
    given = chats.means(safe=SAFE, harmful=HARMFUL)
    with pytest.raises(UsageError, match="booster with mixing.*harmful rows"):
        build({"mixing": resolve(MITIGATIONS, "mixing")(), "booster": settings}, given)
    for bad in ({"alpha": 0.0}, {"alpha": float("nan")}, {"strength": -1.0}, {"rows": -1}):
        with pytest.raises(UsageError, match=r"^mitigations\.booster\.[a-z]+: got "):
            Booster(**bad)
