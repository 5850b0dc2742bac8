"""Names, partition and its errors, norms, diff."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.errors import UsageError


def variables():
    return {
        "base": {
            "blocks": {"attn": {"q": {"kernel": jnp.ones((2, 3))}}, "norm": {"scale": jnp.ones(4)}},
            "embed": {"table": jnp.full((2, 2), 2.0)},
        },
        "adapters": {"router": jnp.zeros(3), "experts": {"q": jnp.ones((2, 2))}},
    }


def test_names_are_joined_by_slashes():
    assert trees.paths(variables()) == [
        "adapters/experts/q",
        "adapters/router",
        "base/blocks/attn/q/kernel",
        "base/blocks/norm/scale",
        "base/embed/table",
    ]


@pytest.mark.parametrize(
    ("patterns", "selected"),
    [
        (["adapters/router"], ["adapters/router"]),
        (["base"], ["base/blocks/attn/q/kernel", "base/blocks/norm/scale", "base/embed/table"]),
        (["base/.*"], ["base/blocks/attn/q/kernel", "base/blocks/norm/scale", "base/embed/table"]),
        ([".*/scale", "adapters/experts/.*"], ["adapters/experts/q", "base/blocks/norm/scale"]),
    ],
)
def test_partition_selects_and_combine_inverts(patterns, selected):
    tree = variables()
    trainable, frozen = trees.partition(tree, patterns)
    assert trees.paths(trainable) == selected
    assert sorted(trees.paths(trainable) + trees.paths(frozen)) == trees.paths(tree)
    again = trees.combine(trainable, frozen)
    assert again["base"]["embed"]["table"] is tree["base"]["embed"]["table"]  # nothing is copied
    assert trees.diff(again, tree) == ""


def test_a_pattern_is_not_a_bare_string_prefix():
    with pytest.raises(UsageError, match="base"):
        trees.partition(variables(), ["bas"])  # "bas" is a prefix of the text, not of the path


@pytest.mark.parametrize("patterns", [[], "base", ["base", "base/blok/.*"], ["base/("]])
def test_partition_refuses_bad_patterns_in_one_line(patterns):
    with pytest.raises(UsageError) as error:
        trees.partition(variables(), patterns)
    assert str(error.value).startswith("stage.trainable: got ")
    assert "\n" not in str(error.value)


def test_partition_error_names_the_nearest():
    with pytest.raises(UsageError, match="nearest: .*base/blocks"):
        trees.partition(variables(), ["base/blok"])


def test_norm_and_count_ignore_holes():
    tree = {"a": jnp.array([3.0]), "b": None, "c": jnp.array([[4.0]], jnp.bfloat16)}
    assert float(trees.norm(tree)) == 5.0
    assert trees.count(tree) == 2
    assert float(trees.norm({})) == 0.0


def test_diff_names_every_kind_of_difference():
    one = {"a": jnp.ones(2), "b": jnp.ones(2), "c": jnp.ones(3), "same": jnp.zeros(1)}
    two = {"a": jnp.ones(2) + 0.5, "c": jnp.ones((3, 1)), "d": jnp.ones(1), "same": jnp.zeros(1)}
    lines = trees.diff(one, two).splitlines()
    assert lines == [
        "- b",
        "+ d",
        "~ a: max |difference| 0.5",
        "~ c: float32[3] -> float32[3, 1]",
    ]


def test_copy_has_its_own_buffers():
    tree = {"a": jnp.arange(3.0)}
    other = trees.copy(tree)
    other["a"].delete()
    np.testing.assert_array_equal(tree["a"], np.arange(3.0))
