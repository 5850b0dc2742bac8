"""What a mitigation needs, what it cannot be chained with, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import TokenBatch
from jaxsafety.mitigations.anchor import Anchor
from jaxsafety.mitigations.means import Means, build, draw, factor, missing
from jaxsafety.models.api import build as build_model
from jaxsafety.protocols import Mitigation
from jaxsafety.testing import tiny_config


@dataclass(frozen=True)
class Twin:
    needs: ClassVar[tuple[str, ...]] = ("unaligned",)
    apart: ClassVar[dict[str, str]] = {"anchor": "both move the same parameters"}

    def mitigation(self, means):
        return Mitigation(budget={"checkpoints": float(means.unaligned)})


@pytest.fixture(scope="module")
def tiny():
    model = build_model(tiny_config())
    return model, model.init(jax.random.key(0))


def test_what_is_missing_is_said(tiny):
    model, params = tiny
    means = Means(model, params)
    assert missing(Twin(), means) == "no unaligned base"
    assert not missing(Anchor(), means)
    with pytest.raises(UsageError, match=r"mitigations\.twin.*no unaligned base"):
        build({"twin": Twin()}, means)
    with pytest.raises(UsageError, match="nothing at hand.*unaligned base"):
        build({"twin": Twin()})
    with pytest.raises(UsageError, match="twin with anchor.*both move the same parameters"):
        build({"anchor": Anchor(), "twin": Twin()}, Means(model, params, unaligned=1))


def test_a_chain_of_two(tiny):
    model, params = tiny
    other = type("Other", (Twin,), {"apart": {}})()
    both = build({"other": other, "anchor": Anchor()}, Means(model, params, unaligned=2))
    assert both.budget == {"checkpoints": 2.0, "copies": 1}
    assert build({}) == Mitigation()


def test_a_draw_weighs_one():
    ids = jnp.arange(12).reshape(3, 4)
    weight = jnp.array([[0, 0, 0.5, 0.5], [0, 0, 0, 1], [0, 0.25, 0.25, 0.5]])
    rows = draw(TokenBatch(ids, ids % 4, jnp.ones_like(ids), weight), jax.random.key(0), 5)
    assert rows.tokens.shape == (5, 4)
    np.testing.assert_allclose(rows.weight.sum(), 1, rtol=1e-6)
    for row, given in zip(rows.tokens, rows.weight, strict=True):
        source = int(row[0]) // 4
        np.testing.assert_array_equal(given, weight[source] / 5)


def test_the_factor_of_a_step():
    assert factor({}) == 1
    assert factor({"gradients": 2, "forwards": 1.5, "copies": 3}) == 3.5
