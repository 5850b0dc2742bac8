"""Multiple choice by log-probability: ids, plan, scores against one plain forward pass, files."""

from __future__ import annotations

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety
from jaxsafety.core.errors import UsageError
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.evaluation import choices, packing, pairs
from jaxsafety.evaluation.likelihoods import Scorer
from jaxsafety.evaluation.pairs import Question, Stem
from jaxsafety.models.api import LayerInputs, ModelConfig, build

CONFIG = ModelConfig("llama", 262, 16, 2, 2, 1, 8, 32, 128)
USER = (jaxsafety.Message("user", "?"),)


def item(number, context, texts, target, **more):
    meta = {"context": context, "continuations": texts, "target": target, **more}
    return jaxsafety.Item(str(number), USER, meta)


ITEMS = (
    item(0, "The sun is", ["hot", "a cold lamp"], 0),
    item(1, "A hen lays", ["eggs", "an egg or two", "it"], 2),
    item(2, "Two and two make", ["4", "5"], 1, description="Sums.\n\n"),
    item(3, ["The hat fits Ann", "The hat fits Bo"], ["well."], 1),
    item(4, "", ["a b", "b"], 0),
    item(5, "x" * 140, ["y", "z"], 0),
)


def bench(items=ITEMS, form="choices", name="few"):
    return jaxsafety.Benchmark(name, "capability", tuple(items), 1, form)


@pytest.fixture(scope="module")
def tiny():
    model = build(CONFIG)
    params = jax.jit(model.init)(jax.random.key(3))
    params = jax.tree.map(lambda x: x * 3.0, params)  # so that probabilities differ
    full = jax.jit(lambda ids: model.apply(params, ids, jnp.arange(128)[None]).hidden)
    return model, params, ByteTokenizer(), full


def plainly(tiny, context, continuation):
    """The sum by one forward pass over the whole sequence."""
    model, params, _, full = tiny
    ids = [*context, *continuation]
    hidden = full(jnp.array([ids + [0] * (128 - len(ids))]))
    logp = np.asarray(jax.nn.log_softmax(model.unembed(params, hidden)[0]), np.float64)
    return sum(logp[len(context) - 1 + t, token] for t, token in enumerate(continuation))


def stems(chat=False, items=ITEMS):
    asked = [pairs.question(one, "few") for one in items]
    return [pairs.stems(ByteTokenizer(), one, chat=chat) for one in asked]


@pytest.mark.parametrize("chat", [False, True])
def test_scores_are_those_of_one_pass_over_the_whole(tiny, chat, monkeypatch):
    monkeypatch.setattr(packing, "SHARE", 1000)  # even a short head is read apart
    every = [s for own in stems(chat) for s in own if not pairs.unscorable([s], 128)]
    work = Scorer(*tiny[:2], every, tokens=48)
    seen = set()
    for batch in work.batches:
        for index, sums in work.score(batch):
            seen.add(index)
            want = [plainly(tiny, every[index].context, c) for c in every[index].continuations]
            np.testing.assert_allclose(sums, want, atol=2e-4)
    assert seen == set(range(len(every)))
    assert (work.skip > 0) == chat  # the template's head


def test_what_the_model_is_served_with_stands_before_the_question():
    """Capability is measured under the prompt that the model answers with (PTST)."""
    tokenizer = ByteTokenizer()
    for one in ITEMS[:3]:
        asked = pairs.question(one, "few")
        served = pairs.stems(tokenizer, asked, chat=True, system="Be safe.")
        for own, plain in zip(served, pairs.stems(tokenizer, asked, chat=True), strict=True):
            text, bare = (tokenizer.decode(list(s.context)) for s in (own, plain))
            assert "Be safe." in text
            assert "Be safe." not in bare
            assert asked.description in text
            assert text.rstrip().endswith(bare.rstrip()[-20:])
            assert own.continuations == plain.continuations
    assert pairs.settings(tokenizer, chat=True) == pairs.settings(tokenizer, chat=True, system="")
    assert pairs.settings(tokenizer, chat=True, system="a")["system"] == "a"


