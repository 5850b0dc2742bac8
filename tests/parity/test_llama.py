"""Llama 3 against transformers: GQA, llama3 RoPE scaling, tied and untied, biases, bf16 files."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.parity import reference

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("tied", [True, False])
def test_llama3_matches_transformers(tmp_path, tied):
    config = LlamaConfig(
        **reference.SHAPE,
        tie_word_embeddings=tied,
        attention_bias=not tied,
        rms_norm_eps=1e-5,
        rope_parameters=reference.LLAMA3,
    )
    model = reference.make(LlamaForCausalLM, config, tmp_path / "theirs")
    ours, params = reference.compare_logits(model, tmp_path / "theirs")
    assert dict(ours.config.rope_scaling)["factor"] == 8.0
    reference.compare_greedy(model, ours, params)
    reference.compare_export(LlamaForCausalLM, ours, params, tmp_path / "ours")


def test_old_rope_style_and_bfloat16_files(tmp_path):
    config = LlamaConfig(
        **reference.SHAPE, tie_word_embeddings=False, rope_parameters=reference.LLAMA3
    )
    reference.make(LlamaForCausalLM, config, tmp_path, dtype=torch.bfloat16)
    reference.old_style(tmp_path)
    model = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    reference.compare_logits(model, tmp_path)
