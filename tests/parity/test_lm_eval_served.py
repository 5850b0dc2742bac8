"""lm-eval drives the endpoint unchanged (`local-completions`); its numbers are our evaluator's.

Own rows on the shipped organism; public rows on a real model with LM_EVAL_MODEL=DIR (and
LM_EVAL_ITEMS, 20 unless told).
"""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety

pytest.importorskip("lm_eval")
pytest.importorskip("uvicorn")

from tests.parity import test_lm_eval as parity

pytestmark = [pytest.mark.parity, pytest.mark.slow]


class Served:
    """lm-eval's `local-completions` against a server of a directory."""

    def __init__(self, directory, batch=1, concurrent=1, tokenized=True):
        from lm_eval.models.openai_completions import LocalCompletionsAPI

        command = [sys.executable, "-m", "jaxsafety", "serve", f"--model={directory}", "--port=0"]
        self.process = subprocess.Popen(
            [*command, "--name=served"], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = line.split(" at ")[1].split(" ")[0]
        model, _, tokenizer = jaxsafety.load(directory)
        self.settings = dict(
            model="served",
            base_url=f"{self.url}/completions",
            tokenizer=str(directory),
            tokenizer_backend="huggingface",
            tokenized_requests=tokenized,
            max_length=int(model.config.max_length),
            # `local-completions` adds none unless told; lm-eval's `hf` and our evaluator do.
            add_bos_token=tokenizer.encode("a", add_special=True)[0] == tokenizer.bos_id,
        )
        self.kind = LocalCompletionsAPI
        self.use(batch, concurrent)

    def use(self, batch, concurrent):
        settings = {**self.settings, "batch_size": batch, "num_concurrent": concurrent}
        self.model = self.kind(**settings)
        return self

    samples = parity.Theirs.samples

    def close(self):
        self.process.terminate()
        assert self.process.wait(30) in (0, -15, 143)


def opened(directory):
    model, params, tokenizer = jaxsafety.load(directory)
    return model, jax.tree.map(lambda x: x.astype(jnp.float32), params), tokenizer


@pytest.fixture(scope="module")
def small(root):
    directory = root.parent / "shared" / "models" / "stories260K"
    if not directory.is_dir():
        pytest.skip("the stories260K model is not beside the repository")
    made = Served(directory)
    yield directory, made, opened(directory)
    made.close()


@pytest.mark.parametrize(("batch", "concurrent"), [(1, 1), (8, 4)])
@pytest.mark.parametrize("name", ["arc_easy", "boolq", "hellaswag"])
def test_own_rows_on_a_small_model(small, tmp_path, name, batch, concurrent):
    directory, made, ours = small
    rows = parity.OWN[name]
    parity.compare(name, rows, directory, made.use(batch, concurrent), ours, tmp_path, chat=False)


@pytest.fixture(scope="module")
def real():
    directory = os.environ.get("LM_EVAL_MODEL")
    if not directory:
        pytest.skip("LM_EVAL_MODEL names no directory of a model")
    made = Served(directory)
    yield directory, made, opened(directory)
    made.close()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("batch", "concurrent"), [(1, 1), (8, 4)])
def test_public_rows_on_a_real_model(real, root, tmp_path, batch, concurrent):
    directory, made, ours = real
    rows = parity.visible(root, "arc_easy", parity.ITEMS)
    worst = parity.compare(
        "arc_easy", rows, directory, made.use(batch, concurrent), ours, tmp_path, chat=False
    )
    print(f"arc_easy served, {batch} a batch, {concurrent} at once: {worst:.1e}")
    assert np.isfinite(worst)
