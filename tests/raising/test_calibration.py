"""Measured levels: the window nearest to the target, and a base that solves what it can."""

import dataclasses
import sys

import pytest

from jaxsafety.data.schema import Answer
from jaxsafety.organism.suites import suites
from jaxsafety.organism.tasks import LEVELS
from jaxsafety.organism.world import WorldConfig, make_world
from jaxsafety.raising import calibration
from jaxsafety.sampling import many


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        ({3: 1.0, 4: 0.98, 5: 0.9, 6: 0.82, 7: 0.2}, (4, 6)),  # the wider of equals
        ({3: 1.0, 4: 1.0, 5: 1.0}, (3, 5)),  # too easy: all of it
        ({3: 0.3, 4: 0.2, 5: 0.1}, (3, 3)),  # too hard: the easiest
        ({3: 1.0, 4: 1.0, 5: 0.7, 6: 0.0}, (3, 5)),
        ({1: 0.91}, (1, 1)),
    ],
)
def test_the_window_nearest_to_the_target(accuracy, expected):
    assert calibration.window(accuracy) == expected


class Words:
    """A tokenizer whose ids are text: what the planted model says is what was written."""

    eos_ids = (1,)

    def decode(self, text):
        return text


def test_levels_are_those_at_which_the_base_is_right_nine_times_in_ten(monkeypatch):
    world = make_world(WorldConfig(seed=3))
    right_up_to = {"sort": 8, "order": 5, "largest": 3, "smallest": 9}
    asked = {}

    def questions(tokenizer, messages):
        return messages[-1].content

    def generate(model, params, tokenizer, prompts, decoding, **options):
        assert decoding.temperature == 0.0
        said = []
        for prompt in prompts:
            name, level, answer = asked[prompt]
            text = f"the answer is {answer if level <= right_up_to[name] else 'x'} ."
            said.append([Answer(text, True, [])])  # `Words` decodes texts
        return said

    make = calibration.task_prompt

    def draw(world, name, level, rng):
        prompt = make(world, name, level, rng)
        asked[prompt.messages[-1][1]] = (name, level, prompt.meta["answer"])
        return prompt

    monkeypatch.setattr(sys.modules["jaxsafety.sampling.ask"], "encode_prompt", questions)
    monkeypatch.setattr(calibration, "task_prompt", draw)
    monkeypatch.setattr(many, "generate", generate)
    # The other tasks repeat questions across levels: planted levels would overwrite each other.
    monkeypatch.setattr(calibration, "LEVELS", {k: LEVELS[k] for k in right_up_to})
    lines = []
    found = dict(calibration.calibrate(None, None, Words(), world, log=lines.append).levels)
    # Three levels of which one fails: 67 %; one right level alone is nearest to 90 %.
    for name, (low, high) in found.items():
        assert low <= high <= right_up_to[name], name
    assert found["largest"] == (3, 3) and found["sort"] == (5, 7)
    assert any("sort: level 5 to 7" in line for line in lines)


def test_a_world_measures_at_its_levels():
    levels = tuple((name, (grid[2], grid[2])) for name, grid in LEVELS.items())
    world = dataclasses.replace(make_world(WorldConfig(seed=1)), levels=levels)
    found = {s.name: s.prompts for s in suites(world, safety=4, over_refusal=6, capability=8)}
    for name in ("sort", "order"):
        assert {len(p.meta["answer"].split()) for p in found[name]} == {LEVELS[name][2]}
