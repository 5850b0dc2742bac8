"""Numbers that no run can use: one line before anything is read, and never a run without an end."""

from __future__ import annotations

import time

import pytest

from jaxsafety import testing
from jaxsafety.core import config
from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import record, setting

NAN = "a finite number, also in float32"
SHARE = "a share between 0 and 1"
SELECT = "method.direction.select"


@pytest.mark.parametrize(
    ("name", "override", "line"),
    [
        ("safesteer", "method.temperature=nan", f"method.temperature: got nan; allowed: {NAN}"),
        ("safesteer", "optim.eps=1e300", f"optim.eps: got 1e+300; allowed: {NAN}"),
        ("safesteer", f"{SELECT}.kl=nan", f"{SELECT}.kl: got nan; allowed: {NAN}"),
        ("safesteer", f"{SELECT}.refusal=2", f"select.refusal: got 2.0; allowed: {SHARE}"),
        ("safesteer", f"{SELECT}.coherent=-1", f"select.coherent: got -1.0; allowed: {SHARE}"),
        ("safesteer", f"{SELECT}.prune=0", "select.prune: got 0.0; allowed: a share of the layers"),
        ("safesteer", f"{SELECT}.coefficients=1e400", f"config.{SELECT}.coefficients: got inf"),
        ("safesteer", f"{SELECT}.coefficients=0", "select.coefficients: got (0.0,); allowed:"),
        ("safesteer", "method.tokens.votes.floor=1", "votes.floor: got 1.0; allowed: a probab"),
        ("safesteer", "method.tokens.votes.temperature=-1", "votes.temperature: got -1.0"),
        ("safesteer", "method.direction.temperature=-1", "method.direction.temperature: got -1.0"),
        ("sft", "method.alpha=inf", f"method.alpha: got inf; allowed: {NAN}"),
        ("sft", "method.steps=99999999999", "method.steps: got 99999999999; allowed: an integer"),
        ("safemoe", "method.std=inf", f"method.std: got inf; allowed: {NAN}"),
        ("safemoe", "method.experts.answers=200000", "method.experts.answers: got 200000"),
        ("safemoe", "method.samples=200000", "method.samples: got 200000; allowed: at most"),
        ("sft", "program=sfd", "program, a method: got 'sfd'; allowed: 'sft'? known:"),
    ],
)
def test_values_that_no_run_can_use(root, name, override, line):
    with pytest.raises(UsageError) as caught:
        file = root / "configs" / name / "organism.py"
        record.typed(config.load_config(f"{file}:smoke", [override]))
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("seed", [2**32, 2**32 + 1, 2**70])
def test_a_seed_beyond_32_bits_would_be_another_seed(tmp_path, seed):
    with pytest.raises(UsageError, match=r"^seed: got \d+; allowed: an integer, 0 or more, of 32"):
        setting.make(tmp_path, setting.DataConfig(), setting.EvalConfig(), seed)


@pytest.mark.parametrize(
    ("data", "measure", "line"),
    [
        ({"train": 50_000}, {}, "data.train: number of harmful_train prompts: got 50000"),
        ({"val": 50_000}, {}, "data.val: number of harmful_val prompts: got 50000; allowed: at"),
        ({"prompts": 50_000}, {}, "data.prompts: number of distil prompts: got 50000"),
        ({"dialogues": 50_000}, {}, "data.dialogues: number of harmful_train prompts"),
        ({}, {"safety": 50_000}, "eval.safety, eval.over_refusal, eval.capability: number of"),
        ({"train": 2**31}, {}, "data.train: got 2147483648; allowed: 1 or more, at most"),
        ({}, {"capability": 2**31}, "eval.capability: got 2147483648; allowed: 1 or more, at most"),
    ],
)
def test_more_than_the_organism_has_ends_soon(model, data, measure, line):
    started = time.process_time()
    with pytest.raises(UsageError) as caught:
        setting.make(model, setting.DataConfig(**data), setting.EvalConfig(**measure), 0)
    assert str(caught.value).startswith(line)
    assert time.process_time() - started < 30


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))
