"""Stage C: planted tokens are found, and nothing that must not vote does."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.models import api
from jaxsafety.models.api import LayerInputs, ModelConfig
from jaxsafety.probing import random_sets, votes
from jaxsafety.probing.votes import VoteConfig
from jaxsafety.sampling import many

X, H, V = 40, 5, 60
CFG = VoteConfig(size=4, top=6, horizon=H, floor=1e-4)


def planted(seed: int = 0, lift: float = 4.0):
    """Log-ratios of noise, lifted for tokens 7, 8, 9; teacher probabilities normalised."""
    rng = np.random.default_rng(seed)
    delta = rng.normal(size=(X, H, V)).astype(np.float32)
    delta[..., [7, 8, 9]] += np.array([lift + 2, lift + 1, lift], np.float32)
    probs = rng.dirichlet(np.full(V, 5.0), size=(X, H)).astype(np.float32)
    return delta, probs, np.ones((X, H), bool)


def test_planted_tokens_win():
    found = votes.vote(*planted(), replace(CFG, size=3))
    assert set(found.ids) == {7, 8, 9}
    assert found.ids[0] == 7 and found.votes[0] == X * H
    assert found.mean_log_ratio[0] == pytest.approx(6, abs=0.3)


def test_counts_equal_a_plain_loop():
    delta, probs, valid = planted()
    valid = np.random.default_rng(1).random((X, H)) < 0.7
    expected = np.zeros(V, int)
    for x, h in zip(*np.nonzero(valid), strict=True):
        expected[np.argsort(-delta[x, h], kind="stable")[: CFG.top]] += 1
    result = votes.tally(lambda: iter([votes.Scores(delta, probs, valid)]), np.zeros(V, bool), CFG)
    np.testing.assert_array_equal(result.votes, expected)
    np.testing.assert_allclose(result.mean_teacher_prob, probs[valid].mean(axis=0), rtol=1e-6)


def test_order_of_prompts_and_split_into_batches_do_not_matter():
    delta, probs, valid = planted()
    whole = votes.vote(delta, probs, valid, CFG)
    order = np.random.default_rng(2).permutation(X)
    assert votes.vote(delta[order], probs[order], valid[order], CFG).ids == whole.ids
    parts = [votes.Scores(delta[i : i + 8], probs[i : i + 8], valid[i : i + 8]) for i in (0, 8)]
    rest = votes.Scores(delta[16:], probs[16:], valid[16:])
    split = votes.tally(lambda: iter([*parts, rest]), np.zeros(V, bool), CFG)
    assert votes.elect(split, CFG).votes == whole.votes


def test_invalid_positions_cast_no_votes():
    delta, probs, valid = planted()
    valid[:, 3:] = False
    before = votes.vote(delta, probs, valid, CFG)
    delta[:, 3:, 20] = 50.0
    probs[:, 3:, 20] = 1.0
    assert votes.vote(delta, probs, valid, CFG) == before
    with pytest.raises(UsageError, match="no valid position"):
        votes.vote(delta, probs, np.zeros_like(valid), CFG)


def test_banned_and_improbable_ids_never_enter():
    delta, probs, valid = planted()
    banned = np.zeros(V, bool)
    banned[7] = True
    probs[..., 8] = 1e-6
    found = votes.vote(delta, probs, valid, replace(CFG, size=V, top=V), banned)
    assert {7, 8} & set(found.ids) == set() and len(found.ids) == V - 2
    assert votes.vote(delta, probs, valid, replace(CFG, size=1), banned).ids == (9,)


def test_ids_without_votes_are_dropped_and_none_is_an_error():
    delta, probs, valid = planted()
    delta[:] = -np.arange(V, dtype=np.float32)
    found = votes.vote(delta, probs, valid, replace(CFG, size=50))
    assert found.ids == (0, 1, 2, 3, 4, 5)
    with pytest.raises(UsageError, match=r"token_set: .*1e-04|token_set: .*0\.9"):
        votes.vote(delta, probs, valid, replace(CFG, floor=0.9))


def test_ties_go_to_larger_ratio_then_smaller_id():
    delta = np.full((1, 2, 6), -9.0, np.float32)
    delta[0, 0, [4, 2]] = [3.0, 3.0]
    delta[0, 1, [5, 1]] = [8.0, 3.0]
    probs, valid = np.full((1, 2, 6), 1 / 6, np.float32), np.ones((1, 2), bool)
    assert votes.vote(delta, probs, valid, replace(CFG, size=4, top=2)).ids == (5, 1, 2, 4)


def test_mean_aggregation_ranks_by_log_ratio():
    delta, probs, valid = planted()
    delta[:2, :, 30] = 400.0  # two rollouts only: few votes, large mean
    assert 30 not in votes.vote(delta, probs, valid, replace(CFG, size=3)).ids
    cfg = replace(CFG, size=3, aggregate="mean")
    assert votes.vote(delta, probs, valid, cfg).ids[0] == 30


@pytest.mark.parametrize("bad", [{"size": 0}, {"eot": "never"}, {"rollout": "x"}, {"horizon": 0}])
def test_knobs_are_checked(bad):
    with pytest.raises(UsageError, match=f"votes.{next(iter(bad))}"):
        VoteConfig(**bad)


class Names:
    """A tokenizer of `words` whose id 0 is special."""

    pad_id = 0
    special_ids = frozenset({0})

    def __init__(self, size):
        self.vocab_size = size

    def token(self, i):
        return "<|end|>" if i == 1 else f"t{i}"


def test_special_reserved_and_missing_strings_are_banned():
    banned = votes.banned_tokens(Names(5), 8)
    assert banned.tolist() == [True, True, False, False, False, True, True, True]


@pytest.fixture(scope="module")
def steered():
    """A tiny model whose steering vector is the unembedding of tokens 11 and 12."""
    # Untied: else every input token would raise its own probability and blur the log-ratios.
    shape = ("llama", V, 64, 2, 2, 2, 16, 64)
    config = ModelConfig(*shape, max_length=64, tie_embeddings=False)
    model = api.build(config)
    params = model.init(jax.random.key(0))
    head = model.head(params)
    add = jnp.zeros((2, 64)).at[1].set(40 * (head[:, 11] + head[:, 12]))
    rng = np.random.default_rng(0)
    texts = [rng.integers(2, V, rng.integers(4, 12)).tolist() for _ in range(6)]
    return model, params, LayerInputs(add=add), texts


def run(steered, cfg, steer="all", stop=(2,)):
    model, params, layers, texts = steered
    return votes.measure(
        model,
        params,
        Names(V),
        texts,
        layers,
        cfg,
        generate=many.generate,
        stop=stop,
        steer=steer,
        batch_size=8,
    )


@partial(jax.jit, static_argnames="model")
def _logps(model, params, tokens, layers):
    out = model.apply(params, tokens, jnp.arange(tokens.shape[1])[None], layers=layers)
    return jax.nn.log_softmax(model.unembed(params, out.hidden))[0]


def plain_logps(*args):
    return np.asarray(_logps(*args))


def test_measure_finds_what_steering_promotes(steered):
    cfg = VoteConfig(size=2, top=2, samples=2, horizon=4, floor=1e-6)
    result = run(steered, cfg)
    assert set(votes.elect(result, cfg, Names(V).token).tokens) == {"t11", "t12"}
    assert not result.eligible[[0, 1]].any()
    assert run(steered, cfg).votes.tolist() == result.votes.tolist()


def test_measure_equals_two_plain_forward_passes(steered):
    """Statistics over known continuations, unpadded and one at a time; prompt-only steering."""
    model, params, layers, texts = steered
    cfg = VoteConfig(size=2, top=5, samples=1, horizon=3, floor=1e-12)
    answers = [[5, 9]] * len(texts)

    def generate(*args, **options):
        assert args[4].max_tokens == 2 and args[4].banned == (V - 1,) and args[4].stop == ()
        return testing.answers([[answers[i]] for i in options["names"]])

    result = votes.measure(
        model,
        params,
        Names(V),
        texts,
        layers,
        cfg,
        generate=generate,
        stop=(V - 1,),
        steer="prompt",
        batch_size=4,
    )
    ratios, valid = [], []
    for text, answer in zip(texts, answers, strict=True):
        ids = text + answer
        tokens = jnp.asarray([ids + [0] * (16 - len(ids))])  # right padding: causally invisible
        where = jnp.arange(16)[None] < len(text)
        teacher = plain_logps(model, params, tokens, replace(layers, where=where))[len(text) - 1 :]
        base = plain_logps(model, params, tokens, LayerInputs())[len(text) - 1 :]
        ratios.append((teacher - base)[:3])
        valid.append(np.cumsum(base[:3].argmax(-1) == V - 1) == 0)
    valid, ratios = np.array(valid), np.array(ratios)
    assert result.positions == valid.sum()
    np.testing.assert_allclose(result.mean_log_ratio, ratios[valid].mean(axis=0), atol=1e-4)


def test_trajectory_rule_drops_positions_after_the_sampled_end(steered):
    model, params, layers, texts = steered
    cfg = VoteConfig(size=2, top=5, samples=1, horizon=4, floor=1e-12, eot="trajectory")
    lengths = [0, 1, 2, 3, 3, 3]

    def generate(*args, **options):
        assert args[4].stop == (2,) and args[4].banned == ()
        return testing.answers([[[7] * lengths[i]] for i in options["names"]])

    result = votes.measure(
        model, params, Names(V), texts, layers, cfg, generate=generate, stop=(2,), batch_size=4
    )
    assert result.positions == sum(n + 1 for n in lengths)


def test_base_rollouts_are_sampled_without_steering(steered):
    model, params, layers, texts = steered
    seen = []

    def generate(*args, **options):
        seen.append(options["layers"].add is not None)
        return testing.answers([[[7]] for _ in args[3]])

    for rollout in votes.ROLLOUTS:
        cfg = VoteConfig(size=2, top=5, samples=1, horizon=2, rollout=rollout)
        votes.measure(
            model, params, Names(V), texts, layers, cfg, generate=generate, stop=(2,), batch_size=4
        )
    assert seen[0] and not seen[-1] and sorted(seen, reverse=True) == seen


def test_first_position_only(steered):
    cfg = VoteConfig(size=3, top=3, samples=2, horizon=1, floor=1e-12)
    assert run(steered, cfg).positions <= 12


def tally_of(mass) -> votes.Tally:
    mass = np.asarray(mass)
    size = len(mass)
    return votes.Tally(np.ones(size, int), np.zeros(size), mass, np.ones(size, bool), 1)


def test_matched_sets_have_the_mass_and_exclude_refusals():
    mass = np.random.default_rng(0).dirichlet(np.full(500, 0.3))
    ids = np.argsort(-mass)[5:25].tolist()
    exclude = [*ids, 3, 4]
    drawn = [
        random_sets.mass_matched_random(
            tally_of(mass), ids, seed=s, exclude=exclude, tolerance=0.02
        )
        for s in range(5)
    ]
    for found in drawn:
        assert len(set(found.ids)) == 20 and not set(found.ids) & set(exclude)
        assert sum(found.mean_teacher_prob) == pytest.approx(mass[ids].sum(), rel=0.02)
    assert len({found.ids for found in drawn}) == 5
    again = random_sets.mass_matched_random(
        tally_of(mass), ids, seed=0, exclude=exclude, tolerance=0.02
    )
    assert again == drawn[0]


def test_unreachable_mass_is_explained():
    mass = np.r_[0.9, np.full(50, 0.002)]
    with pytest.raises(UsageError, match="random_set"):
        random_sets.mass_matched_random(tally_of(mass), [0, 1], seed=0, exclude=[0])


def test_random_sets_are_seeded_and_eligible():
    result = tally_of(np.full(40, 1 / 40))
    result.eligible[20:] = False
    first = random_sets.random_set(result, 10, seed=1, exclude=(0, 1))
    assert set(first.ids) <= set(range(2, 20)) and len(set(first.ids)) == 10
    assert random_sets.random_set(result, 10, seed=1, exclude=(0, 1)) == first
    assert random_sets.random_set(result, 10, seed=2, exclude=(0, 1)) != first
    with pytest.raises(UsageError, match="random_set"):
        random_sets.random_set(result, 30, seed=0)
