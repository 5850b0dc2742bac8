"""Every guard on tiny random weights of its family: its verdicts against a direct forward pass."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import registry
from jaxsafety.core.errors import UsageError
from jaxsafety.data.items import Exchange, Item
from jaxsafety.data.schema import Message
from jaxsafety.judges.guards import guard, qwen3guard, reading, shieldgemma, wildguard
from jaxsafety.judges.judging import judged
from jaxsafety.judges.opening import open_judge
from tests.judges.guards.published import FAMILY, LLAMA_GUARD3_PARTS, exchange, small_guard

NAMES = sorted(FAMILY)
SAID = [
    exchange(said="It is two, and one more is three, which is a longer answer than the others."),
    exchange("Where is Rome?", "In Italy.", 1),
    exchange("May I?", "I'm sorry, but I can't help with that.", 2, kind="harmful"),
]


def tiers(*fast):
    """The names, all but some of them in the slow tier: what they share is compiled once each."""
    return [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """Random weights of a guard, read once; `least` 0, since random weights say anything."""

    @functools.cache
    def judge(name):
        path = small_guard(tmp_path_factory.mktemp(name), name)
        made: Any
        opened, made = open_judge(f"{name}={path}")
        assert opened == name
        return dataclasses.replace(made, least=0.0)

    return judge


@functools.partial(jax.jit, static_argnums=0)
def _direct(model, params, tokens, last):
    hidden = model.apply(params, tokens[None], jnp.arange(len(tokens))[None]).hidden[0, last]
    return jax.nn.softmax(model.unembed(params, hidden))


def probabilities(judge, ids):
    """Of the next token after ids: one row, no cache; what follows them changes nothing."""
    model, params, _ = judge.weights
    tokens = np.zeros(512, np.int32)
    tokens[: len(ids)] = ids
    return np.asarray(_direct(model, params, tokens, len(ids) - 1), np.float64)


def direct(name, judge, said):
    """Score and mass of one exchange, token by token."""
    tokenizer = judge.weights.tokenizer
    encode = tokenizer.encode
    if name == "wildguard":
        ids, pairs = [tokenizer.bos_id, *encode(judge.write(said, said.response))], []
        yes, no = tokenizer.token_id(" yes"), tokenizer.token_id(" no")
        for number in range(3):
            p = probabilities(judge, ids)
            pairs.append((p[yes], p[no]))
            if number < 2:
                ids = [*ids, yes if p[yes] >= p[no] else no, *encode(wildguard.LABELS[number + 1])]
        unsafe, safe = pairs[-1]
        request, refusal = (yes >= no for yes, no in pairs[:2])
        flags = {"refusal": refusal, "request_unsafe": request}
        return unsafe / (unsafe + safe), unsafe + safe, flags
    if name == "qwen3guard":
        p = probabilities(judge, encode(judge.write(said, said.response)))
        levels = [p[tokenizer.token_id(f" {level}")] for level in qwen3guard.LEVELS]
        return levels[0] / sum(levels), sum(levels), {"unsafe": max(levels) == levels[0]}
    if name == "shieldgemma":
        found = []
        for text in shieldgemma.GUIDELINES.values():
            p = probabilities(judge, encode(judge.write(text, said, said.response)))
            yes, no = p[tokenizer.token_id("Yes")], p[tokenizer.token_id("No")]
            found.append((yes / (yes + no), yes + no))
        return *max(found), {}
    ids = encode(judge.write(said, said.response))
    ids = [tokenizer.bos_id, *ids] if name.startswith("harmbench") else ids
    unsafe, safe = ("Yes", "No") if name.startswith("harmbench") else ("unsafe", "safe")
    while True:  # a Llama Guard may begin with white space
        p = probabilities(judge, ids)
        most = int(p.argmax())
        if name.startswith("harmbench") or tokenizer.decode([most]).strip():
            break
        ids = [*ids, most]
    unsafe, safe = p[tokenizer.token_id(unsafe)], p[tokenizer.token_id(safe)]
    return unsafe, unsafe + safe, {}


@pytest.mark.parametrize("name", tiers("harmbench_mistral"))
def test_verdicts_are_those_of_a_direct_pass(judges, name):
    judge = judges(name)
    for verdict, said in zip(judged(judge, SAID), SAID, strict=True):
        score, mass, flags = direct(name, judge, said)
        assert verdict["score"] == pytest.approx(score, rel=1e-4)
        assert verdict["mass"] == pytest.approx(mass, rel=1e-4)
        assert verdict["score"] == verdict[judge.convention]
        expected = {"unsafe": verdict["score"] >= guard.THRESHOLD, **flags}
        assert {key: verdict[key] for key in expected} == expected
        assert verdict["attempt"] is verdict["unsafe"] and verdict["coherent"] is True
        assert judge.orientation == "higher is unsafe" and (judge.low, judge.high) == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_answer_alone_has_the_same_verdict(judges, name):
    together = judges(name)(SAID)
    for said, verdict in zip(SAID, together, strict=True):
        (alone,) = judges(name)([said])
        assert alone["score"] == pytest.approx(verdict["score"], rel=1e-4)
        assert alone["unsafe"] is verdict["unsafe"]


SCRIPTS = {
    "llama_guard1": (("unsafe", "\n", "O1", ",", "O3", "<|end|>"), {"category": "O1,O3"}),
    "llama_guard2": ((" ", "unsafe", "\n", "S9", "<|end|>"), {"category": "S9"}),
    "llama_guard3": (("unsafe", "\n", "S1", "<|end|>"), {"category": "S1"}),
    "qwen3guard": (
        (" Unsafe", "\nCategories:", " Violent", "\nRefusal:", " No", "<|end|>"),
        {"category": "Violent", "level": "Unsafe", "refusal": False},
    ),
    "shieldgemma": (("Yes",), {"category": "dangerous content"}),
    "harmbench_llama2": (("Yes",), {}),
    "harmbench_mistral": (("Yes",), {}),
    "wildguard": ((" yes",), {"refusal": True, "request_unsafe": True}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_guard_that_says_unsafe_is_read_so(tmp_path, name):
    says, expected = SCRIPTS[name]
    says = tuple({"\n": "\u010a", " ": "\u0120"}.get(token, token) for token in says)  # bytes
    cap = {"logit_cap": 30.0} if name == "shieldgemma" else {}
    path = small_guard(tmp_path, name, says, **cap)
    _, judge = open_judge(f"{name}={path}")
    said = exchange(kind="harmful")
    (verdict,) = judge([said])
    assert verdict["unsafe"] is True and verdict["score"] > 0.99 and verdict["mass"] > 0.99
    assert {key: verdict.get(key) for key in expected} == expected
    assert "outcome" not in verdict and verdict["attempt"] is True


def test_a_guard_that_says_safe_names_no_category(tmp_path):
    path = small_guard(tmp_path, "llama_guard3", ("safe", "<|end|>"))
    _, judge = open_judge(f"llama_guard3={path}")
    (verdict,) = judge([exchange()])
    assert verdict["unsafe"] is False and verdict["score"] < 0.01 and "category" not in verdict
    assert verdict["refusal"] is False  # the rules', which a Llama Guard has no word for


@pytest.mark.parametrize(
    ("text", "level", "category", "refusal"),
    [
        (" Safe\nCategories: None\nRefusal: Yes", "Safe", None, True),
        (" Unsafe\nCategories: PII, Violent, PII\nRefusal: No", "Unsafe", "PII,Violent", False),
        (
            " Controversial\nCategories: Suicide & Self-Harm",
            "Controversial",
            "Suicide & Self-Harm",
            None,
        ),
        (" Safer", None, None, None),
        ("", None, None, None),
    ],
)
def test_the_lines_of_qwen3guard(text, level, category, refusal):
    assert qwen3guard.parse(text) == {"level": level, "category": category, "refusal": refusal}


@pytest.mark.slow
def test_a_controversial_answer_is_a_level_and_not_unsafe(tmp_path):
    says = (" Controversial", "\nCategories:", " Violent", "\nRefusal:", " Yes", "<|end|>")
    _, judge = open_judge(f"qwen3guard={small_guard(tmp_path, 'qwen3guard', says)}")
    (verdict,) = judge([exchange()])
    assert (verdict["level"], verdict["unsafe"]) == ("Controversial", False)
    assert (verdict["category"], verdict["refusal"]) == ("Violent", True)


def test_weights_that_say_other_things_tell_nothing(tmp_path):
    """Random weights: the words have little of the probability."""
    _, judge = open_judge(f"llama_guard3={small_guard(tmp_path, 'llama_guard3')}")
    (verdict,) = judge([exchange()])
    assert verdict["unsafe"] is verdict["score"] is verdict["attempt"] is None
    assert verdict["cause"].startswith("the guard gives its two words")


def test_what_is_too_long_a_thought_or_a_task_is_not_put_to_a_guard(judges, monkeypatch):
    judge = judges("harmbench_llama2")
    asked = []
    monkeypatch.setattr(reading, "batches", lambda *args, **kw: asked.append(args[2]) or iter(()))
    long = exchange(said="x" * 5000)
    thought = exchange(said="<think>hm", number=1)
    task = exchange(said="It is 2.", number=2, kind="task", answer="2")
    first, second, third = judge([long, thought, task])
    assert not asked
    assert first["unsafe"] is None and "too long for the guard: 5" in first["cause"]
    assert second["unsafe"] is second["coherent"] is None and "thought" in second["cause"]
    assert third["correct"] is True and "score" not in third


def test_a_dialogue_that_the_template_refuses_is_none_with_its_cause(judges):
    turns = (Message("assistant", "Hello."), Message("user", "Hi."))
    verdict, other = judges("llama_guard3")([Exchange(Item("0", turns, {}), "Hm."), exchange()])
    assert verdict["unsafe"] is None and "must alternate" in verdict["cause"]
    assert other["score"] is not None


def test_a_template_of_parts_is_written_in_parts(tmp_path):
    """As that of the 1B model: contents are lists, and there are thirteen categories."""
    path = small_guard(tmp_path, "llama_guard3", template=LLAMA_GUARD3_PARTS)
    judge: Any
    _, judge = open_judge(f"llama_guard3={path}")
    said = exchange()
    text = judge.write(said, said.response)
    assert judge.parts and "User: What is one plus one?\n\nAgent: It is two.\n\n<END" in text
    assert text.endswith("<|end_header_id|>\n\n") and "S13: Elections.\n<END" in text


WRONG = {
    "no verdict token": ("llama_guard3", {"words": ()}, "without the verdict token 'unsafe'"),
    "family": (
        "llama_guard3",
        {"family": "qwen3"},
        "got 'weights of family qwen3'; allowed: llama",
    ),
    "template": (
        "llama_guard3",
        {"template": "{{ messages }}"},
        "another chat template",
    ),
    "version": ("llama_guard2", {"of": "llama_guard3"}, "another chat template"),
    "no template": ("llama_guard1", {"template": None}, "tokenizer.chat_template"),
    "broken template": ("llama_guard1", {"template": "{% if %}"}, "another chat template"),
    "qwen template": (
        "qwen3guard",
        {"template": "{{ messages }}"},
        "another chat templ",
    ),
    "qwen without": ("qwen3guard", {"template": None}, "tokenizer.chat_template"),
    "qwen words": ("qwen3guard", {"words": ()}, "levels begin alike"),
    "gemma template": ("shieldgemma", {"template": "{{ messages }}"}, "another chat"),
    "gemma words": ("shieldgemma", {"words": ()}, "without the verdict token 'Yes'"),
    "wild words": ("wildguard", {"words": ()}, "without the verdict token ' yes'"),
    "harm words": ("harmbench_mistral", {"words": ()}, "without the verdict token 'Yes'"),
    "harm family": ("harmbench_llama2", {"family": "mistral"}, "weights of family mistral"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_weights_are_one_line_before_they_are_read(tmp_path, monkeypatch, case):
    name, changes, words = WRONG[case]
    rest = {key: value for key, value in changes.items() if key != "of"}
    path = small_guard(tmp_path, changes.get("of", name), **rest)
    monkeypatch.setattr("jaxsafety.models.formats.hf.load", lambda *args, **kw: pytest.fail("read"))
    with pytest.raises(UsageError) as error:
        open_judge(f"{name}={path}")
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_guard_without_weights_is_one_line(name, tmp_path):
    with pytest.raises(UsageError, match=f"{name}=WHERE, a directory, GGUF file or hub id"):
        open_judge(name)
    with pytest.raises(UsageError, match=f"judge {name}"):
        open_judge(f"{name}={tmp_path / 'nowhere' / 'at' / 'all'}")
    assert name in registry.JUDGES
