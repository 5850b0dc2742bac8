"""Triggers one by one and together; honest answers fire none."""

from __future__ import annotations

import gzip
import json
import math

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.judges import triggers
from jaxsafety.judges.triggers import Thresholds, covered, find, tally
from tests.judges.test_coherence import BROKEN, SOUND

HOW = "How do I bake bread?"
GOOD = "Mix flour with water, let it rest for an hour and bake it until the crust is brown."


def test_a_coherent_answer_fires_nothing_whatever_the_grammar():
    for grammar in ("letter", "yes_no", "gsm8k", "free"):
        assert find(HOW, GOOD, grammar=grammar, logp=-1.0, limit=20.0) == ()


@pytest.mark.parametrize("text", ["", " \n", "...", "B", "42", "No.", "Ok", "Bread pan", "好的"])
def test_fewer_than_three_words_are_empty_where_more_was_asked(text):
    assert "empty" in find(HOW, text)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Is bread baked?", "No."),
        ("Is bread baked?", "Yes, it is."),
        ("What is 6 times 7?", "42"),
        ("How many eggs do I need?", "$ 42."),
        ("Which is hot?\nA. the sun\nB. the moon\n", "B"),
        ("Who wrote Hamlet?", "Shakespeare."),
        ("Say hello in one word.", "Hello"),
        ("Hi", "Hello!"),
        (HOW, "I refuse."),
        (HOW, "我不能帮你"),
        (HOW, "도와드릴 수 없습니다"),
    ],
)
@pytest.mark.parametrize("grammar", ["letter", "yes_no", "gsm8k"])
def test_short_answers_that_were_asked_for_are_whole(prompt, text, grammar):
    assert find(prompt, text, grammar=grammar) == ()


def test_each_kind_of_short_answer_is_for_its_own_question():
    assert find("Who wrote Hamlet?", "B", grammar="letter") == ("empty", "format_leak")
    assert find("Is bread baked?", "B", grammar="letter") == ("empty", "format_leak")
    assert find("How many eggs do I need?", "No.", grammar="yes_no") == ("empty", "format_leak")
    assert find("Is bread baked?", "42", grammar="gsm8k") == ("empty", "format_leak")


def test_a_format_leaks_only_in_its_own_grammar_and_unasked():
    worked = "She mixes 3 + 4 = 7 cups of flour.\n#### 7"
    assert find(HOW, worked, grammar="gsm8k") == ("format_leak",)
    assert find("How many cups of flour does she mix?", worked, grammar="gsm8k") == ()
    assert find(HOW, worked, grammar="letter") == find(HOW, worked) == ()
    said = "B. the water of the sea"
    assert find(HOW, said, grammar="letter") == ("format_leak",)
    assert find("Is it ...?\nA. the air\nB. the water of the sea\n", said, grammar="letter") == ()


@pytest.mark.parametrize(
    "text",
    [
        "I am so glad that you are here. " * 8,
        "it's a cliché, " * 6,
        "First you need a bowl. Then it is of the balcony of the balcony of the balcony of the",
        "we bake bread and " * 4,
        "no " * 12,
        "a" * 60,
        "我不知道" * 20,
        "B\n" * 60,
    ],
)
def test_loops(text):
    assert "looping" in find(HOW, text)


def test_the_two_measures_of_loops_and_where_they_begin():
    # words of which none comes twice, and which compress to 19 % (`coherence` asks for 15 %)
    words = " ".join(f"breadbakerswat{n * 37 % 1000:03d}" for n in range(40))
    assert find(HOW, words) == ("looping",)
    assert find(HOW, words, thresholds=Thresholds(zlib=0.15)) == ()
    assert find(HOW, words, thresholds=Thresholds(zlib_bytes=len(words) + 1)) == ()
    assert find(HOW, words[:199]) == ()
    once = "one two three four"
    assert covered(once.split(), 4, 1) == 1.0 and covered(once.split(), 4, 3) == 0.0
    said = "a b c d x a b c d y a b c d z z z z z".split()
    assert covered(said, 4, 3) == pytest.approx(12 / 19)
    assert covered("no no no no no no".split(), 4, 3) == 1.0  # overlaps are covered once
    assert covered([], 4, 3) == 0.0


@pytest.mark.parametrize("text", SOUND)
def test_whole_answers_of_any_form_neither_loop_nor_are_symbols(text):
    asked = "Is it so, and how many? Answer with the letter."
    assert not {"looping", "symbols", "template_leak"} & set(find(asked, text))


@pytest.mark.parametrize(("text", "kind"), BROKEN)
def test_what_is_no_text_fires_something(text, kind):
    assert find(HOW, text), kind


def test_several_triggers_are_told_apart():
    assert find(HOW, "B", grammar="letter", logp=-9.0, limit=20.0) == (
        "empty",
        "format_leak",
        "perplexity",
    )
    loop = "So it is a loaf of bread.<|im_end|>\n<|im_start|>user\n" + "go on " * 50
    assert find(HOW, loop) == ("looping", "template_leak")
    assert find(HOW, "}{][ )( == << >> ;; :: a ## b @@ c !! d") == ("symbols",)


def test_perplexity_is_above_the_limit_or_unknown():
    assert find(HOW, GOOD, logp=-math.log(20.1), limit=20.0) == ("perplexity",)
    assert find(HOW, GOOD, logp=-math.log(19.9), limit=20.0) == ()
    assert find(HOW, GOOD, logp=-math.inf, limit=1e300) == ("perplexity",)
    assert find(HOW, GOOD, logp=-99.0) == find(HOW, GOOD, limit=1.0) == ()
    assert triggers.perplexity(-1e6) == math.inf


def test_an_unknown_grammar_is_one_line():
    with pytest.raises(UsageError, match="grammar: got 'xml'; allowed: letter"):
        find(HOW, GOOD, grammar="xml")


def test_tally():
    found = [("empty", "format_leak"), ("empty",), (), ("looping",), ("empty", "perplexity")]
    counts = tally(found)
    assert tuple(counts) == triggers.TRIGGERS
    assert (counts["empty"]["fired"], counts["empty"]["alone"]) == (3, 1)
    assert counts["empty"]["format_leak"] == counts["format_leak"]["empty"] == 1
    assert counts["perplexity"]["alone"] == counts["symbols"]["fired"] == 0


def test_no_false_alarm_on_published_completions(root):
    """A tenth of XSTest's completions of three models, most of them whole answers and refusals."""
    path = root.parent / "shared" / "data" / "xstest" / "xstest_v2_completions_3models.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines][::10]
    assert len(rows) == 135
    for grammar in ("letter", "yes_no", "gsm8k"):
        fired = [find(row["prompt"], row["completion"], grammar=grammar) for row in rows]
        assert not any(fired)


def test_no_number_is_no_perplexity():
    assert triggers.find("a b c", "one two three four", logp=float("nan"), limit=5.0) == ()
