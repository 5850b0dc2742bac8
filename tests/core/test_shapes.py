import jax
import jax.numpy as jnp
import pytest

from jaxsafety.core import shapes


def test_binds_and_compares():
    dims = shapes.dimensions(V=7)
    shapes.check(jnp.zeros((2, 3, 5)), "BTD", dims)
    shapes.check(jnp.zeros((5, 7)), "DV", dims)
    shapes.check(jnp.zeros((2, 1)), "B1", dims)
    assert dims["BTDV"] == (2, 3, 5, 7)
    with pytest.raises(AssertionError, match=r"T \(query or target positions\) is 3, got 4"):
        shapes.check(jnp.zeros((2, 4)), "BT", dims)
    with pytest.raises(AssertionError, match="^expected axes"):
        shapes.check(jnp.zeros((2, 3)), "BTD", dims)
    with pytest.raises(AssertionError, match="^hidden: expected axes"):
        shapes.check(jnp.zeros((2, 3)), "BTD", dims, "hidden")


def test_letters_are_those_of_the_glossary():
    with pytest.raises(ValueError, match="'Q' is not in the glossary"):
        shapes.check(jnp.zeros((2,)), "Q", shapes.dimensions())
    with pytest.raises(ValueError):
        shapes.dimensions(Z=1)


def test_works_under_jit():
    @jax.jit
    def double(x):
        shapes.check(x, "BT", shapes.dimensions(B=2))
        return 2 * x

    assert double(jnp.ones((2, 3))).shape == (2, 3)
    with pytest.raises(AssertionError):
        double(jnp.ones((3, 3)))
