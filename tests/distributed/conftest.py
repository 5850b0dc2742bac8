"""Meshes are compared within 1e-5: compiled with the newer emitters, as elsewhere."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def newer(fused):
    """See `tests.conftest.fused`."""
