"""Guards in a plan: which judges are models, what they keep, and that it is held by the others."""

from __future__ import annotations

import json

import jax
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import load_config
from jaxsafety.core.errors import UsageError
from jaxsafety.planning import floor, guards, plan, program, table, topology

SELFMOA = "configs/selfmoa/llama3_2_1b.py"


@pytest.fixture
def place(tmp_path):
    """A small Llama's config.json without weights."""
    told = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
    }
    (tmp_path / "config.json").write_text(json.dumps(told))
    return tmp_path


def test_guards_are_the_judges_that_are_models(place):
    texts = ["rules", f"llama_guard3={place}", "classifier=x", "wildguard=absent", "qwen3guard"]
    found = guards.named(texts)
    assert [guard.name for guard in found] == ["llama_guard3", "wildguard", "qwen3guard"]
    known, absent, nowhere = found
    assert known.weights == 2 * trees.count(known.params) > 0 and not known.cause
    assert absent.model is None and "no directory 'absent' here" in absent.cause
    assert nowhere.weights == 0 and nowhere.cause


def test_a_place_without_a_shape_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"config\.json"):
        guards.named([f"llama_guard3={tmp_path}"])


def test_a_batch_is_of_the_longest_prompts_that_are_allowed(place):
    (guard,) = guards.named([f"llama_guard3={place}"])
    assert guards.asked(guard.model, 512) == floor.Rows(8, 1536)
    assert guards.asked(guard.model, 513) == floor.Rows(8, 2048)
    assert guards.asked(guard.model, 10**6).tokens == 4096 - guards.ROOM
    c, rows = guard.model.config, floor.Rows(8, 1536)
    multiplied = trees.count(guard.params) - c.vocab_size * c.embed_dim
    attention = c.num_layers * c.num_heads * c.head_dim * 1536
    expected = 2 * 8 * 1536 * (multiplied + attention)
    assert guards.flops(guard.model, guard.params, rows) == expected


def test_what_a_guard_keeps_is_held_by_every_program(place, monkeypatch):
    """All but the compiler is real; two mentions are two copies."""

    def compiled(lower, memory, where, mesh, held, trips=1):
        needed = sum(memory.values()) + held
        limit = topology.usable(where)
        return program.Program({**memory, "held": held}, needed, limit, {}, unknown="a fake")

    monkeypatch.setattr(topology, "devices", lambda where: jax.devices())
    monkeypatch.setattr(program, "_compiled", compiled)
    text = f"llama_guard3={place}"
    quiet = {"search": False, "log": lambda text: None}
    plain = plan.plan(load_config(SELFMOA, ["eval.judge=wildguard=absent"]), "h100:8", **quiet)
    assert set(plain["programs"]) == {"step", "rollout"}
    assert "not counted: the judge wildguard=absent" in table.table(plain)
    options = [f"method.scores.safety={text}", f"eval.judge={text}"]
    judged = plan.plan(load_config(SELFMOA, options), "h100:8", **quiet)
    (guard,) = guards.named([text])
    for name in ("step", "rollout"):
        more, less = (found["programs"][name]["hbm_per_chip"]["held"] for found in (judged, plain))
        assert more - less == 2 * guard.weights
    own = judged["programs"]["guard llama_guard3"]["hbm_per_chip"]
    kept = sum(plain["programs"]["step"]["hbm_per_chip"][k] for k in ("parameters", "optimizer"))
    assert own["parameters"] == guard.weights and own["held"] > kept + guard.weights
    assert judged["rows"]["guard llama_guard3"]["tokens"] == 1536
