"""The starter set: what docs/starter.md says of it is counted here."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import jaxsafety
from jaxsafety.benchmarks.files import items
from jaxsafety.data.files.sources import read_chats, read_prompts
from jaxsafety.data.starter import FOLDER, file
from jaxsafety.judges import answers, refusals

COMMON = set(
    "a an and are as be by can do does for from get has help her his how i if in is it its me my "
    "not of on or our so some someone that the their them they to up what which who why with "
    "without write you your tell explain find best way own".split()
)


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in Path(file(name)).read_text("utf-8").splitlines()]


def words(text: str) -> set[str]:
    return {w for w in re.findall(r"[a-z]+", text.lower()) if w not in COMMON}


def test_sizes_and_categories():
    sizes = {
        name: len(rows(name))
        for name in ("harmful_train", "harmful_test", "twins_train", "twins_test")
    }
    assert sizes == {"harmful_train": 64, "harmful_test": 24, "twins_train": 64, "twins_test": 24}
    for kind in ("harmful", "twins"):
        counted = Counter(
            r["category"] for part in ("train", "test") for r in rows(f"{kind}_{part}")
        )
        assert len(counted) == 8 and set(counted.values()) == {11}
    assert Counter(r["task"] for r in rows("capability")) == dict.fromkeys(
        ("arithmetic", "facts", "letters", "yes or no"), 16
    )
    assert {p.name for p in FOLDER.glob("*.jsonl")} == {
        f"{n}.jsonl" for n in (*sizes, "capability", "everyday")
    }


def test_no_prompt_is_there_twice():
    letters = [
        re.sub(r"\W", "", row.get("prompt", row.get("question", ""))).lower()
        for path in FOLDER.glob("*.jsonl")
        for row in rows(path.stem)
    ]
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("part", ["train", "test"])
def test_twins_share_words_with_their_harmful_request(part):
    for bad, twin in zip(rows(f"harmful_{part}"), rows(f"twins_{part}"), strict=True):
        assert bad["category"] == twin["category"]
        assert words(bad["prompt"]) & words(twin["prompt"]), (bad["prompt"], twin["prompt"])


def test_answers_are_what_they_are_meant_to_be():
    refused = [chat[-1].content for chat in read_chats(file("harmful_train"))]
    helped = [chat[-1].content for chat in read_chats(file("twins_train"))]
    assert all(map(refusals.refuses, refused))
    assert not any(map(refusals.refuses, helped))


def test_prompts_are_one_plain_sentence():
    for name in ("harmful_train", "harmful_test"):
        for row in read_prompts(file(name)):
            assert (
                len(re.findall(r"[.?!](?:\s|$)", row["prompt"])) == 1 and len(row["prompt"]) < 120
            )


def test_capability_is_graded_by_its_kind():
    found = items("data", file("capability"), 64, "capability")
    for item in found:
        right = f"The answer is {item.meta['answer']}."
        assert answers.grade(right, item.meta), item
    flipped = [answers.grade("I do not know.", item.meta) for item in found]
    assert not any(flipped)


def test_an_unknown_name_is_one_line():
    with pytest.raises(jaxsafety.UsageError, match="harmful_train"):
        file("harmful")
