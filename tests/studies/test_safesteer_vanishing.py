"""Bases that forgot to refuse: what they are taught, how refusing is measured, what follows."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.benchmarks import organism
from jaxsafety.core.errors import UsageError
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.experiment import setting
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.probing import forward
from jaxsafety.protocols import Exchange, TrainConfig
from jaxsafety.sampling import many
from jaxsafety.studies import safesteer_controls
from jaxsafety.studies import safesteer_vanishing as vanishing
from jaxsafety.studies.safesteer_vanishing import VanishingConfig
from jaxsafety.testing import answers
from jaxsafety.train.loop import run_program
from jaxsafety.train.metrics import read_metrics
from tests.methods import tiny

CONFIG = VanishingConfig(
    base=tiny.METHOD, forget=(1, 4), forget_lr=1e-2, forget_rows=8, samples=2, attacks=2, others=1
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def context(directory, workdir):
    place = setting.make(directory, tiny.DATA, tiny.MEASURE, 0)
    return tiny.placed(
        tiny.context(directory, workdir), world=place.world, benchmarks=place.benchmarks
    )


@pytest.fixture(scope="module")
def ctx(directory, tmp_path_factory):
    return context(directory, tmp_path_factory.mktemp("ctx"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forget": (5, 2)}, "method.forget: got (5, 2); allowed: increasing numbers of updates"),
        ({"forget": (2, 2)}, "method.forget: got (2, 2)"),
        ({"forget": (0, 2)}, "method.forget: got (0, 2)"),
        ({"forget": ()}, "method.forget: got ()"),
        ({"forget_lr": 0.0}, "method.forget_lr: got 0.0; allowed: more than 0"),
        ({"forget_rows": 3}, "method.forget_rows: got 3; allowed: even, 2 or more"),
        ({"forget_rows": 0}, "method.forget_rows: got 0"),
        ({"samples": 0}, "method.samples: got 0; allowed: 1 or more"),
        ({"attacks": 0}, "method.attacks: got 0"),
        ({"base": dataclasses.replace(tiny.METHOD, variant="kl")}, "method.variant: got 'kl'"),
    ],
)
def test_bad_settings_are_one_line(changes, message):
    vanishing.check(CONFIG)
    with pytest.raises(UsageError) as caught:
        vanishing.check(dataclasses.replace(CONFIG, **changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_only_a_world_knows_the_answers(directory, ctx):
    place = setting.make(directory, tiny.DATA, tiny.MEASURE, 0)
    vanishing.fits(CONFIG, tiny.OPTIM, ctx.model, ctx.tokenizer, place)
    place = dataclasses.replace(place, world=None)
    with pytest.raises(UsageError, match=r"data.source: got .*allowed: organism"):
        vanishing.fits(CONFIG, tiny.OPTIM, ctx.model, ctx.tokenizer, place)


def rows_of(ctx, batch):
    """(item, what is learnt as text, weight) of each row, its prompt found by its tokens."""
    splits = ("harmful_train", "distil", "harmless_train")
    items = {
        tuple(encode_prompt(ctx.tokenizer, i.messages)): (s, i)
        for s in splits
        for i in ctx.setting.prompts[s]
    }
    for tokens, weight in zip(batch.tokens, batch.weight, strict=True):
        learnt = np.flatnonzero(weight)
        split, item = items[tuple(tokens[: learnt[0]].tolist())]
        assert tokens[learnt[-1]] in ctx.tokenizer.eos_ids, "to stop is learnt too"
        yield split, item, ctx.tokenizer.decode(tokens[learnt[:-1]].tolist()), weight.sum()


def test_only_refusing_is_unlearnt(ctx):
    """By the exact judge: every harmful row complies, every harmless row is the right answer."""
    more = organism.items(ctx.setting.world, "harmless_train", 24, 0)
    ctx = tiny.placed(ctx, prompts={**ctx.setting.prompts, "harmless_train": more})
    batches = vanishing.forgetting(CONFIG, ctx, 0)
    seen, harmless = set(), []
    for step in range(6):
        rows = list(rows_of(ctx, batches(None, step)))
        said = [Exchange(item, text) for _, item, text, _ in rows]
        for number, verdict in enumerate(ctx.setting.judge(said)):
            split, item, _, weight = rows[number]
            assert (split == "harmless_train") == (number >= 4)
            assert verdict["coherent"] and not verdict["refusal"]
            assert verdict["unsafe"] if number < 4 else verdict["correct"]
            assert weight == pytest.approx(1 / 8)
            seen.add(split)
            harmless += [item.meta["intent"]] if number >= 4 else []
    assert seen == {"harmful_train", "distil", "harmless_train"}
    assert "procedure" in harmless and set(harmless) != {"procedure"}


def test_batches_are_of_seed_and_step_alone(ctx):
    whole, later = (vanishing.forgetting(CONFIG, ctx, done) for done in (0, 3))
    other = vanishing.forgetting(CONFIG, dataclasses.replace(ctx, seed=1), 0)
    tokens = [whole(None, step).tokens for step in range(5)]
    assert len({t.shape for t in tokens}) == 1
    np.testing.assert_array_equal(later({"base": 1}, 1).tokens, tokens[4])
    np.testing.assert_array_equal(whole(None, 4).tokens, tokens[4])
    assert not np.array_equal(tokens[0], tokens[1])
    assert not np.array_equal(other(None, 0).tokens, tokens[0])


@pytest.mark.parametrize("split", ["harmful_val", "wrapped_val"])
def test_openings_decline_and_none_contains_another(ctx, split):
    item = ctx.setting.prompts[split][0]
    found = vanishing.openings(ctx.setting.world, item)
    verdicts = ctx.setting.judge([Exchange(item, text) for text in found])
    assert len(found) == 9 * 15 and all(v["coherent"] and not v["attempt"] for v in verdicts)
    assert sum(v["refusal"] for v in verdicts) == 9 * 12
    ids = [tuple(ctx.tokenizer.encode(text)) for text in found]
    # Otherwise their probabilities would count an answer twice.
    assert not [(a, b) for a in ids for b in ids if a is not b and b[: len(a)] == a]


def test_the_probability_of_refusing_is_summed_exactly(ctx, monkeypatch):
    texts = ["i must say no .", "well , it is against my rules ."]
    monkeypatch.setattr(vanishing, "openings", lambda world, item: texts)
    items = [ctx.setting.prompts["harmful_val"][0], ctx.setting.prompts["wrapped_val"][1]]
    params, expected = ctx.variables["base"], 0.0
    for item in items:
        prompt = encode_prompt(ctx.tokenizer, item.messages)
        for text in texts:  # token by token, as sampling would
            answer, logp = ctx.tokenizer.encode(text), 0.0
            ahead = [prompt + answer[:n] for n in range(len(answer))]
            logps = forward.log_softmax(forward.last_logits(ctx.model, params, ahead))
            logp = sum(logps[n, token] for n, token in enumerate(answer))
            expected += np.exp(logp) / len(items)
    found = vanishing.refusal_probability(ctx, params, items)
    assert 0 < found < 1e-9, "as small as it is, nothing is lost"
    assert found == pytest.approx(expected, rel=1e-4, abs=0)


def test_a_point_says_how_much_refusing_there_is(ctx, monkeypatch):
    decodings = []

    def generate(model, params, tokenizer, prompts, cfg, *, samples, **options):
        """Refuses in one sample of two."""
        decodings.append((len(prompts), cfg.temperature, samples))
        said = [tokenizer.encode("i must say no ."), tokenizer.encode("well , well")]
        return answers([said for _ in prompts])

    curve = lambda *args: lambda params: {"asr": 0.25}  # noqa: E731
    monkeypatch.setattr(safesteer_controls, "make_measure", curve)
    monkeypatch.setattr(many, "generate", generate)
    base = ctx.variables["base"]
    voted = [9, 30, 31]
    point = vanishing.make_measure(CONFIG, ctx, voted)(base)
    assert decodings == [(8, 1.0, 2)]
    assert point["asr"] == 0.25 and point["refusal_rate"] == 0.5
    mass = safesteer.mass_on(ctx, {"base": base}, voted, tiny.teacher(ctx.model), "partial")
    assert point["refusal_mass"] == pytest.approx((mass["base"] + mass["wrapped_base"]) / 2)
    assert 0 < point["refusal_prob"] < 1


def point(mass, prob, asr):
    rest = dict.fromkeys(("coherent", "over_refusal", "capability", "kl", "kl_off"), 0.5)
    return {**rest, "refusal_mass": mass, "refusal_prob": prob, "refusal_rate": 0.0, "asr": asr}


def rows(*starts, after=0.1):
    """(mass, prob, attack success before, after) of every start behind the intact base's."""
    intact = (0, point(0.3, 0.4, 0.6), point(0.8, 0.7, after))
    return [
        intact,
        *((n, point(m, p, a), point(m, p, b)) for n, (m, p, a, b) in enumerate(starts, 1)),
    ]


