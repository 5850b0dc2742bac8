"""Names for the leaves of a pytree, and splitting a tree by regular expressions over those names.

A leaf's name is its keys joined by "/", for example "base/blocks/attn/q/kernel". A *part* of a tree
has the same structure with None in the holes; None is an empty subtree to JAX, so an optimizer
initialised on a part keeps no state for what is missing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import hosts
from jaxsafety.core.errors import bad

PyTree = Any


def path_name(path: Sequence[Any]) -> str:
    """The "/"-joined name of a key path of `jax.tree_util`."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def paths(tree: PyTree) -> list[str]:
    """Names of all leaves, in the order of `jax.tree.leaves`."""
    return [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


def insert(tree: dict[str, Any], name: str, value: Any) -> None:
    """Puts a leaf into nested dicts by its name, which are made where there are none."""
    *above, last = name.split("/")
    for key in above:
        tree = tree.setdefault(key, {})
    tree[last] = value


def map_named(fn: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`jax.tree.map` whose function gets the leaf's name first: `fn(name, leaf, *others)`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: fn(path_name(path), *leaves), tree, *rest
    )


def matches(pattern: str, name: str) -> bool:
    """Whether a regex covers a name: it matches the whole name or everything before a "/"."""
    return re.fullmatch(f"(?:{pattern})(?:/.*)?", name) is not None


def partition(
    tree: PyTree, patterns: Sequence[str], *, field: str = "stage.trainable"
) -> tuple[PyTree, PyTree]:
    """Splits a tree into (selected, rest); `combine` is the inverse.

    Args:
      tree: any pytree without None leaves.
      patterns: regexes over leaf names; "base" selects the whole subtree, "base/.*norm.*" a part.
      field: what to call the patterns in an error message.

    Returns:
      Two trees with the structure of `tree` and None in the holes.

    Raises:
      UsageError: no patterns, a malformed regex, or a regex that matches nothing.
    """
    names = paths(tree)
    if isinstance(patterns, str) or not patterns:
        raise bad(field, patterns, f"a non-empty list of regexes over {_some(names)}")
    for pattern in patterns:
        try:
            found = any(matches(pattern, name) for name in names)
        except re.error as error:
            raise bad(field, pattern, f"a regular expression ({error})") from error
        if not found:
            raise bad(
                field, pattern, f"a regex that matches a name; nearest: {_near(pattern, names)}"
            )

    def pick(wanted: bool) -> PyTree:
        return map_named(
            lambda name, x: x if any(matches(p, name) for p in patterns) == wanted else None, tree
        )

    return pick(True), pick(False)


def combine(first: PyTree, second: PyTree) -> PyTree:
    """Fills the None holes of `first` with the leaves of `second`. Nothing is copied."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, first, second, is_leaf=lambda x: x is None
    )


def without(variables: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The variables but one, if it is there."""
    return {key: value for key, value in variables.items() if key != name}


def count(tree: PyTree) -> int:
    """Number of scalars in all leaves; works on abstract trees too."""
    return sum(int(np.prod(np.shape(x))) for x in jax.tree.leaves(tree))


def norm(tree: PyTree) -> jax.Array:
    """Global L2 norm of all leaves as a float32 scalar; 0 for an empty tree."""
    squares = [jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros((), jnp.float32)))


def copy(tree: PyTree) -> PyTree:
    """New buffers for every leaf, so that donating the copy leaves the original alive."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)


def diff(first: PyTree, second: PyTree, *, limit: int = 20) -> str:
    """Says how two trees differ: missing names, shapes, dtypes, values; "" if they do not."""
    a, b = (dict(zip(paths(t), jax.tree.leaves(t), strict=True)) for t in (first, second))
    lines = [f"- {name}" for name in a if name not in b]
    lines += [f"+ {name}" for name in b if name not in a]
    for name in a:
        if name not in b:
            continue
        x, y = a[name], b[name]
        given = (np.shape(x), str(jnp.result_type(x)))
        other = (np.shape(y), str(jnp.result_type(y)))
        if given != other:
            lines.append(f"~ {name}: {given[1]}{list(given[0])} -> {other[1]}{list(other[0])}")
        elif not isinstance(x, jax.ShapeDtypeStruct) and not isinstance(y, jax.ShapeDtypeStruct):
            left, right = host(x), host(y)
            if not np.array_equal(left, right, equal_nan=left.dtype.kind == "f"):
                gap = np.max(np.abs(left.astype(np.float64) - right.astype(np.float64)))
                lines.append(f"~ {name}: max |difference| {gap:.3g}")
    if len(lines) > limit:
        lines = [*lines[:limit], f"... and {len(lines) - limit} more"]
    return "\n".join(lines)


def host(leaf: Any) -> np.ndarray:
    """A leaf as numpy, whole; random keys become their integer data. See `hosts.gather`."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return hosts.gather(leaf) if isinstance(leaf, jax.Array) else np.asarray(leaf)


def _near(pattern: str, names: Sequence[str]) -> str:
    # Compare with the names and with every parent, so that "base/blok" finds "base/blocks".
    options = {"/".join(n.split("/")[:i]) for n in names for i in range(1, n.count("/") + 2)}
    close = difflib.get_close_matches(pattern, sorted(options), n=4, cutoff=0.3)
    return ", ".join(close) if close else _some(names)


def _some(names: Sequence[str], limit: int = 4) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
