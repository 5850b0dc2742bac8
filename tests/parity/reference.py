"""What both parity files do: a random transformers model on disk, compared with ours."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.models.api import init_cache
from jaxsafety.models.formats import hf

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SHAPE = dict(
    vocab_size=120,
    hidden_size=32,
    intermediate_size=56,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=128,
    initializer_range=0.3,  # larger than usual: sharper attention, larger logits
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
)

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def make(cls, config, path, dtype=None):
    """A random model with non-trivial norms and biases, saved to `path`."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    reference = cls(config).eval()
    with torch.no_grad():
        for name, value in reference.named_parameters():
            if "norm" in name or name.endswith("bias"):
                value.add_(0.2 * torch.randn_like(value))
    if dtype is not None:
        reference = reference.to(dtype)
    reference.save_pretrained(path, safe_serialization=True)
    return reference


def prompts(seed=0, batch=3, length=40):
    """Token ids [B,T] and left-padding counts [B]."""
    tokens = np.random.default_rng(seed).integers(1, 120, (batch, length))
    pads = np.array([0, 5, 23])
    return np.where(np.arange(length)[None] < pads[:, None], 0, tokens), pads


def compare_logits(reference, path):
    """Logits of a plain and of a left-padded batch agree to 1e-4; returns (model, params)."""
    model, params = hf.load(path)
    tokens, pads = prompts()
    run = jax.jit(
        lambda t, p, s: model.unembed(params, model.apply(params, t, p, segments=s).hidden)
    )
    columns = np.arange(tokens.shape[1])[None]
    for starts in (np.zeros(3, int), pads):
        kept = columns >= starts[:, None]
        positions = np.maximum(columns - starts[:, None], 0)
        with torch.no_grad():
            expected = reference(
                torch.tensor(tokens),
                attention_mask=torch.tensor(kept.astype(np.int64)),
                position_ids=torch.tensor(positions),
            ).logits.numpy()
        ours = np.asarray(run(jnp.array(tokens), jnp.array(positions), jnp.array(kept, jnp.int32)))
        assert np.abs(expected).max() > 2.0
        assert np.abs(ours - expected)[kept].max() <= 1e-4
    return model, params


def compare_greedy(reference, model, params, new=32):
    """Cached greedy decoding of a left-padded batch gives the ids of `generate` and full passes."""
    tokens, pads = prompts(seed=1)
    batch, length = tokens.shape
    mask = (np.arange(length)[None] >= pads[:, None]).astype(np.int64)
    with torch.no_grad():
        expected = reference.generate(
            torch.tensor(tokens),
            attention_mask=torch.tensor(mask),
            max_new_tokens=new,
            do_sample=False,
        ).numpy()[:, length:]
    step = jax.jit(lambda t, p, s, c: model.apply(params, t, p, segments=s, cache=c))
    cache = init_cache(model.config, batch, length + new)
    positions = np.maximum(np.arange(length)[None] - pads[:, None], 0)
    out = step(jnp.array(tokens), jnp.array(positions), jnp.array(mask, jnp.int32), cache)
    ids, hidden = [], []
    for t in range(new):
        hidden.append(np.asarray(out.hidden[:, -1]))
        ids.append(model.unembed(params, out.hidden[:, -1]).argmax(-1))
        following = jnp.array(length + t - pads)[:, None]
        out = step(ids[-1][:, None], following, jnp.ones((batch, 1), jnp.int32), out.cache)
    ours = np.stack(ids, 1)
    np.testing.assert_array_equal(ours, expected)
    whole = np.concatenate([tokens, ours], 1)
    for row, pad in enumerate(pads):
        alone = jnp.array(whole[row : row + 1, pad:])
        full = model.apply(params, alone, jnp.arange(alone.shape[1])[None]).hidden[0]
        cached = np.stack(hidden, 1)[row]
        np.testing.assert_allclose(cached, full[length - pad - 1 : -1], atol=2e-5)


def compare_export(cls, model, params, path):
    """What we write, transformers reads completely, with the same logits."""
    hf.save(path, model, params, dtype="float32")
    exported, info = cls.from_pretrained(path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    tokens, _ = prompts(seed=2)
    with torch.no_grad():
        expected = exported.eval()(torch.tensor(tokens)).logits.numpy()
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden = model.apply(params, jnp.array(tokens), positions).hidden
    np.testing.assert_allclose(model.unembed(params, hidden), expected, atol=1e-4)


def old_style(path):
    """Rewrites a config.json to `rope_theta` + `rope_scaling`, as transformers 4 wrote it."""
    file = path / "config.json"
    config = json.loads(file.read_text())
    table = config.pop("rope_parameters")
    config["rope_theta"] = table.pop("rope_theta")
    config["rope_scaling"] = None if table["rope_type"] == "default" else table
    file.write_text(json.dumps(config))
