"""The frontier is the minimum it says it is."""

import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.benchmarks.frontier import Trade, trace

rates = st.integers(0, 8).map(lambda x: x / 8)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.builds(Trade, rates | st.none(), rates | st.none()), max_size=12), rates)
def test_the_frontier_by_brute_force(trades, c):
    found = trace(trades)
    known = [t for t in trades if None not in (t.capability, t.unsafe)]
    assert found.at(c) == min((t.unsafe for t in known if t.capability >= c), default=None)
    assert found.unknown == len(trades) - len(known)
    for a, b in itertools.pairwise(found.points):
        assert a.capability < b.capability and a.unsafe < b.unsafe
    assert set(found.points) <= set(trades)


def test_the_frontier_of_a_sweep():
    sweep = [
        Trade(0.9, 0.5, "plain"),
        Trade(0.8, 0.2, "weak"),
        Trade(0.8, 0.2, "twin"),
        Trade(0.7, 0.3, "beaten"),
        Trade(0.5, 0.0, "strong"),
        Trade(math.nan, 0.0, "lost"),
    ]
    found = trace(sweep)
    assert [t.name for t in found.points] == ["strong", "weak", "plain"] and found.unknown == 1
    assert [found.at(c) for c in (0, 0.5, 0.51, 0.8, 0.9, 0.91)] == [0, 0, 0.2, 0.2, 0.5, None]
    assert trace([]).at(0.0) is None
