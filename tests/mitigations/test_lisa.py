"""Lisa: step by step against a loop with two anchors, widths, and resumes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import TokenBatch
from jaxsafety.mitigations.lisa import SAFE as SAFE_STATE
from jaxsafety.mitigations.lisa import Alternating, Lisa
from jaxsafety.protocols import EXTRA
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.train import state as states
from jaxsafety.train.metrics import read_metrics
from jaxsafety.train.step import make_train_step
from tests.mitigations import chats
from tests.train import toy

SAFE = chats.dialogues(12, 1)
ONE = jax.tree.map(lambda x: x[:1], SAFE)  # whatever is drawn is the same
RATE = 0.05


def stepped(settings, steps, rate=RATE):
    """States after 0, 1, ... plain descents of all of "base"; `ONE` is the safe dialogue."""
    made = settings.mitigation(chats.means(safe=ONE))
    params = {"base": toy.variables()["base"], "teacher": None}
    tx = optax.sgd(rate)
    step = jax.jit(make_train_step(made.loss(chats.loss, 1.0), tx, extra=made.extra))
    frozen = {"base": jax.tree.map(lambda _: None, params["base"]), "teacher": None}
    begin = jax.jit(lambda params: states.create(params, tx, jax.random.key(0), made.extra))
    found = [begin(params)]
    for index in range(steps):
        found.append(step(found[-1], frozen, chats.offline(None, index))[0])
    return found


def safe_batch():
    """`ONE` as a batch: eight times, 1 together."""
    tokens, positions, segments, weight = (np.repeat(x, 8, axis=0) for x in jax.tree.leaves(ONE))
    return TokenBatch(tokens, positions, segments, weight / 8)


def test_it_is_the_loop_with_two_anchors():
    """The order of the code: a state is left at the beginning of the update after its last."""
    settings = Lisa(rho=2.0, safe=2, task=3, steps=14, free=0.1)
    got = stepped(settings, 14)

    @jax.jit
    def descended(params, other, batch, rho):
        slope = jax.grad(chats.likelihood)(params, batch)
        return jax.tree.map(lambda p, g, o: p - RATE * (g + rho * (p - o)), params, slope, other)

    safe = safe_batch()
    params = toy.variables()["base"]
    anchors, state, clock = {"safe": params, "task": params}, "safe", 0
    for done in range(14):
        if clock == {"safe": 2, "task": 3}[state]:
            anchors[state], clock = params, 0
            state = {"safe": "task", "task": "safe"}[state]
        other = anchors[{"safe": "task", "task": "safe"}[state]]
        batch = safe if state == "safe" else chats.offline(None, done)
        params = descended(params, other, batch, 2.0 if done > 1.4 else 0.0)
        clock += 1
        found = got[done + 1]
        for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    extra = found.extra["lisa"]
    assert int(extra["done"]) == 14 and (int(extra["state"]) == SAFE_STATE) == (state == "safe")


@pytest.mark.parametrize(("safe", "task"), [(False, True), (True, False), (False, False)])
def test_the_rows_of_a_step_promise_what_both_kinds_do(safe, task):
    """Safe rows hold one dialogue each, the task's perhaps several."""
    heard, own = [], replace(safe_batch(), packed=safe)
    carried = {"state": jnp.zeros((), int), "done": jnp.zeros((), int), "safe": own}
    frozen = {EXTRA: {"lisa": {**carried, "seed": jnp.uint32(0)}}}

    def loss(params, frozen, batch, key):
        heard.append(batch.packed)
        return jnp.sum(batch.weight), {}

    hook = Alternating(rho=0.0, safe=True, after=0, length=1)(loss, 1.0)
    jax.eval_shape(hook, {}, frozen, replace(own, packed=task), jax.random.key(0))
    assert heard == [safe or task]


def test_m2_without_rho_and_safe_steps_it_is_sft_to_the_bit(tmp_path):
    plain = chats.run(tmp_path / "plain", chats.stage())
    none = Lisa(rho=0.0, safe=0).mitigation(chats.means(safe=SAFE))
    assert trees.diff(chats.run(tmp_path / "none", chats.stage(none)), plain) == ""
    assert [r["loss"] for r in read_metrics(tmp_path / "none")] == [
        r["loss"] for r in read_metrics(tmp_path / "plain")
    ]


def test_m2_the_stronger_the_pull_the_nearer_the_anchors():
    """Where rate * rho <= 1 no state gets farther than the largest gradient / rho; hence to 0."""

    @jax.jit
    def steepest(params, batch):
        both = [jax.grad(chats.likelihood)(params, x) for x in (safe_batch(), batch)]
        return jnp.maximum(*map(trees.norm, both))

    drifts = []
    for rho in (0.0, 10.0, 100.0):
        found = stepped(Lisa(rho=rho, safe=10, task=10, free=0.0), 40, rate=0.01)
        extra = found[-1].extra["lisa"]
        gap = jax.tree.map(jnp.subtract, extra["safe_end"], extra["task_end"])
        drifts.append(float(trees.norm(gap)))
        pairs = enumerate(found[:-1])
        most = max(float(steepest(at.params["base"], chats.offline(None, i))) for i, at in pairs)
        assert drifts[-1] * rho <= most * 1.001
    assert drifts[0] > drifts[1] > 2 * drifts[2] > 0


