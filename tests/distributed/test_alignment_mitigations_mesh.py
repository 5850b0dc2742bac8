"""Mitigations of the alignment stage: eight devices equal one, for both kinds of training.

Compared are gradients at moved parameters: where circuit breakers begin, rounding alone decides.
"""

import pytest

from jaxsafety.mitigations.booster import Booster
from jaxsafety.mitigations.circuit_breakers import CircuitBreakers
from jaxsafety.mitigations.vaccine import Vaccine
from tests.mitigations import aligning

pytestmark = pytest.mark.distributed

SETTINGS = (
    Vaccine(0.5),
    Vaccine(0.5, random=True),
    Booster(),
    CircuitBreakers(over=2, layers=(1,)),
)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(("shape", "rank"), [((8, 1, 1), 0), ((2, 2, 2), 2), ((1, 8, 1), 0)])
def test_eight_devices_equal_one(settings, shape, rank):
    def make(shards):
        return settings.mitigation(aligning.means(shards=shards))

    aligning.check_eight(make, shape, rank, moved=0.02)
