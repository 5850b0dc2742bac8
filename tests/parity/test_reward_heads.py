"""Classifier heads beside transformers' `*ForSequenceClassification`: equal numbers, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.judges.guards.reward import open_reward
from tests.judges.guards.published import exchange
from tests.parity import reference

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity
CONFIGS = {
    "Llama": "LlamaConfig",
    "Mistral": "MistralConfig",
    "Qwen2": "Qwen2Config",
    "Qwen3": "Qwen3Config",
    "Gemma2": "Gemma2Config",
}
SAID = [exchange(said="It is two." * n, number=n) for n in range(1, 4)]


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("family", CONFIGS)
def test_numbers_are_transformers(tmp_path, family, labels):
    names = ["safe", "odd", "unsafe"][:labels]
    shape = {**reference.SHAPE, "vocab_size": 264, "tie_word_embeddings": False}
    config = getattr(transformers, CONFIGS[family])(
        **shape, num_labels=labels, id2label=dict(enumerate(names))
    )
    model = reference.make(
        getattr(transformers, f"{family}ForSequenceClassification"), config, tmp_path
    )
    ByteTokenizer().save(tmp_path)
    judge = open_reward(str(tmp_path))
    for said, verdict in zip(SAID, judge(SAID), strict=True):
        ids = judge.weights.tokenizer.encode(judge.write(said, said.response))
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double()
        wanted = logits[0] if labels == 1 else logits.softmax(-1)[2]
        assert np.isclose(verdict["score"], float(wanted), rtol=1e-3, atol=1e-4)
