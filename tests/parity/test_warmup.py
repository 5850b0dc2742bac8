"""The warm-up rule "transformers" is what transformers' Trainer makes of a `warmup_ratio`.

Its rates are those of torch's LambdaLR with the schedules of transformers, and its number of
updates that of `TrainingArguments.get_warmup_steps`, for any length and ratio.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from jaxsafety.protocols import OptimConfig
from jaxsafety.train.optim import make_schedule

RATE = 1e-5


def theirs(tmp, name, steps, ratio):
    """The rate of each update: `scheduler.step()` comes after `optimizer.step()`."""
    given = transformers.TrainingArguments(str(tmp), warmup_steps=ratio, report_to=[])
    warm = given.get_warmup_steps(steps) if ratio else 0
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    kind = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}[name]
    scheduler = transformers.get_scheduler(kind, optimizer, warm, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.asarray(found)


def test_rates_are_those_of_transformers(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("args")

    @settings(max_examples=60, deadline=None)
    @given(
        st.sampled_from(["cosine", "linear", "constant"]),
        st.integers(1, 400),
        st.one_of(st.sampled_from([0.0, 0.03, 0.06, 0.1, 0.3]), st.floats(0, 0.99)),
    )
    def check(name, steps, ratio):
        config = OptimConfig(lr=RATE, schedule=name, warmup=ratio, warmup_rule="transformers")
        ours = np.asarray(make_schedule(config, steps)(np.arange(steps)))
        np.testing.assert_allclose(ours / RATE, theirs(tmp, name, steps, ratio) / RATE, atol=1e-6)

    check()
