"""LoRA directories both ways: what peft saves gives our model peft's logits, and the reverse."""

from __future__ import annotations

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

import jaxsafety
from jaxsafety import cli
from jaxsafety.adapters import lora
from jaxsafety.models.api import LayerInputs
from jaxsafety.models.formats import hf
from jaxsafety.models.formats.peft import load_adapter, save_adapter
from jaxsafety.testing import random_checkpoint
from tests.parity import reference

pytestmark = pytest.mark.parity
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "all": dict(r=4, lora_alpha=8, target_modules=ALL),
    "rslora": dict(r=9, lora_alpha=3, target_modules=["q_proj", "down_proj"], use_rslora=True),
    "patterns": dict(
        r=4,
        lora_alpha=4,
        target_modules=["q_proj", "v_proj", "up_proj"],
        rank_pattern={"v_proj": 2, r"layers\.1\.self_attn\.q_proj": 3},
        alpha_pattern={"up_proj": 16},
    ),
    "one_layer": dict(r=2, lora_alpha=2, target_modules=["o_proj"], layers_to_transform=[1]),
}


def base_at(path, family):
    shape = dict(reference.SHAPE)
    if family == "Qwen2":
        shape.pop("head_dim")
    config = getattr(transformers, f"{family}Config")(**shape, tie_word_embeddings=False)
    return reference.make(getattr(transformers, f"{family}ForCausalLM"), config, path)


def logits_of(module, tokens):
    with torch.no_grad():
        return module.eval()(torch.tensor(tokens)).logits.numpy()


def ours_of(model, params, adapters, tokens):
    layers = LayerInputs(adapters=jax.tree.map(jnp.asarray, adapters))
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    out = model.apply(params, jnp.array(tokens), positions, layers=layers)
    return np.asarray(model.unembed(params, out.hidden))


@pytest.mark.parametrize("family", ["Llama", "Qwen2"])
@pytest.mark.parametrize("case", CASES)
def test_what_peft_saved(tmp_path, case, family):
    base = base_at(tmp_path / "base", family)
    tokens, _ = reference.prompts()
    plain = logits_of(base, tokens)
    wrapped = get_peft_model(base, LoraConfig(**CASES[case], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, value in wrapped.named_parameters():
            if "lora_" in name:
                value.copy_(0.2 * torch.randn_like(value))
    expected = logits_of(wrapped, tokens)
    assert np.abs(expected - plain).max() > 0.1
    wrapped.save_pretrained(tmp_path / "adapter")
    model, params = hf.load(tmp_path / "base")
    adapters = load_adapter(tmp_path / "adapter", model)
    assert np.abs(ours_of(model, params, adapters, tokens) - expected).max() <= 1e-4
    # and out again, into peft
    save_adapter(tmp_path / "again", model, adapters, base=str(tmp_path / "base"))
    fresh = type(base).from_pretrained(tmp_path / "base")
    loaded = PeftModel.from_pretrained(fresh, tmp_path / "again")
    assert np.abs(logits_of(loaded, tokens) - expected).max() <= 1e-4


@pytest.mark.parametrize("expert", [0, 2])
def test_what_we_save(tmp_path, expert):
    base = base_at(tmp_path / "base", "Llama")
    model, params = hf.load(tmp_path / "base")
    tree = lora.init_experts(
        jax.random.key(0), model.projections, layers=3, experts=3, rank=5, scale=0.7
    )
    tree = jax.tree.map(lambda x: x + 0.2 * jax.random.normal(jax.random.key(1), x.shape), tree)
    save_adapter(tmp_path / "adapter", model, tree, expert=expert)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 5 and sorted(config["target_modules"]) == sorted(ALL)
    tokens, _ = reference.prompts()
    one = {
        "experts": jax.tree.map(lambda x: x[:, expert : expert + 1], tree["experts"]),
        "scale": tree["scale"],
    }
    expected = ours_of(model, params, one, tokens)
    assert np.abs(expected - logits_of(base, tokens)).max() > 0.1
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert np.abs(logits_of(loaded, tokens) - expected).max() <= 1e-4


def test_transformers_loads_what_was_exported_beside_its_card(tmp_path):
    base = random_checkpoint(tmp_path / "base")
    model, params, _ = jaxsafety.load(base)
    layers = model.config.num_layers
    tree = lora.init_experts(jax.random.key(0), model.projections, layers=layers, rank=2)
    tree = jax.tree.map(lambda x: x + 0.1, tree)
    save_adapter(tmp_path / "adapter", model, tree, unsafe=True)
    out = tmp_path / "out"
    command = ["export", f"--model={base}", f"--adapter={tmp_path / 'adapter'}", f"--out={out}"]
    assert cli.main([*command, "--unsafe"]) == 0
    tokens, _ = reference.prompts()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out)
    merged = lora.merge(params, tree, model.projections)
    ours = ours_of(model, merged, None, tokens)
    np.testing.assert_allclose(logits_of(theirs, tokens), ours, atol=2e-4)
    template = transformers.AutoTokenizer.from_pretrained(out).chat_template
    assert hashlib.sha256(template.encode()).hexdigest() in (out / "README.md").read_text()
