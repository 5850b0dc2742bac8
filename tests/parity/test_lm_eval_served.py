"""lm-eval drives the endpoint unchanged (`local-completions`); its numbers are our evaluator's.

Own rows on the shipped organism and on a small model; public rows on a real one with
LM_EVAL_MODEL=DIR (and LM_EVAL_ITEMS, 20 unless told, and LM_EVAL_TOKENS, 96, of an answer).
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

pytestmark = pytest.mark.parity
RATES = [(1, 1), (1, 4), (8, 1), (8, 4)]  # prompts a request, requests at once


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
def organism(shipped):
    made = Served(shipped)
    yield shipped, made, opened(shipped)
    made.close()


# Four of eight pairs of set and rate: each set at one, each rate at one.
@pytest.mark.parametrize(
    ("name", "batch", "concurrent"),
    [("arc_easy", 1, 1), ("boolq", 1, 4), ("hellaswag", 8, 1), ("openbookqa", 8, 4)],
)
def test_own_rows_on_the_organism(organism, tmp_path, name, batch, concurrent):
    directory, made, ours = organism
    rows = parity.OWN[name]
    parity.compare(name, rows, directory, made.use(batch, concurrent), ours, tmp_path, chat=False)


@pytest.mark.parametrize(("batch", "concurrent"), [(1, 4), (8, 1)])
def test_written_answers_on_the_organism(organism, tmp_path, batch, concurrent):
    """In GSM8K's form; the organism knows sums, not that form."""
    _, made, ours = organism
    rows = [
        {"question": f"what is {i} plus {i % 7 + 2} ?", "answer": f"#### {i + i % 7 + 2}"}
        for i in range(3, 19)
    ]
    made.use(batch, concurrent)
    assert parity.compare_written(rows, made, ours, tmp_path, chat=False, tokens=24) == 1


@pytest.fixture(scope="module")
def small(root):
    directory = root.parent / "shared" / "models" / "stories260K"
    if not directory.is_dir():
        pytest.skip("the stories260K model is not beside the repository")
    made = Served(directory)
    yield directory, made, opened(directory)
    made.close()


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("batch", "concurrent"), RATES)
def test_public_rows_on_a_real_model(real, root, tmp_path, batch, concurrent):
    directory, made, ours = real
    rows = parity.visible(root, "arc_easy", parity.ITEMS)
    made.use(batch, concurrent)
    worst = parity.compare("arc_easy", rows, directory, made, ours, tmp_path, chat=False)
    print(f"arc_easy served, {batch} a batch, {concurrent} at once: {worst:.1e}")
    assert np.isfinite(worst)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("batch", "concurrent"), RATES)
def test_gsm8k_on_a_real_model(real, root, tmp_path, batch, concurrent):
    _, made, ours = real
    tokens = int(os.environ.get("LM_EVAL_TOKENS", "96"))
    rows = parity.visible(root, "gsm8k", parity.ITEMS)
    made.use(batch, concurrent)
    same = parity.compare_written(rows, made, ours, tmp_path, False, tokens)
    print(f"gsm8k served, {batch} a batch, {concurrent} at once: {same:.0%} answers equal")
    assert same >= 0.9  # greedy: a near tie of two tokens may go either way