def test_m2_in_the_first_tenth_there_is_no_pull(tmp_path):
    rows = {}
    for rho, free in ((0.0, 0.1), (3.0, 0.1), (3.0, 0.0)):
        settings = Lisa(rho=rho, safe=3, task=3, steps=20, free=free)
        made, name = settings.mitigation(chats.means(safe=SAFE)), f"{rho}, {free}"
        chats.run(tmp_path / name, chats.stage(made, steps=6))
        rows[name] = read_metrics(tmp_path / name)
    none, pulled, at_once = rows.values()
    assert [row["lisa"] > 0 for row in pulled] == [False] * 4 + [True] * 2  # new anchor: 0 apart
    assert [row["lisa"] > 0 for row in at_once] == [False, True, True, False, True, True]
    assert not any(row["lisa"] for row in none)
    # to the bit the same until the pull has moved something, in the fifth update
    same = [a["param_norm"] == b["param_norm"] for a, b in zip(none, pulled, strict=True)]
    assert same == [True] * 4 + [False] * 2
    assert [row["lisa/safe"] for row in pulled] == [1.0] * 3 + [0.0] * 3


def test_micro_batches_add_up_to_one_batch(tmp_path):
    found = []
    for accum in (1, 4):
        made = Lisa(rho=1.0, safe=2, task=1, free=0.0).mitigation(chats.means(safe=ONE))
        trained = chats.stage(made, accum=accum, loss=chats.loss)
        final = chats.run(tmp_path / f"{accum}", trained)
        rows = read_metrics(tmp_path / f"{accum}")
        found.append((final, [(r["lisa"], r["lisa/safe"], r["loss"], r["rows"]) for r in rows]))
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-9)
    assert [safe for _, safe, _, _ in found[0][1]] == [1, 1, 0] * 2
    for a, b in zip(*(jax.tree.leaves(final) for final, _ in found), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_both_states_are_one_program_that_resumes_to_the_same_bits(tmp_path, monkeypatch):
    given = chats.means(safe=SAFE)
    settings = Lisa(rho=1.0, safe=1, task=2, steps=5)
    chats.check_resumed(tmp_path, lambda: settings.mitigation(given), monkeypatch)


@pytest.mark.parametrize("width", [6, 8, 11])
def test_a_safe_row_has_the_task_s_width_and_loses_nothing_learnt(width):
    row = chats.chat([3, 4], [5, 6, 7], width)
    row[:3, 5:] = row[:3, 5:] + 1  # tokens of the user's that follow: nothing is learnt of them
    safe = chats.batch_of([row])
    made = Lisa(rho=0.0, safe=1, task=1).mitigation(chats.means(safe=safe))
    seen = []

    def spied(params, frozen, batch, key):
        seen.append(batch)
        return jnp.zeros(()), {}

    params = {"w": jnp.ones(2)}
    frozen = {EXTRA: {"lisa": made.extra["lisa"].init(params)}}
    made.loss(spied, 0.5)(params, frozen, chats.offline(None, 0), jax.random.key(0))
    rows = seen[0]
    assert rows.tokens.shape == (8, 8)
    np.testing.assert_allclose(rows.weight.sum(), 0.5, rtol=1e-6)
    np.testing.assert_array_equal(rows.tokens[:, :5], np.tile([3, 4, 5, 6, 7], (8, 1)))
    np.testing.assert_allclose(rows.weight[:, :5] * 16, np.tile([0, 0, 1, 1, 1], (8, 1)) / 3)
    assert not np.asarray(rows.segments[:, width:]).any()


def test_a_safe_dialogue_that_is_too_long_is_one_line(tmp_path):
    long = chats.batch_of([chats.chat([3], [4] * 9, 12), chats.chat([3], [4], 12)])
    made = Lisa(rho=0.0).mitigation(chats.means(safe=long))
    with pytest.raises(UsageError, match=r"^mitigations\.lisa: got 'a safe dialogue of 10 tok.*8,"):
        chats.run(tmp_path, chats.stage(made))
    assert not (tmp_path / "checkpoints").exists()


def test_settings_budgets_and_what_is_refused():
    made = typed(resolve(MITIGATIONS, "lisa"), {"rho": 0.5, "steps": 9}, "mitigations.lisa")
    assert made == Lisa(0.5, steps=9)
    assert made.mitigation(chats.means(safe=SAFE)).budget == {"safe": 12, "copies": 2}
    alone = Lisa(0.5, safe=0, steps=9).mitigation(chats.means(safe=SAFE))
    assert alone.budget == {"safe": 0, "copies": 2} and "safe" not in alone.extra["lisa"].init({})
    for bad in (
        {"rho": -1.0, "steps": 9},
        {"rho": float("inf"), "steps": 9},
        {"safe": -1, "steps": 9},
        {"safe": 0, "task": 0, "steps": 9},
        {"free": 1.0, "steps": 9},
        {"rho": 1.0},
    ):
        with pytest.raises(UsageError, match=r"^mitigations\.lisa\."):
            Lisa(**bad)
