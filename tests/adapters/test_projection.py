"""The algebra of a projection's equation."""

from __future__ import annotations

import pytest

from jaxsafety.adapters import projection
from jaxsafety.adapters.projection import Projection

OUT = Projection("btnh,nhd->btd", (4, 8, 32), ("heads", "head_dim", "embed"), ("attn", "o"))
QUERY = Projection("btd,dnh->btnh", (32, 4, 8), ("embed", "heads", "head_dim"), ("attn", "q"))


def test_inputs_and_outputs_come_from_the_equation():
    assert projection.in_shape(OUT) == (4, 8) and projection.out_shape(OUT) == (32,)
    assert projection.in_shape(QUERY) == (32,) and projection.out_shape(QUERY) == (4, 8)
    assert projection.fan_in(OUT) == 32


def test_factor_shapes_axes_and_equations():
    assert projection.lora_shapes(OUT, 3, 2) == {"a": (3, 4, 8, 2), "b": (3, 2, 32)}
    assert projection.expert_axes(OUT)["a"] == ("layers", "expert", "heads", "head_dim", "rank")
    assert projection.delta_equations(QUERY) == ("btd,edr->bter", "bter,ernh->btnh")
    assert projection.merge_equation(OUT) == "lenhr,lerd,e->lnhd"


def test_outputs_before_inputs_are_refused():
    with pytest.raises(ValueError, match="inputs followed by"):
        projection.split(Projection("btd,hd->bth", (8, 32), ("head_dim", "embed")))
