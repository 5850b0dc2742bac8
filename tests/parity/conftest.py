"""What is compared with other libraries is compiled as users compile it (see ../conftest.py)."""

from __future__ import annotations

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def optimized(fused):
    """All of XLA's optimizations and its newer emitters, which the other tests do without."""
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, False)
    yield
    jax.config.update(name, before)
