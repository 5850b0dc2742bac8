"""The axis letters, executable: `check(x, "BTD", dims, "hidden")` at the seams.

The seams are what users call with arrays of their own: the losses, `Model.apply`, the sampler.
Sizes are static, so a check costs nothing inside jit and never touches values.
"""

from __future__ import annotations

from typing import Any

import chex

LETTERS = {
    "B": "sequences in batch",
    "T": "query or target positions",
    "S": "key/value positions",
    "P": "prompt length",
    "D": "model width",
    "N": "query heads, or rows of a loss",
    "K": "key/value heads",
    "G": "query heads per key/value head, N/K",
    "H": "head dimension",
    "F": "width of the feed-forward layer",
    "V": "vocabulary",
    "C": "size of a vocabulary subset",
    "L": "layers",
    "E": "experts",
    "R": "rank of an adapter",
    "M": "samples per prompt",
    "J": "judges",
}


def dimensions(**sizes: int) -> chex.Dimensions:
    """Starts a set of sizes, e.g. `dimensions(V=512)`; `check` binds the letters that are absent.

    Raises:
      ValueError: a letter outside `LETTERS`.
    """
    for letter in sizes:
        _require(letter)
    return chex.Dimensions(**sizes)


def check(x: Any, letters: str, dims: chex.Dimensions, name: str = "") -> None:
    """Asserts that `x` has one axis per letter and that the sizes agree with `dims`.

    A letter seen for the first time is bound to its size, so that later checks must agree with it.

    Args:
      x: anything with a `shape`.
      letters: for example "BTD"; a digit stands for itself.
      dims: from `dimensions()`; changed in place.
      name: what the message calls `x`.

    Raises:
      AssertionError: no array (a list, say), another rank or size; the message names the letter and
        its meaning.
      ValueError: a letter outside `LETTERS`.
    """
    name = f"{name}: " if name else ""
    if not hasattr(x, "shape"):
        kind = type(x).__name__
        raise AssertionError(f"{name}expected an array with axes {letters!r}, got {kind}")
    shape = tuple(x.shape)
    if len(shape) != len(letters):
        raise AssertionError(f"{name}expected axes {letters!r}, got shape {shape}")
    for letter, size in zip(letters, shape, strict=True):
        if letter.isdigit():
            expected = int(letter)
        else:
            meaning = _require(letter)
            if not hasattr(dims, letter):
                dims[letter] = (size,)
            expected = dims[letter][0]
            letter = f"{letter} ({meaning})"
        if size != expected:
            raise AssertionError(
                f"{name}{letters!r} with shape {shape}: {letter} is {expected}, got {size}"
            )


def _require(letter: str) -> str:
    if letter not in LETTERS:
        raise ValueError(f"axis letter {letter!r} is not in the glossary: {' '.join(LETTERS)}")
    return LETTERS[letter]