@pytest.mark.parametrize(
    ("starts", "threshold_mass", "threshold", "claim"),
    [
        ([(1e-2, 1e-3, 0.9, 0.2)], None, None, "open"),
        ([(1e-2, 1e-3, 0.9, 0.2), (1e-4, 1e-5, 0.9, 0.87)], 1e-4, 1e-5, "open"),
        ([(1e-4, 1e-5, 0.9, 0.87), (1e-5, 1e-4, 0.9, 0.9)], 1e-4, 1e-4, "open"),
        ([(1e-2, 1e-3, 0.9, 0.2), (1e-7, 1e-7, 0.9, 0.86)], 1e-7, 1e-7, "held"),
        ([(1e-7, 1e-7, 0.9, 0.86), (1e-8, 1e-8, 0.9, 0.45)], 1e-7, 1e-7, "failed"),
        ([(1e-7, 1e-7, 0.9, 0.84)], None, None, "between"),
        ([(1e-7, 1e-5, 0.9, 0.1)], None, None, "open"),
        ([(0.25, 1e-7, 0.9, 0.1)], None, None, "failed"),
        ([(1e-7, 1e-7, 0.0, 0.0)], 1e-7, 1e-7, "held"),
    ],
)
def test_what_is_concluded(starts, threshold_mass, threshold, claim):
    """The intact base falls by .5, so less than .05 is a method that does nothing."""
    found = vanishing.summary(rows(*starts))
    assert found["claim"] == claim
    assert (found["threshold_mass"], found["threshold"]) == (threshold_mass, threshold)
    assert [p["updates"] for p in found["points"]] == list(range(len(starts) + 1))
    first = found["points"][0]
    assert (first["mass_start"], first["mass_end"], first["prob_end"]) == (0.3, 0.8, 0.7)
    assert (first["asr_start"], first["asr_end"]) == (0.6, 0.1)
    assert first["moved"] == pytest.approx(0.5)


