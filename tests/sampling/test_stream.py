"""Token by token, the answers are those of `generate`, and programs are one pair per width."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.models import api
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import SampleConfig, Served
from jaxsafety.sampling import many, stream
from jaxsafety.testing import tiny_model

STOP = (3, 7, 11, 12, 40, 41, 42)


class Pad:
    pad_id = 0


@pytest.fixture(scope="module")
def tiny():
    return tiny_model("llama")


def prompt(length, seed=0):
    return np.random.default_rng(seed).integers(1, 200, length).tolist()


def generated(model, what, cfg, ids, **kwargs):
    more = {"layers": what.layers, "steer": what.steer, **kwargs}
    [[answer]] = many.generate(model, what.params, Pad(), [ids], cfg, **more)
    return answer


@pytest.mark.parametrize(("steer", "unroll"), [("all", True), ("prompt", False)])
def test_answers_are_those_of_generate(tiny, steer, unroll):
    model, params = tiny
    model = api.build(replace(model.config, unroll=unroll))
    layers = LayerInputs(add=jnp.zeros((3, 32)).at[1, 0].set(4.0))
    what, lengths = Served(params, layers, steer), set()
    for heat in (0.0, 3.0):
        cfg = SampleConfig(12, heat, stop=STOP)
        said = stream.Stream(model, what, cfg, pad_id=0)
        for turn, length in enumerate((5, 64, 70)):
            ids = prompt(length, turn)
            found = list(said.tokens(ids, seed=4, step=turn))
            answer = generated(model, what, cfg, ids, seed=4, step=turn)
            assert found == answer.ids
            assert (len(found) == 12) == (not answer.finished)
            lengths.add(len(found))
    assert len(lengths) > 1  # some end of themselves


def test_programs_are_one_pair_per_width(tiny):
    model, params = tiny
    traced = []

    def counting(*args, **kwargs):
        traced.append(1)
        return model.apply(*args, **kwargs)

    spy = replace(model, apply=counting)
    said = stream.Stream(spy, Served(params), SampleConfig(8, 0.0), pad_id=0)
    counts = []
    for turn, length in enumerate((3, 20, 64, 65, 100, 128, 9)):
        fresh = said.fresh(length)
        assert len(list(said.tokens(prompt(length), seed=0, step=turn))) == 8
        counts.append(len(traced))
        assert fresh == (length in (3, 65)) and not said.fresh(length)
    assert counts == [2, 2, 2, 4, 4, 4, 4]  # a prefill and a step each


def test_both_programs_are_compiled_before_the_first_token(tiny, monkeypatch):
    model, params = tiny
    steps = []
    monkeypatch.setattr(stream, "_step", lambda *args: steps.append(args) or args[2])
    said = stream.Stream(model, Served(params), SampleConfig(3, 0.0), pad_id=0)
    ids = said.tokens(prompt(4), seed=0, step=0)
    assert not steps
    next(ids)
    assert len(steps) == 1
    assert len(list(ids)) == 2 and len(steps) == 2  # and none for the last one


def test_widths_are_few_and_end_at_the_longest_prompt():
    assert stream.widths(40) == (40,)
    assert stream.widths(128) == (64, 128)
    assert stream.widths(8000) == (64, 128, 256, 512, 1024, 2048, 4096, 8000)


@pytest.mark.parametrize("length", [0, 249])
def test_prompts_that_do_not_fit_are_told(tiny, length):
    model, params = tiny
    said = stream.Stream(model, Served(params), SampleConfig(8, 0.0), pad_id=0)
    assert said.limit == 248
    with pytest.raises(UsageError, match="^prompt: got"):
        list(said.tokens(prompt(length), seed=0, step=0))
