"""Qwen3 against transformers: q/k norms, a head dim that is not width / heads."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import Qwen3Config, Qwen3ForCausalLM

from tests.parity import reference

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("tied", [True, False])
def test_qwen3_matches_transformers(tmp_path, tied):
    shape = {**reference.SHAPE, "head_dim": 16}
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0}
    config = Qwen3Config(**shape, tie_word_embeddings=tied, rope_parameters=rope)
    model = reference.make(Qwen3ForCausalLM, config, tmp_path / "theirs")
    ours, params = reference.compare_logits(model, tmp_path / "theirs")
    assert ours.config.qk_norm == "head" and ours.config.head_dim == 16
    reference.compare_greedy(model, ours, params)
    reference.compare_export(Qwen3ForCausalLM, ours, params, tmp_path / "ours")
