"""Names of slices, and the larger ones of the same generation."""

import pytest

from jaxsafety import topology
from jaxsafety.errors import UsageError


def test_every_listed_slice_parses_and_they_ascend():
    for generation, shapes in topology.SLICES.items():
        slices = [topology.parse(f"{generation}:{shape}") for shape in shapes]
        chips = [t.chips for t in slices]
        assert chips == sorted(set(chips))
        assert slices[0].chip.memory >= 16 * topology.GIB
        assert topology.larger(slices[1]) == tuple(slices[2:])
        assert topology.larger(slices[-1]) == ()
    assert topology.parse("v5p:2x2x4").chips == 16


@pytest.mark.parametrize("name", ["v5p", "v5p:2x2", "v9:2x2", "", "v5e:3x3"])
def test_others_are_refused_with_the_list(name):
    with pytest.raises(UsageError, match="--topology: got") as caught:
        topology.parse(name)
    assert "v5p:" in str(caught.value) or "v5e:" in str(caught.value)
