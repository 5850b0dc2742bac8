"""tools/compare_models.py: KL of answers by the dense formula, weights by hand, bad input."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety
from jaxsafety import testing

CHATS = [("what is 2 plus 3 ?", "5"), ("hello", "you can not do that . it is not safe .")] * 5


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(directory of the organism, of one whose embedding moved, the two parameter trees)."""
    folder = tmp_path_factory.mktemp("models")
    model, params, tokenizer = jaxsafety.load()
    moved = jax.tree.map(lambda x: x, params)
    moved["final_norm"] = jax.tree.map(lambda x: x * 1.25, params["final_norm"])
    for name, tree in (("base", params), ("moved", moved)):
        jaxsafety.export(folder / name, model, tree, tokenizer, dtype="float32")
    return folder / "base", folder / "moved", params, moved


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    file = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]}
        for a, b in CHATS
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def dense(params, moved):
    """Mean KL(base || moved) over the tokens that are said, a dialogue at a time."""
    model, _, tokenizer = jaxsafety.load()
    found = []
    for asked, said in CHATS:
        chat = [jaxsafety.Message("user", asked), jaxsafety.Message("assistant", said)]
        ids, mask = jaxsafety.encode_example(tokenizer, chat)
        places = jnp.arange(len(ids))[None]
        told = [model.apply(p, jnp.asarray([ids]), places).hidden for p in (params, moved)]
        logs = [
            jax.nn.log_softmax(model.unembed(p, h)[0].astype(jnp.float32))
            for p, h in zip((params, moved), told, strict=True)
        ]
        kl = (jnp.exp(logs[0]) * (logs[0] - logs[1])).sum(-1)[:-1]
        found.append(np.asarray(kl)[np.asarray(mask[1:], bool)])
    return found


def test_what_differs_and_nothing_else(load_tool, models, chats, capsys):
    base, other, params, moved = models
    tool = load_tool("compare_models")
    assert tool.main([f"--base={base}", f"--chats={chats}", str(base), str(other)]) == 0
    same, differs = map(json.loads, capsys.readouterr().out.splitlines())
    assert (same["kl"], same["weights"], same["relative"]) == (0.0, 0.0, 0.0)
    expected = dense(params, moved)
    assert differs["tokens"] == sum(map(len, expected)) and differs["dialogues"] == len(CHATS)
    np.testing.assert_allclose(differs["kl"], np.concatenate(expected).mean(), rtol=1e-4)
    means = [x.mean() for x in expected]
    np.testing.assert_allclose(differs["kl_of_dialogues"], np.mean(means), rtol=1e-4)
    assert differs["kl_interval"][0] < np.mean(means) < differs["kl_interval"][1]
    norm = jax.tree.leaves(params["final_norm"])[0]
    total = sum(x.size for x in jax.tree.leaves(params))
    assert differs["weights"] == pytest.approx(norm.size / total)
    whole = sum(float(np.square(x, dtype=np.float64).sum()) for x in jax.tree.leaves(params))
    gap = np.square(0.25 * np.asarray(norm, np.float64)).sum()
    assert differs["relative"] == pytest.approx(float(np.sqrt(gap / whole)), rel=1e-5)


def test_bad_input_is_one_line(load_tool, models, chats, tmp_path, capsys):
    tool = load_tool("compare_models")
    assert tool.main([f"--base={models[0]}", f"--chats={tmp_path}/none.jsonl", "x"]) == 2
    assert "--chats" in capsys.readouterr().err
    assert tool.main([f"--base={models[0]}", f"--chats={chats}", f"{tmp_path}/none"]) == 2
    assert "none" in capsys.readouterr().err
    long = tmp_path / "long.jsonl"
    said = {"role": "assistant", "content": "you can not . " * 400}
    long.write_text(json.dumps({"messages": [{"role": "user", "content": "hello"}, said]}) + "\n")
    assert tool.main([f"--base={models[0]}", f"--chats={long}", str(models[1])]) == 2
    assert "--chats: got 'a dialogue of" in capsys.readouterr().err
    other = testing.random_organism(tmp_path / "other")
    assert tool.main([f"--base={models[0]}", f"--chats={chats}", str(other)]) == 2
    assert "models trained from it" in capsys.readouterr().err


def test_a_single_dialogue_has_no_interval(load_tool, models, tmp_path, capsys):
    one = tmp_path / "one.jsonl"
    asked, said = CHATS[0]
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    one.write_text(json.dumps({"messages": turns}) + "\n")
    tool = load_tool("compare_models")
    assert tool.main([f"--base={models[0]}", f"--chats={one}", str(models[1])]) == 0
    assert json.loads(capsys.readouterr().out)["kl_interval"] is None
