"""Heads, adapters and exports beside transformers and PEFT: equal logits, and what is refused."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxsafety import cli
from jaxsafety.adapters import lora
from jaxsafety.core.errors import UsageError
from jaxsafety.models.formats import hf, peft
from tests.parity import reference

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pefts = pytest.importorskip("peft")
TABLE, HEAD = "model.embed_tokens.weight", "lm_head.weight"
CONFIGS = {
    "Llama": "LlamaConfig",
    "Mistral": "MistralConfig",
    "Qwen2": "Qwen2Config",
    "Qwen3": "Qwen3Config",
    "Gemma2": "Gemma2Config",
    "Gemma3": "Gemma3TextConfig",
    "Olmo2": "Olmo2Config",
}


def made(path, family="Llama", **changes):
    shape = {**reference.SHAPE, "tie_word_embeddings": True, **changes}
    config = getattr(transformers, CONFIGS[family])(**shape)
    return reference.make(getattr(transformers, f"{family}ForCausalLM"), config, path)


def rewrite(path, change):
    file = path / hf.WEIGHTS
    tensors = safetensors.numpy.load_file(file)
    change(tensors)
    safetensors.numpy.save_file(tensors, file, metadata={"format": "pt"})


def theirs(model, tokens):
    with torch.no_grad():
        return model.eval()(torch.tensor(tokens)).logits.float().numpy()


def ours(path, tokens):
    model, params = hf.load(path)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return model.unembed(params, model.apply(params, jnp.asarray(tokens), positions).hidden)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("case", ["other head", "equal head", "head alone"])
def test_what_a_tied_config_hides(tmp_path, family, case):
    made(tmp_path / "m", family)
    noise = np.random.default_rng(0).normal(size=(120, 32)).astype(np.float32)

    def change(tensors):
        tensors[HEAD] = tensors[TABLE] + (noise if case == "other head" else 0)
        if case == "head alone":
            del tensors[TABLE]

    rewrite(tmp_path / "m", change)
    read = transformers.AutoModelForCausalLM.from_pretrained
    tokens, _ = reference.prompts()
    expected = theirs(read(tmp_path / "m"), tokens)
    np.testing.assert_allclose(ours(tmp_path / "m", tokens), expected, atol=2e-4)
    model, params = hf.load(tmp_path / "m")
    assert model.config.tie_embeddings == (case != "other head")
    hf.save(tmp_path / "out", model, params, dtype="float32")
    again, info = read(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    np.testing.assert_allclose(theirs(again, tokens), expected, atol=2e-4)


def test_a_head_that_peft_merged(tmp_path):
    """Merging a LoRA on lm_head unties the weights; an old config.json still says tied."""
    base = made(tmp_path / "m")
    options = pefts.LoraConfig(r=4, target_modules=["lm_head", "q_proj"], task_type="CAUSAL_LM")
    wrapped = pefts.get_peft_model(base, options)
    with torch.no_grad():
        for name, value in wrapped.named_parameters():
            if "lora_" in name:
                value.copy_(0.2 * torch.randn_like(value))
    wrapped.save_pretrained(tmp_path / "adapter")
    model, _ = hf.load(tmp_path / "m")
    with pytest.raises(UsageError, match="merge_and_unload"):
        peft.load_adapter(tmp_path / "adapter", model)
    wrapped.merge_and_unload().save_pretrained(tmp_path / "merged")
    file = tmp_path / "merged" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tie_word_embeddings": True}))
    tokens, _ = reference.prompts()
    expected = theirs(
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), tokens
    )
    np.testing.assert_allclose(ours(tmp_path / "merged", tokens), expected, atol=2e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embedding"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, "modules_to_save"),
        ({"target_modules": ["q_proj"], "trainable_token_indices": [1, 2]}, "trainable_token"),
    ],
)
def test_what_peft_can_and_we_cannot(tmp_path, options, words):
    base = made(tmp_path / "m", tie_word_embeddings=False)
    wrapped = pefts.get_peft_model(base, pefts.LoraConfig(**options, r=4, task_type="CAUSAL_LM"))
    wrapped.save_pretrained(tmp_path / "adapter")
    model, _ = hf.load(tmp_path / "m")
    with pytest.raises(UsageError, match=words) as caught:
        peft.load_adapter(tmp_path / "adapter", model)
    line = str(caught.value)
    assert "merge it with PEFT" in line and "unknown in this model" not in line


def test_an_embedding_saved_beside_the_adapter(tmp_path):
    base = made(tmp_path / "m")
    options = pefts.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    wrapped = pefts.get_peft_model(base, options)
    wrapped.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    model, _ = hf.load(tmp_path / "m")
    with pytest.raises(UsageError, match="saved") as caught:
        peft.load_adapter(tmp_path / "adapter", model)
    assert "unknown in this model" not in str(caught.value)


def test_known_keys_are_pefts_own():
    import dataclasses

    fields = {f.name for f in dataclasses.fields(pefts.LoraConfig)}
    assert peft.KNOWN | set(peft.REFUSED) >= fields - {"runtime_config"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_peft_finds_the_base_of_our_adapter(tmp_path, monkeypatch, dtype):
    made(tmp_path / "m")
    model, params = hf.load(tmp_path / "m", dtype=dtype)
    tree = lora.init_experts(jax.random.key(0), model.projections, layers=3, rank=4)
    tree = jax.tree.map(lambda x: x + 0.2 * jax.random.normal(jax.random.key(1), x.shape), tree)
    tree["scale"] = jnp.full((3,), 0.5)
    monkeypatch.chdir(tmp_path)
    peft.save_adapter(tmp_path / "adapter", model, tree, base="m")
    monkeypatch.chdir("/")
    tokens, _ = reference.prompts()
    loaded = pefts.AutoPeftModelForCausalLM.from_pretrained(
        tmp_path / "adapter", dtype=torch.float32
    )
    plain, _ = hf.load(tmp_path / "m")
    again = peft.load_adapter(tmp_path / "adapter", plain)
    merged = lora.merge(params, again, plain.projections)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden = plain.apply(merged, jnp.asarray(tokens), positions).hidden
    np.testing.assert_allclose(plain.unembed(merged, hidden), theirs(loaded, tokens), atol=2e-4)


def test_an_exported_adapter_is_what_peft_merges(tmp_path):
    base = made(tmp_path / "m")
    from jaxsafety.data.tokens.tokenizer import ByteTokenizer

    base.resize_token_embeddings(264)
    base.save_pretrained(tmp_path / "m")
    ByteTokenizer().save(tmp_path / "m")
    options = pefts.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    wrapped = pefts.get_peft_model(base, options)
    with torch.no_grad():
        for name, value in wrapped.named_parameters():
            if "lora_" in name:
                value.copy_(0.2 * torch.randn_like(value))
    wrapped.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    tokens, _ = reference.prompts()
    expected = theirs(wrapped, tokens)
    argv = ["export", f"--model={tmp_path / 'm'}", f"--adapter={tmp_path / 'adapter'}"]
    assert cli.main([*argv, f"--out={tmp_path / 'out'}"]) == 0
    exported = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    np.testing.assert_allclose(theirs(exported, tokens), expected, atol=2e-4)
