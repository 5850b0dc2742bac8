"""Judges that are models: what each keeps on the chip that judges, and its largest batch there.

A guard is not split: its weights lie on the first device, beside that device's share of the run, as
long as the run lasts; so they count as "held" in every program. Those of `eval.judge` and those
that train (Self-MOA's scores) stay; each mention is a copy of its own.
Letters: B prompts, P slots of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxsafety import registry
from jaxsafety.core import trees
from jaxsafety.judges.guards import reading
from jaxsafety.models.api import Model, build
from jaxsafety.models.formats import hf
from jaxsafety.planning.floor import Rows

PyTree = Any

MODULES = "jaxsafety.judges.guards."  # of the judges that are models
TEMPLATE = 1024  # tokens of a guard's own words, at most; Llama Guard's categories are the longest
ROOM = 64  # tokens that a guard answers in, at most
DTYPE = "bfloat16"  # that guards compute in on a chip, and are kept in where no weights tell


class Guard(NamedTuple):
    """A guard by NAME=WHERE; `model` and `params` (shapes) are None where `cause` says why."""

    text: str
    model: Model | None = None
    params: PyTree = None
    cause: str = ""

    @property
    def name(self) -> str:
        """Of the judge."""
        return self.text.partition("=")[0].strip()

    @property
    def weights(self) -> int:
        """Bytes, 0 where they are not known."""
        return trees.count(self.params) * jax.numpy.dtype(self.dtype).itemsize

    @property
    def dtype(self) -> str:
        """That its weights are kept in."""
        leaves = jax.tree.leaves(self.params)
        return leaves[0].dtype.name if leaves else DTYPE


def named(texts: Sequence[str]) -> list[Guard]:
    """The guards among judges.

    Args:
      texts: NAME or NAME=WHERE each. A guard's place is read for its shape, which needs no weights.

    Raises:
      UsageError: a place whose config.json is none that we know.
    """
    found = []
    for text in texts:
        name, _, where = (part.strip() for part in text.partition("="))
        if registry.JUDGES.get(name, "").startswith(MODULES):
            found.append(_read(text, where))
    return found


def _read(text: str, where: str) -> Guard:
    place = Path(where)
    if not where or not place.exists():
        return Guard(text, cause=f"no directory {where!r} here, whose config.json says its shape")
    weighed = place.is_file() or any(place.glob("*.safetensors"))
    kept = hf.stored_dtype(place) if weighed else DTYPE
    kept = kept if kept == DTYPE else "float32"
    model = build(replace(hf.read_config(place), dtype=DTYPE))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, kept), shapes)
    return Guard(text, model, params)


def asked(model: Model, tokens: int) -> Rows:
    """A batch of the longest prompts: the guard's own words and a dialogue of so many tokens."""
    limit = reading.longest(model, ROOM)
    wanted = min(TEMPLATE + tokens, limit)
    width = next(width for width in reading.widths(limit) if width >= wanted)
    return Rows(reading.ROWS, width)


def flops(model: Model, params: PyTree, rows: Rows) -> float:
    """FLOPs of reading a batch: 2 a parameter and token, and attention's."""
    c = model.config
    table = 0 if c.tie_embeddings else c.vocab_size * c.embed_dim
    each = trees.count(params) - table + c.num_layers * c.num_heads * c.head_dim * rows.tokens
    return 2 * rows.rows * rows.tokens * each