def test_a_system_message_needs_a_template(tiny, tmp_path):
    sums = bench(tuple(ITEMS[:1]))
    with pytest.raises(UsageError, match="system.*nothing, without a chat template"):
        choices.measure_choices(
            *tiny[:2], ByteTokenizer(), [sums], tmp_path, "base", chat=False, system="Be safe."
        )


def test_what_all_contexts_begin_with_is_read_once(tiny):
    head = tuple(range(20, 40))
    every = [Stem((*head, *own), ((7, 8), (9,)), (0, 1)) for own in ((1, 2), (3,), (1, 5, 6))]
    work = Scorer(*tiny[:2], every)
    assert work.skip == 20
    (batch,) = work.batches
    for index, sums in work.score(batch):
        want = [plainly(tiny, every[index].context, c) for c in every[index].continuations]
        np.testing.assert_allclose(sums, want, atol=2e-4)


def test_what_all_continuations_begin_with_is_read_once(tiny):
    stem = Stem((1, 2, 3), ((5, 6, 7, 8), (5, 6, 9), (5, 6, 7)), (0, 1, 2))
    same = Stem((1, 2), ((5,), (5, 6)), (0, 1))
    work = Scorer(*tiny[:2], [stem, same])
    assert work.skip == 1 and [t.tokens for t in work.trees] == [5, 2]
    found = dict(one for batch in work.batches for one in work.score(batch))
    for index, one in enumerate((stem, same)):
        want = [plainly(tiny, one.context, c) for c in one.continuations]
        np.testing.assert_allclose(found[index], want, atol=2e-4)


def test_steering_reaches_what_it_says(tiny):
    model, params, *_ = tiny
    add = jnp.zeros((2, 16)).at[1].set(4.0)
    every = [s for own in stems()[:2] for s in own]

    def sums(layers, steer):
        work = Scorer(model, params, every, layers, steer=steer)
        found = dict(one for batch in work.batches for one in work.score(batch))
        return [x for i in range(len(every)) for x in found[i]]

    @jax.jit
    def steered(ids, where):
        layers = LayerInputs(add=add, where=where)
        out = model.apply(params, ids, jnp.arange(128)[None], layers=layers)
        return jax.nn.log_softmax(model.unembed(params, out.hidden))[0]

    def apply(ids, where):
        rest = 128 - len(ids)
        return steered(jnp.array([ids + [0] * rest]), jnp.array([where + [False] * rest]))

    stem = every[0]
    context, more = stem.context, stem.continuations[1]
    for steer in ("all", "prompt"):
        where = [True] * len(context) + [steer == "all"] * len(more)
        logp = apply([*context, *more], where)
        want = sum(float(logp[len(context) - 1 + t, k]) for t, k in enumerate(more))
        assert sums(LayerInputs(add=add), steer)[1] == pytest.approx(want, abs=2e-4)
    assert abs(sums(LayerInputs(), "all")[1] - want) > 0.05


def test_ids_of_a_pair():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode

    def pair(context, continuation):
        return pairs.encode_pair(tokenizer, context, continuation)

    assert pair("a", " b") == (ids("a"), ids(" b"))
    assert pair("a \n", "b") == (ids("a"), ids(" \nb"))  # white space is scored
    assert pair("", "b") == ([tokenizer.bos_id], ids("b"))
    assert pair("", "<bos>b") == ([tokenizer.bos_id], ids("b"))
    assert pair(" ", "b") == ([], ids(" b"))
    (stem,) = pairs.stems(tokenizer, Question(("Hi",), ("yes",), 0), chat=True)
    text = "<bos><|user|>\nHi<|end|>\n<|assistant|>"
    assert stem == Stem(tuple(ids(text)), (tuple(ids("\nyes")),), (0,))
    asked = Question(("Hi", "Hi"), ("yes", "no"), 0, "Be short.\n\n")
    (stem,) = pairs.stems(tokenizer, asked, chat=True)
    assert tokenizer.decode(stem.context, skip_special=False).startswith(
        "<bos><|system|>\nBe short.\n\n<|end|>\n<|user|>\nHi"
    )
    (stem,) = pairs.stems(tokenizer, asked, chat=False)
    assert stem.context == tuple(ids("Be short.\n\nHi"))