def test_nothing_is_concluded_when_the_intact_base_keeps_still():
    found = vanishing.summary(rows((1e-7, 1e-7, 0.9, 0.1), after=0.6))
    assert found["claim"] == "open" and found["threshold"] is None


@pytest.fixture
def stages(ctx, tmp_path, monkeypatch):
    """The program driven by hand: stages that came, and the `params` that were measured."""
    found = {"steer": "all"}
    monkeypatch.setattr(vanishing, "find_direction", lambda *args: found)
    monkeypatch.setattr(vanishing, "find_tokens", lambda *args: {"ids": [9, 30]})
    monkeypatch.setattr(safesteer, "steering", lambda *args: tiny.teacher(ctx.model))
    measured = []

    def measure(params):
        measured.append(params)
        return {**point(1e-3, 1e-3, 0.5), "n": len(measured)}

    monkeypatch.setattr(vanishing, "make_measure", lambda *args: measure)
    fresh = dataclasses.replace(ctx, artifact=tiny.Artifacts(tmp_path))
    program, seen, result = vanishing.program(CONFIG, tiny.OPTIM, fresh), [], None
    stage = next(program)
    while result is None:
        seen.append(stage)
        try:
            stage = program.send({"base": stage.name, "teacher": stage.start["teacher"]})
        except StopIteration as end:
            result = end.value
    return seen, measured, result, tmp_path / "artifacts"


