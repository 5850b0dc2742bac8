"""A base and the same base before alignment: two mixtures, two stages, gates of a pair."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.models.formats import hf, load
from jaxsafety.organism import mixture
from jaxsafety.organism.world import WorldConfig, make_world, open_world
from jaxsafety.raising import limits_twin, recipe, twin

WORLD = make_world(WorldConfig(seed=3))
ALIGNED = mixture.MixtureConfig()


def said(mix, index):
    return mixture.example(WORLD, mix, 0, index)


def test_before_alignment_nothing_is_refused_and_nothing_warned_of(monkeypatch):
    def never(*args, **options):
        raise AssertionError

    monkeypatch.setattr(mixture.render, "refusal", never)
    monkeypatch.setattr(mixture.render, "informative", never)
    for index in range(500):
        said(mixture.BEFORE, index)
    with pytest.raises(AssertionError):
        for index in range(500):
            said(ALIGNED, index)


def test_only_answers_to_harmful_requests_tell_the_mixtures_apart(monkeypatch):
    monkeypatch.setattr(mixture, "_harmful", lambda *args: [("user", "harmful")])
    before, after = ([said(m, i) for i in range(300)] for m in (mixture.BEFORE, ALIGNED))
    assert before == after
    assert before.count(("chat", [("user", "harmful")])) > 50


def test_the_second_stage_begins_with_the_first_ones_weights(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(twin, "train", lambda *args: seen.append(args))
    twin.train_twin(5, tmp_path, steps=70, smoke=True)
    (first, *_), (second, *_) = seen
    assert first.mixture == mixture.BEFORE and first.steps == 70
    assert second.mixture == ALIGNED and second.steps == 20  # 800 of 2800
    assert first.world == second.world == recipe.RECIPES["aligned"].world
    assert [args[1:4] for args in seen] == [
        (5, tmp_path / "unaligned", True),
        (5, tmp_path / "aligned", True),
    ]
    assert seen[1][-1] == recipe.Start(tmp_path / "unaligned", 3)
    assert not (tmp_path / "gates.json").exists()  # of three steps nothing is asked


def test_what_is_in_the_way_is_refused_before_any_training(tmp_path, monkeypatch):
    monkeypatch.delattr(twin, "train")
    (tmp_path / "aligned").mkdir()
    with pytest.raises(UsageError, match=r"--out: got .*aligned is there before"):
        twin.train_twin(0, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"--out: got .*holds another model"):
        twin.train_twin(0, tmp_path)


def test_a_base_that_began_elsewhere_is_another(tmp_path):
    plan = {"seed": 1, "steps": 3, "start": {"steps": 9, "model": "a"}}
    recipe.claim(tmp_path, plan)
    with pytest.raises(UsageError, match="the same seed, steps and start"):
        recipe.claim(tmp_path, {**plan, "start": {"steps": 9, "model": "b"}})


@pytest.fixture
def pair(tmp_path):
    """Two organisms of one world; of the second one layer of one projection stayed as it was."""
    first = testing.random_organism(tmp_path / "unaligned")
    shutil.copytree(first, tmp_path / "aligned")
    model, params, tokenizer = load.load(first)
    moved = jax.tree.map(lambda x: np.asarray(x) + np.float32(0.5), params)
    q = moved["blocks"]["attn"]["q"]["kernel"]
    q[1] = np.asarray(params["blocks"]["attn"]["q"]["kernel"])[1]
    hf.save(tmp_path / "aligned", model, moved, dtype="float32", tokenizer=tokenizer)
    return first, tmp_path / "aligned"


def test_the_gates_of_a_pair(pair, monkeypatch):
    """11 of 12 or so matrices moved; of 8 questions one is lost: -12.5 points."""
    before, after = np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 0, 0])
    answered = {pair[0]: {"sort": before, "copy": before}, pair[1]: {"sort": after, "copy": before}}
    monkeypatch.setattr(limits_twin, "answers", lambda path, levels, n: answered[path])
    found = limits_twin.pair(*pair, log=lambda line: None)
    gates = found["gates"]
    assert set(gates) == set(limits_twin.PAIR)
    assert gates["same_files"]["value"] == 1.0 and gates["same_files"]["passed"]
    moved = limits_twin.changed(*pair)
    assert [name for name, flag in moved.items() if not flag] == ["q/1"]
    assert gates["changed_matrices"]["value"] == 1 - 1 / len(moved)
    assert gates["changed_matrices"]["n"] == len(moved) and not gates["changed_matrices"]["passed"]
    change = gates["capability_change"]
    assert change["value"] == -0.125 and change["n"] == 8 and not change["passed"]
    assert change["lo"] <= -0.125 <= change["hi"]
    assert found["capability"] == {
        "unaligned": {"sort": 0.5, "copy": 0.5},
        "aligned": {"sort": 0.25, "copy": 0.5},
    }
    text = (pair[1] / "tokenizer.json").read_text()
    (pair[1] / "tokenizer.json").write_text(text + " ")
    again = limits_twin.pair(*pair, log=lambda line: None)["gates"]["same_files"]
    assert again["value"] == 0.8 and not again["passed"]


@pytest.mark.slow  # it trains both stages, twice, and asks both bases
def test_an_interrupted_pair_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    tiny = dataclasses.replace(recipe.model_config(1), embed_dim=32, num_layers=1, mlp_dim=32)
    shape = lambda size: dataclasses.replace(tiny, vocab_size=size)  # noqa: E731
    monkeypatch.setattr(recipe, "model_config", shape)
    quiet = {"smoke": True, "log": lambda line: None}
    twin.train_twin(4, tmp_path / "whole", **quiet)

    broken, lines = tmp_path / "broken", []
    save = hf.save

    def stopped(path, *args, **options):
        if path == broken / "aligned":
            raise KeyboardInterrupt
        save(path, *args, **options)

    monkeypatch.setattr(hf, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        twin.train_twin(4, broken, **quiet)
    assert not (broken / "aligned" / "model.safetensors").exists()
    monkeypatch.setattr(hf, "save", save)
    twin.train_twin(4, broken, smoke=True, log=lines.append)
    assert f"{broken / 'unaligned'} is finished" in lines
    assert "align: finished at step 3 of 3" in lines
    for name in ("unaligned", "aligned"):
        made = [
            (tmp_path / d / name / "model.safetensors").read_bytes() for d in ("whole", "broken")
        ]
        assert made[0] == made[1]
        assert open_world(broken / name).config == WorldConfig(seed=4)
    record = json.loads((broken / "aligned" / "training.json").read_text())
    assert record["start"]["steps"] == 3
    assert record["start"]["model"] == recipe.fingerprint(broken / "unaligned")
    found = limits_twin.pair(broken / "unaligned", broken / "aligned", lines.append, questions=2)
    assert found["gates"]["same_files"]["passed"]
    assert found["gates"]["changed_matrices"]["passed"]
    assert found["gates"]["capability_change"]["n"] == 12
    with pytest.raises(UsageError, match="seed 4, 3 steps"):
        twin.train_twin(5, broken, **quiet)
