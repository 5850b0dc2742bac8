"""Every further family against transformers: three variants each, random and tiny.

What differs between the variants is what the family has switches for: GQA ratio, tied heads,
biases, windows shorter than the sequence, RoPE scaling, the head dimension.
"""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import transformers

from tests.parity import reference

pytestmark = pytest.mark.parity
PLAIN = {"rope_type": "default", "rope_theta": 10_000.0}
LINEAR = {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0}
BOTH = {"full_attention": LINEAR, "sliding_attention": {**PLAIN, "rope_theta": 500.0}}
FULL, NEAR = "full_attention", "sliding_attention"
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}

CASES = [
    ("Qwen2", UNTIED),
    ("Qwen2", {**TIED, "num_key_value_heads": 1, "rope_parameters": reference.LLAMA3}),
    ("Qwen2", {**TIED, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    ("Qwen3", {**UNTIED, "num_key_value_heads": 4, "attention_bias": True}),
    ("Qwen3", {**TIED, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2}),
    ("Mistral", {**UNTIED, "sliding_window": 9}),
    ("Mistral", {**UNTIED, "sliding_window": None, "head_dim": 16}),
    ("Mistral", {**TIED, "sliding_window": 2, "num_key_value_heads": 1}),
    ("Gemma2", {"sliding_window": 9, "query_pre_attn_scalar": 16}),
    ("Gemma2", {"sliding_window": 64, "num_key_value_heads": 4, "attn_logit_softcapping": 2.0}),
    (
        "Gemma2",
        {
            "sliding_window": 5,
            "layer_types": [FULL, NEAR, FULL],
            "head_dim": 16,
            "final_logit_softcapping": None,
            "attn_logit_softcapping": None,
        },
    ),
    ("Gemma3", {"sliding_window": 9, "layer_types": [NEAR, NEAR, FULL], "rope_parameters": BOTH}),
    ("Gemma3", {"sliding_window": 6, "query_pre_attn_scalar": 24, "num_key_value_heads": 1}),
    (
        "Gemma3",
        {"layer_types": [FULL] * 3, "attention_bias": True, "final_logit_softcapping": 5.0},
    ),
    ("Olmo2", {**UNTIED, "num_key_value_heads": 4}),
    ("Olmo2", {**TIED, "num_key_value_heads": 2, "attention_bias": True}),
    ("Olmo2", {**UNTIED, "num_key_value_heads": 1, "rope_parameters": reference.LLAMA3}),
    ("Llama", {**UNTIED, "num_key_value_heads": 4, "rms_norm_eps": 1e-5}),  # Llama 2
]


@pytest.mark.parametrize(("family", "changes"), CASES)
def test_a_family_matches_transformers(tmp_path, family, changes):
    names = f"{family}TextConfig" if family == "Gemma3" else f"{family}Config"
    cls = getattr(transformers, f"{family}ForCausalLM")
    shape = {**reference.SHAPE, **changes}
    if family in ("Qwen2", "Olmo2"):  # their head dimension is width / heads
        shape.pop("head_dim")
    config = getattr(transformers, names)(**shape)
    model = reference.make(cls, config, tmp_path / "theirs")
    ours, params = reference.compare_logits(model, tmp_path / "theirs")
    reference.compare_greedy(model, ours, params)
    reference.compare_export(cls, ours, params, tmp_path / "ours")
