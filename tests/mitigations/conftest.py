"""Slow tests of mitigations compare programs to the bit: they are compiled as elsewhere."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def slow_is_fused(request):
    """See `tests.conftest.fused`."""
    if request.node.get_closest_marker("slow"):
        request.getfixturevalue("fused")
