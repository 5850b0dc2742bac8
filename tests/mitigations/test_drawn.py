"""Dialogues that are carried: without the columns that are padding, and the same loss of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core import trees
from jaxsafety.losses.logprobs import nll
from jaxsafety.mitigations import began
from jaxsafety.mitigations.drawn import WIDTHS, Carried, narrowed
from tests.mitigations import aligning, chats


@pytest.mark.parametrize(("width", "expected"), [(6, 6), (8, 8), (20, 8)])
def test_columns_of_padding_are_left_out(width, expected):
    given = chats.batch_of([chats.chat((1, 2), (3, 4, 5), width), chats.chat((1,), (2,), width)])
    found = narrowed(given)
    assert all(x.shape == (2, expected) for x in jax.tree.leaves(found))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(given), strict=True):
        np.testing.assert_array_equal(a, b[:, :expected])


def test_a_token_that_is_not_learnt_stays():
    given = chats.batch_of([chats.chat((1, 2), (3, 4, 5), 20)])
    given.segments[0, 8] = 1  # what a template says behind the answer
    assert narrowed(given).tokens.shape == (1, 2 * WIDTHS)


def test_the_loss_of_what_is_carried_is_that_of_whole_rows():
    model, params = testing.tiny_model("qwen3")
    whole = jax.tree.map(jnp.asarray, aligning.dialogues(4, 3, width=40, top=200))
    carried = Carried(chats.means(safe=whole), ("safe",))(None)["safe"]
    assert carried.tokens.shape == (4, 16)

    @jax.jit
    def loss(params, rows):
        hidden = began.forward(model, {"base": params}, rows).hidden
        return nll(hidden, model.head(params), rows.tokens, rows.weight)[0]

    value, grads = jax.value_and_grad(loss)(params, carried)
    expected, others = jax.value_and_grad(loss)(params, whole)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    gap = jax.tree.map(lambda a, b: a - b, grads, others)
    assert trees.norm(gap) < 1e-6 * trees.norm(others)
