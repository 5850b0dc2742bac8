"""inspect_ai drives the endpoint unchanged (`openai-api`); each answer is the model's own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import jaxsafety

inspect_ai = pytest.importorskip("inspect_ai")
pytest.importorskip("openai")
pytest.importorskip("uvicorn")

pytestmark = [pytest.mark.parity, pytest.mark.slow]


@pytest.fixture(scope="module")
def url():
    command = [sys.executable, "-m", "jaxsafety", "serve", "--port=0", "--max-tokens=24"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    yield process.stdout.readline().split(" at ")[1].split(" ")[0]
    process.terminate()
    process.wait(30)


@pytest.mark.parametrize("concurrent", [1, 4])
def test_every_item_has_our_answer_and_our_verdict(url, tmp_path, monkeypatch, concurrent):
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate

    monkeypatch.setenv("SERVED_API_KEY", "unused")
    monkeypatch.setenv("SERVED_BASE_URL", url)
    asked = {f"what is {i} plus {i % 7 + 2} ?": str(i + i % 7 + 2) for i in range(3, 23)}
    dataset = [Sample(input=text, target=right) for text, right in asked.items()]
    log = inspect_ai.eval(
        Task(dataset=dataset, solver=[generate()], scorer=includes()),
        model="openai-api/served/organism",
        temperature=0.0,
        max_connections=concurrent,
        log_dir=str(tmp_path),
        display="none",
    )[0]
    assert log.status == "success" and len(log.samples) == len(asked)
    model, params, tokenizer = jaxsafety.load()
    cfg = jaxsafety.SampleConfig(24, 0.0, stop=tuple(tokenizer.eos_ids))
    prompts = [
        jaxsafety.encode_prompt(tokenizer, [jaxsafety.Message("user", text)]) for text in asked
    ]
    said = jaxsafety.generate(model, params, tokenizer, prompts, cfg, seed=0)
    right = {text: tokenizer.decode(a[0].ids) for text, a in zip(asked, said, strict=True)}
    for sample in log.samples:
        assert sample.output.completion == right[sample.input]
        correct = asked[sample.input] in right[sample.input]
        assert (sample.scores["includes"].value == "C") == correct