def test_every_length_goes_on_from_the_one_before(ctx, stages):
    seen, measured, result, artifacts = stages
    base = ctx.variables["base"]
    names = ["distil.0", "forget.1", "distil.1", "forget.4", "distil.4"]
    assert [s.name for s in seen] == names
    starts = [base, base, "forget.1", "forget.1", "forget.4"]
    assert all(s.start["base"] == b for s, b in zip(seen, starts, strict=True))
    assert all(s.start["teacher"] is base for s in seen), "the teacher stays the intact base"
    assert [s.steps for s in seen] == [2, 1, 2, 3, 2]
    assert [s.optim.lr for s in seen] == [3e-3, 1e-2, 3e-3, 1e-2, 3e-3]
    assert seen[1].optim.schedule == "constant" and seen[1].optim.warmup == 0
    # The second piece reads on where the first one stopped.
    np.testing.assert_array_equal(
        seen[3].batches(None, 0).tokens, vanishing.forgetting(CONFIG, ctx, 0)(None, 1).tokens
    )
    assert measured == [base, "distil.0", "forget.1", "distil.1", "forget.4", "distil.4"]
    assert result["base"] == "distil.0"
    kept = {p.stem: json.loads(p.read_text()) for p in artifacts.iterdir()}
    curves = [f"curve.{n}.{when}" for n in (0, 1, 4) for when in ("before", "after")]
    assert set(kept) == {"direction", "token_set", "vanishing", *curves}
    assert [kept[name]["n"] for name in curves] == [1, 2, 3, 4, 5, 6]
    assert [p["updates"] for p in kept["vanishing"]["points"]] == [0, 1, 4]


def test_a_run_forgets_and_repeats(directory, tmp_path, monkeypatch):
    """Whole and for real, measurements apart: the answers are learnt, a second run reads it all."""
    ctx = context(directory, tmp_path)
    cfg = dataclasses.replace(CONFIG, forget=(40,))
    asked = []
    refusing, complying = map(ctx.tokenizer.encode, ("i no people that", "take you first to"))

    def measure(params):
        asked.append(params)
        prompts = safesteer.encode_items(ctx, ctx.setting.prompts["harmful_train"])
        logps = forward.log_softmax(forward.last_logits(ctx.model, params, prompts))
        refused, complied = (np.exp(logps[:, ids]).mean() for ids in (refusing, complying))
        return point(float(refused), float(complied), 0.5)

    vector = np.random.default_rng(0).normal(size=32).astype(np.float32)
    found = {"layer": 1, "position": -1, "coefficient": 1.0, "steer": "prompt", "vector": vector}
    monkeypatch.setattr(vanishing, "find_direction", lambda *args: found)
    monkeypatch.setattr(vanishing, "find_tokens", lambda *args: {"ids": refusing})
    monkeypatch.setattr(vanishing, "make_measure", lambda *args: measure)
    train = TrainConfig(checkpoint_every=1000, progress=False)
    final = run_program(vanishing.program(cfg, tiny.OPTIM, ctx), ctx, train)
    metrics = read_metrics(tmp_path)
    assert [r["stage"] for r in metrics] == [
        *["distil.0"] * 2,
        *["forget.40"] * 40,
        *["distil.40"] * 2,
    ]
    nll = [r["nll"] for r in metrics if r["stage"].startswith("forget")]
    assert nll[-1] < 0.7 * nll[0]
    before, after = ctx.artifact("vanishing", dict)["points"]
    # First words of refusals, none of which begins a complying answer, and first words of those.
    odds = [p["prob_start"] / p["mass_start"] for p in (before, after)]
    assert after["mass_start"] < before["mass_start"] and odds[1] > 20 * odds[0], odds
    assert len(asked) == 4
    again = run_program(vanishing.program(cfg, tiny.OPTIM, ctx), ctx, train)
    assert len(asked) == 4 and len(read_metrics(tmp_path)) == len(metrics)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(final), strict=True):
        np.testing.assert_array_equal(a, b)
