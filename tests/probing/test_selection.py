"""Both criteria: what they choose, what they reject, and how they say so."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.models import api
from jaxsafety.models.api import LayerInputs, ModelConfig
from jaxsafety.probing import directions, forward, scoring, selection
from jaxsafety.probing.directions import Directions
from jaxsafety.probing.selection import Candidate, SelectConfig
from jaxsafety.protocols import Item

P, L, D = 2, 5, 8
ARDITI = SelectConfig(criterion="arditi")
HARMLESS = [Item(f"h{i}", (), {"kind": "benign"}) for i in range(4)]
WRAPPED = [Item(f"w{i}", (), {"kind": "harmful"}) for i in range(4)]


def raw(seed: int = 0) -> Directions:
    return Directions(np.random.default_rng(seed).normal(size=(P, L, D)), np.ones((P, L)))


def grid(found: Directions, coefficients=(1.0,), **scores) -> list[Candidate]:
    """All candidates, good by default; `scores` maps a field to {(layer, position): value}."""
    made = []
    for p in range(P):
        for layer in range(L):
            for coefficient in coefficients:
                norm = float(np.linalg.norm(found.mean_diff[p, layer]))
                c = Candidate(layer, p - P, coefficient, "all", norm, norm, -1.0, 1.0, 0.01)
                values = {k: v[layer, p - P] for k, v in scores.items() if (layer, p - P) in v}
                made.append(c._replace(**values))
    return made


def test_arditi_takes_the_lowest_bypass_that_passes():
    found = raw()
    candidates = grid(
        found,
        bypass={(4, -1): -9.0, (3, -1): -8.0, (2, -2): -7.0, (1, -1): -6.0, (0, -1): -5.0},
        kl={(2, -2): 0.2},
        steering={(1, -1): -0.1},
        # layer 4 is pruned (>= .8 x 5); layer 3 has a NaN
    )
    candidates = [
        c._replace(steering=float("nan")) if (c.layer, c.position) == (3, -1) else c
        for c in candidates
    ]
    best = selection.select(found, candidates, ARDITI)
    assert (best.layer, best.position, best.coefficient, best.steer) == (0, -1, 1.0, "all")
    np.testing.assert_allclose(best.vector, found.mean_diff[-1, 0], rtol=1e-6)
    assert best.vector.dtype == np.float32
    reasons = {(c.layer, c.position): c.reason for c in best.candidates}
    assert "layer 4" in reasons[4, -1] and "KL 0.200 > 0.1" in reasons[2, -2]
    assert "steering -0.100 < 0" in reasons[1, -1] and "not finite" in reasons[3, -1]
    assert len(best.candidates) == P * L


def test_ties_go_to_smaller_kl_then_earlier_layer():
    found = raw()
    best = selection.select(found, grid(found, kl={(2, -1): 0.001}), ARDITI)
    assert (best.layer, best.position) == (2, -1)
    best = selection.select(found, grid(found), ARDITI)
    assert best.layer == 0


def test_no_passing_candidate_names_the_nearest_and_the_limits():
    found = raw()
    candidates = [c._replace(kl=0.5, steering=-1.0) for c in grid(found)]
    candidates[1] = candidates[1]._replace(steering=2.0)
    with pytest.raises(UsageError) as error:
        selection.select(found, candidates, ARDITI)
    line = str(error.value)
    assert line.startswith("direction:") and "\n" not in line
    assert "layer 1, position -2" in line and "KL 0.500 > 0.1" in line and "KL <= 0.1" in line


def fake(refusals):
    """A teacher whose text is given by (layer, coefficient, steer) -> text per prompt kind."""
    calls = []

    def respond(layers: LayerInputs, steer, items):
        add = np.asarray(layers.add)
        layer = int(np.flatnonzero(np.abs(add).sum(axis=1))[0])
        coefficient = float(np.linalg.norm(add[layer]))
        calls.append((layer, steer))
        return [refusals(layer, coefficient, steer, i.meta["kind"]) for i in items]

    def judge(exchanges):
        return [
            {"refusal": "no" in e.response, "coherent": "loop" not in e.response} for e in exchanges
        ]

    return respond, judge, calls


def unit() -> Directions:
    found = raw()
    scale = np.linalg.norm(found.mean_diff, axis=-1, keepdims=True)
    return Directions(found.mean_diff / scale, found.hidden_norm)


def generation(refusals, cfg=None, candidates=None, found=None):
    found = found or unit()
    respond, judge, calls = fake(refusals)
    cfg = cfg or SelectConfig(coefficients=(1.0, 2.0))
    candidates = candidates or grid(found, cfg.coefficients)
    best = selection.select(
        found, candidates, cfg, respond=respond, judge=judge, harmless=HARMLESS, wrapped=WRAPPED
    )
    return best, calls


def test_generation_wants_text_not_next_tokens():
    def text(layer, coefficient, steer, kind):
        if steer == "all":
            return "no no loop"  # refuses everything, incoherently
        if layer == 2 and coefficient > 1.5:
            return "no thanks"
        return "no" if kind == "harmful" else "yes"

    best, _ = generation(text)
    assert (best.layer, best.coefficient, best.steer) == (2, 2.0, "prompt")
    chosen = [c for c in best.candidates if c.score == 1.0]
    assert chosen and all(c.passed for c in chosen)
    loops = [c for c in best.candidates if c.steer == "all" and c.coherent is not None]
    assert loops and all("coherent 0.00 < 0.9" in c.reason for c in loops)
    assert loops[0].refusal_harmless == 0.0  # an incoherent refusal is not one


def test_wrapped_and_harmless_weigh_the_same():
    def text(layer, coefficient, steer, kind):
        return "no" if layer == 1 or (layer == 0 and kind == "harmful") else "yes"

    best, _ = generation(text)
    half = [c for c in best.candidates if c.layer == 0 and c.score is not None]
    assert best.layer == 1 and {c.score for c in half} == {0.5}
    assert {(c.refusal_harmless, c.refusal_harmful) for c in half} == {(0.0, 1.0)}


def test_generation_is_screened_and_sees_every_layer():
    cfg = SelectConfig(screen=6, coefficients=(1.0, 2.0))
    found = unit()
    strong = {(3, p): 9.0 for p in (-1, -2)}
    best, calls = generation(
        lambda *_: "no", cfg, grid(found, cfg.coefficients, steering=strong), found
    )
    assert len(calls) == 6 and {layer for layer, _ in calls} == {0, 1, 2, 3}  # 4 is pruned
    screened = [c for c in best.candidates if c.score is None]
    assert len(screened) == P * L * 2 * 2 - 6
    assert all("screened out" in c.reason and not c.passed for c in screened)


def test_a_screen_of_fewer_than_the_layers_takes_the_best_ones():
    """Not the lowest layers: two of five, and these two are the last but one and the second."""
    cfg = SelectConfig(screen=2, coefficients=(1.0,), steers=("all",))
    found = unit()
    strong = {(3, -1): 9.0, (3, -2): 8.0, (1, -2): 5.0}
    _, calls = generation(
        lambda *_: "no", cfg, grid(found, cfg.coefficients, steering=strong), found
    )
    assert [layer for layer, _ in calls] == [3, 1]


def test_generation_failure_is_explained():
    with pytest.raises(UsageError, match=r"direction: .*refusal 0.00 < 0.5.*coherent >= 0.9"):
        generation(lambda *_: "yes")


def test_generation_needs_its_inputs_and_criteria_are_named():
    found = unit()
    with pytest.raises(UsageError, match="generation"):
        selection.select(found, grid(found), SelectConfig())
    with pytest.raises(UsageError, match="arditi, generation"):
        selection.select(found, grid(found), SelectConfig(criterion="best"))


def test_steering_inputs_touch_one_layer():
    found = raw()
    best = selection.select(found, grid(found), ARDITI)._replace(layer=3, coefficient=0.5)
    add = np.asarray(selection.steering_inputs(best, L).add)
    np.testing.assert_allclose(add[3], 0.5 * best.vector)
    assert (np.delete(add, 3, axis=0) == 0).all() and add.dtype == np.float32
    with pytest.raises(UsageError, match="direction.layer"):
        selection.steering_inputs(best, 3)


@pytest.fixture(scope="module")
def tiny():
    config = ModelConfig("llama", 40, 32, 3, 2, 2, 16, 32, max_length=32)
    model = api.build(config)
    params = model.init(jax.random.key(1))
    params["embed"]["table"] = params["embed"]["table"] * 20
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 40, rng.integers(3, 10)).tolist() for _ in range(10)]
    return model, params, texts[:5], texts[5:]


def test_scores_equal_their_definitions(tiny):
    model, params, harmful, harmless = tiny
    found = directions.extract(model, params, harmful, harmless, 2, batch_size=5)
    refusal = [3, 4]
    scored = scoring.score_candidates(
        model, params, found, harmful, harmless, refusal, coefficients=(1.0, 3.0), batch_size=5
    )
    assert [(c.position, c.layer, c.coefficient) for c in scored] == [
        (p, layer, k) for p in (-2, -1) for layer in range(3) for k in (1.0, 3.0)
    ]
    c = next(c for c in scored if (c.position, c.layer, c.coefficient) == (-1, 2, 3.0))
    vector = found.mean_diff[-1, 2]
    assert c.norm == pytest.approx(np.linalg.norm(vector))
    assert c.norm_ratio == pytest.approx(c.norm / found.hidden_norm[-1, 2])
    add = jnp.zeros((3, 32)).at[2].set(3 * vector)
    steered = forward.last_logits(model, params, harmless, LayerInputs(add=add))
    assert c.steering == pytest.approx(directions.refusal_score(steered, refusal).mean(), abs=1e-4)
    unit_vector = np.tile(vector / np.linalg.norm(vector), (3, 1)).astype(np.float32)
    without = LayerInputs(ablate=jnp.asarray(unit_vector))
    ablated = forward.last_logits(model, params, harmful, without)
    assert c.bypass == pytest.approx(directions.refusal_score(ablated, refusal).mean(), abs=1e-4)
    base = np.exp(forward.log_softmax(forward.last_logits(model, params, harmless)))
    other = np.exp(forward.log_softmax(forward.last_logits(model, params, harmless, without)))
    kl = (base * (np.log(base + 1e-6) - np.log(other + 1e-6))).sum(-1).mean()
    assert c.kl == pytest.approx(kl, abs=1e-5)
    twin = next(c for c in scored if (c.position, c.layer, c.coefficient) == (-1, 2, 1.0))
    assert (twin.bypass, twin.kl) == (c.bypass, c.kl) and twin.steering != c.steering


def planted():
    """A model that refuses (says token 3) when a marked word's vector v reaches the last position.

    Only block 1 moves v there, so block 2's input is the first to hold it, and holds it alone;
    block 2 then writes another vector w, which no output reads, into the stream of block 3.
    """
    vocab, width, depth = 50, 64, 5
    config = ModelConfig("llama", vocab, width, depth, 1, 1, width, 8, max_length=32)
    model = api.build(config)
    params = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    v, w = np.linalg.qr(rng.normal(size=(width, 2)))[0].T
    table = rng.normal(size=(vocab, width)) * 0.1
    table -= np.outer(table @ v, v) + np.outer(table @ w, w)
    table[3], table[5] = 3 * v, 3 * v
    params["embed"]["table"] = jnp.asarray(table, jnp.float32)
    blocks = params["blocks"]
    blocks["mlp"]["down"]["kernel"] *= 0
    attn = blocks["attn"]
    attn["q"]["kernel"] *= 0  # uniform attention
    attn["v"]["kernel"] = jnp.tile(jnp.eye(width)[None, :, None], (depth, 1, 1, 1))
    out = np.zeros((depth, 1, width, width), np.float32)
    out[1, 0], out[2, 0] = np.eye(width), 3 * np.outer(v, w)
    attn["o"]["kernel"] = jnp.asarray(out)

    def prompts(count, marks):
        return [[*[5] * marks, *rng.integers(10, vocab, 6).tolist(), 7, 8, 9] for _ in range(count)]

    return model, params, v, prompts


def test_planted_layer_is_selected():
    model, params, v, prompts = planted()
    found = directions.extract(model, params, prompts(160, 3), prompts(160, 0), 3, batch_size=80)
    scored = scoring.score_candidates(
        model, params, found, prompts(16, 3), prompts(16, 0), [3, 5], batch_size=16
    )
    best = selection.select(found, scored, ARDITI)
    assert best.layer == 2
    assert best.vector @ v / best.norm > 0.9
    plain = forward.last_logits(model, params, prompts(16, 0))
    assert directions.refusal_score(plain, [3, 5]).mean() < -2  # so steering, not the base, refuses
