"""Names of slices, and the larger ones of the same generation."""

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.planning import topology


def test_every_listed_slice_parses_and_they_ascend():
    for generation, shapes in topology.SLICES.items():
        slices = [topology.parse(f"{generation}:{shape}") for shape in shapes]
        chips = [t.chips for t in slices]
        assert chips == sorted(set(chips))
        assert slices[0].chip.memory > 15 * topology.GIB
        assert topology.larger(slices[1]) == tuple(slices[2:])
        assert topology.larger(slices[-1]) == ()
    assert topology.parse("v5p:2x2x4").chips == 16


@pytest.mark.parametrize("name", ["v5p", "v5p:2x2", "v9:2x2", "", "v5e:3x3"])
def test_others_are_refused_with_the_list(name):
    with pytest.raises(UsageError, match="--topology: got") as caught:
        topology.parse(name)
    assert "v5p:" in str(caught.value) or "v5e:" in str(caught.value)


# What libtpu 0.0.42.1 said of a program that fits nowhere, by device.
SAID = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries"
USABLE = {"v5e": 15.75, "v5p": 95.74, "v6e": 31.25, "tpu7x": 94.75}


@pytest.mark.parametrize("generation", USABLE)
def test_memory_is_what_the_compiler_allows(generation):
    allowed = int(USABLE[generation] * topology.GIB)
    assert topology.CHIPS[generation].memory == allowed
    words = f"{SAID} (1.00T) exceeds available HBM ({USABLE[generation]}G)."
    assert topology.limit(words) == allowed
    assert topology.read_needed(words) == 1 << 40
    words = "RESOURCE_EXHAUSTED: Used 17.50G of 15.75G hbm. Exceeded hbm capacity by 1.75G."
    assert topology.limit(words) == int(15.75 * topology.GIB)
    assert topology.read_needed(words) == int(17.5 * topology.GIB)
    assert topology.limit("INTERNAL: something else") == 0


def test_a_chip_of_tpu7x_is_two_devices():
    where = topology.parse("tpu7x:2x2x1")
    assert (where.chips, where.chip.devices) == (4, 2)
    assert topology.larger(where)[0].name == "tpu7x:2x2x2"


@pytest.mark.parametrize("generation", USABLE)
def test_the_table_is_what_the_installed_compiler_says(generation):
    pytest.importorskip("libtpu")
    where = topology.parse(f"{generation}:{topology.SLICES[generation][0]}")
    topology.usable.cache_clear()
    assert len(topology.devices(where)) == where.chips * where.chip.devices
    assert topology.usable(where) == where.chip.memory