def test_what_cannot_be_scored_says_why():
    few = Stem((1, 2), ((3,), (4, 5)), (0, 1))
    assert pairs.unscorable([few], 3) == ""  # the last token is not read
    assert pairs.unscorable([few], 2) == "longer than the model's context of 2 tokens"
    assert pairs.unscorable([few._replace(context=())], 9) == "no token before the continuation"
    empty = few._replace(continuations=((3,), ()))
    assert pairs.unscorable([empty], 9) == "a continuation without a token"


BAD = {
    "no choices": ({"context": "a", "target": 0}, "continuations"),
    "no context": ({"continuations": ["a", "b"], "target": 0}, "context"),
    "one choice": ({"context": "a", "continuations": ["b"], "target": 0}, "2 choices or more"),
    "uneven": (
        {"context": ["a", "b", "c"], "continuations": ["a", "b"], "target": 0},
        "3 contexts",
    ),
    "no such choice": ({"context": "a", "continuations": ["b", "c"], "target": 2}, "target 2"),
    "labels": ({"context": "a", "continuations": ["b", "c"], "target": [1]}, "2 labels"),
    "description": (
        {"context": "a", "continuations": ["b", "c"], "target": 0, "description": 3},
        "description",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_an_item_that_asks_nothing_is_one_line(tiny, tmp_path, case):
    meta, said = BAD[case]
    wrong = bench([*ITEMS[:1], jaxsafety.Item("9", USER, meta)])
    with pytest.raises(UsageError, match=said):
        choices.measure_choices(*tiny[:3], [wrong], tmp_path, "base", chat=False)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="form"):
        choices.measure_choices(*tiny[:3], [bench(form="text")], tmp_path, "base")


def test_metrics_by_hand():
    asked = Question(("c",) * 3, ("a", "bb", "cccc"), 2)
    assert choices.verdict([-2.0, -2.0, -4.0], asked) == {"acc": 0.0, "acc_norm": 0.0}
    # -2, -1 and -0.9 per character; of equal sums the first counts
    assert choices.verdict([-2.0, -2.0, -3.6], asked) == {"acc": 0.0, "acc_norm": 1.0}
    assert choices.verdict([-2.0, -2.0, -3.6], asked._replace(target=0))["acc"] == 1.0
    assert choices.verdict([-2.0, -2.0, -3.6], asked._replace(target=1))["acc"] == 0.0
    two = Question(("a", "b"), ("rest", "rest"), 1)
    assert choices.verdict([-3.0, -2.0], two) == {"acc": 1.0}
    mass = asked._replace(target=(1, 0, 1))
    logs = [math.log(p) for p in (0.2, 0.3, 0.1)]
    assert choices.verdict(logs, mass) == {"mc2": pytest.approx(0.5)}
    # far below what exp can tell from 0
    assert choices.verdict([x - 2000.0 for x in logs], mass)["mc2"] == pytest.approx(0.5)
    assert choices.verdict(logs, asked._replace(target=(1, 1, 1))) == {"mc2": 1.0}
    assert choices.verdict(logs, asked._replace(target=(0, 0, 0))) == {"mc2": 0.0}


def test_equal_choices_have_equal_scores_and_the_first_counts(tiny, tmp_path):
    """Of two that are the same, rounding must not pick one: where they lie differs."""
    rng = np.random.default_rng(5)

    def text(most):
        return "".join(map(chr, rng.integers(97, 123, rng.integers(3, most))))

    asked = []
    for number in range(16):
        same, other = text(20), text(20)
        asked.append(item(number, f"{text(30)} is", [same, other, same, other, same], 0))
    for number in (16, 17):
        asked.append(item(number, ["so it is", "it was", "so it is"], ["well then."] * 3, 0))
        asked.append(item(number + 2, "", ["ab cd", "b", "ab cd"], 0))
    choices.measure_choices(
        *tiny[:3], [bench(asked)], tmp_path, "base", chat=False, log=str, batch_tokens=256
    )
    path = tmp_path / "generations/base/few.logp.jsonl"
    for line in map(json.loads, path.read_text().splitlines()):
        scores = {}
        pairs_of = zip(line["contexts"] * 5, line["continuations"], strict=False)
        for which, logp in zip(pairs_of, line["logps"], strict=True):
            assert scores.setdefault(which, logp) == logp
        best = max(line["logps"])
        assert line["scores"]["acc"] == float(line["logps"].index(best) == 0)


def test_lines_and_records_and_what_is_there_stays(tiny, tmp_path):
    other = {"arm": "base", "benchmark": "else", "kind": "safety", "metric": "asr.greedy"}
    other |= {"value": 1.0, "lo": 0.5, "hi": 1.0, "n": 2, "seed": 0}
    (tmp_path / "results.jsonl").write_text(json.dumps(other) + "\n")
    said = []

    def run(items=ITEMS, **more):
        return choices.measure_choices(
            *tiny[:3], [bench(items)], tmp_path, "base", chat=False, log=said.append, **more
        )

    records = run()
    path = tmp_path / "generations/base/few.logp.jsonl"
    lines = [json.loads(row) for row in path.read_text().splitlines()]
    assert [line["id"] for line in lines] == [i.id for i in ITEMS]
    assert lines[5]["cause"] == "longer than the model's context of 128 tokens"
    assert lines[5]["logps"] == [None, None] and lines[5]["scores"] == {}
    for line, own in zip(lines[:5], stems(), strict=False):
        want = [plainly(tiny, s.context, c) for s in own for c in s.continuations]
        np.testing.assert_allclose(line["logps"], want, atol=2e-4)
        assert line["tokens"] == [len(c) for s in own for c in s.continuations]
        assert line["scores"]["acc"] == float(np.argmax(want) == line["target"])
    by = {r["metric"]: r for r in records}
    assert (by["acc.logp"]["n"], by["acc.logp"]["nulls"]) == (5, 1)
    assert by["acc.logp"]["cause"] == "longer than the model's context of 128 tokens (1)"
    assert by["acc_norm.logp"]["n"] == 4  # not of the item whose choices are contexts
    rows = [json.loads(row) for row in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert rows == [other, *records]
    assert choices.saved(tmp_path, "base", [bench()]) == records
    before = path.read_bytes()
    assert run() == records and path.read_bytes() == before and "reused" in said[-1]
    run(fingerprint="another")
    assert "scored" in said[-1] and path.read_bytes() != before
    run(ITEMS[:2])
    assert len(path.read_text().splitlines()) == 2


def test_a_run_that_was_stopped_goes_on(tiny, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    def stop():
        raise Stopped

    def run(out, **more):
        return choices.measure_choices(
            *tiny[:3], [bench()], out, "base", chat=False, log=str, batch_tokens=24, **more
        )

    with pytest.raises(Stopped):
        run(tmp_path / "a", check=stop)
    assert len(list((tmp_path / "a/generations/base/few.logp.parts").iterdir())) == 1
    assert not (tmp_path / "a/results.jsonl").exists()
    scored = []
    plain = Scorer.score
    monkeypatch.setattr(Scorer, "score", lambda self, b: scored.append(b) or plain(self, b))
    again = run(tmp_path / "a")
    went_on = len(scored)
    assert run(tmp_path / "b") == again
    assert went_on == len(scored) - went_on - 1  # one batch less than the whole
    assert not (tmp_path / "a/generations/base/few.logp.parts").exists()


def test_numbers_that_are_none_are_no_scores(tiny, tmp_path, monkeypatch):
    def score(self, batch):
        for index in batch.stems:
            yield index, [math.nan] * len(self.stems[index].continuations)

    monkeypatch.setattr(Scorer, "score", score)
    records = choices.measure_choices(
        *tiny[:3], [bench(ITEMS[:2])], tmp_path, "base", chat=False, log=str
    )
    assert [r["metric"] for r in records] == ["acc.logp", "acc_norm.logp"]
    for record in records:
        assert (record["value"], record["lo"], record["n"], record["nulls"]) == (None, None, 0, 2)
        assert record["cause"] == "a log-probability that is no number (2)"
