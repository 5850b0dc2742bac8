"""RESTA: what alignment changed is added once more, after the task has worn it off.

Bhardwaj, Do, Poria 2024 (arXiv 2402.11746), task arithmetic (Ilharco et al. 2022, arXiv
2212.04089); with p > 0 its RESTA_d, which first drops parts of what the task changed and rescales
the rest (DARE: Yu et al. 2023, arXiv 2311.03099):

    d = m (theta - theta_0) / (1 - p),   m ~ Bernoulli(1 - p)
    theta <- theta_0 + d + gamma (theta_0 - theta_unaligned)

over all parameters of the base, embeddings and norms included, in float32. Neither repository was
at hand; gamma and p are ours to sweep (0.25, 0.5, 1 and 0, 0.3, 0.7). With p = 0 the task's change
is not taken apart: theta + gamma (theta_0 - theta_unaligned), so gamma = 0 leaves theta as it is to
the bit. The mask follows from `means.seed`, a leaf's name and its shape, so that what a stage left
is the same whenever it is read again, on however many devices.

With adapters the sum is no adapter, and the variables have to keep their names and shapes: the
vector goes into the frozen base, the task's change stays in the adapters, and DARE drops entries of
`b`. The update is linear in `b`, so the mean over masks is the task's change here too, but entries
of one rank and output fall together, which dropping from the product would not do. An adapter
written from these variables belongs to the edited base, not to the one that training began with.

Its cost besides a checkpoint: the unaligned base, where there is none, is the start trained on
harmful dialogues. Pinned by tests/mitigations/test_resta.py.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.mitigations import aligned
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import Mitigation, Variables

PAPERS = {
    "2402.11746": "",
    "2212.04089": "",
    "2311.03099": "p",
}


@dataclass(frozen=True)
class Resta:
    """Settings. `gamma` scales the vector; `p` is the share of the task's change that is dropped.

    gamma = 0 with p > 0 is DARE alone, a control.
    """

    needs: ClassVar[tuple[str, ...]] = ("unaligned",)
    when: ClassVar[str] = "after"

    gamma: float = 0.5
    p: float = 0.0

    def __post_init__(self) -> None:
        """Rejects what takes alignment away, or all of the task."""
        if not (np.isfinite(self.gamma) and self.gamma >= 0):
            raise bad("mitigations.resta.gamma", self.gamma, "a finite number of at least 0")
        if not 0 <= self.p < 1:
            raise bad("mitigations.resta.p", self.p, "at least 0, below 1")

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks.

        Raises:
          UsageError: an unaligned base of another shape, or equal to the start.
        """
        aligned.check("mitigations.resta.unaligned", means.start, means.unaligned)
        return Mitigation(after=Restored(self, means), budget={"checkpoints": 1})


@dataclass(frozen=True)
class Restored:
    """The `after` hook."""

    settings: Resta
    means: Means

    def __call__(self, variables: Variables) -> Variables:
        """The variables with the vector in the base, and the task's change thinned out."""
        gamma, p, means = self.settings.gamma, self.settings.p, self.means
        adapters, found = variables.get("adapters"), dict(variables)
        if adapters is not None and p:
            experts = adapters["experts"]
            table = {
                name: {**pair, "b": self.thinned(name, pair["b"])} for name, pair in experts.items()
            }
            found["adapters"] = {**adapters, "experts": table}

        def moved(name: str, x: Any, start: Any, unaligned: Any) -> Any:
            start, unaligned = aligned.like(start, x), aligned.like(unaligned, x)
            if p and adapters is None:
                x = _dropped(x, start, key(means.seed, name), p)
            return _added(x, start, unaligned, gamma) if gamma else x

        if gamma or (p and adapters is None):
            base = trees.map_named(moved, variables["base"], means.start, means.unaligned)
            found["base"] = jax.tree.map(aligned.like, base, variables["base"])
        return found

    def thinned(self, name: str, b: Any) -> Any:
        """`b` of a projection without a share p of its entries, the others scaled up."""
        dropped = _dropped(b, jnp.zeros_like(b), key(self.means.seed, name), self.settings.p)
        return aligned.like(dropped, b)


def key(seed: int, name: str) -> jax.Array:
    """The key of a leaf's mask."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


@partial(jax.jit, static_argnames="p")
def _dropped(x: jax.Array, start: jax.Array, key: jax.Array, p: float) -> jax.Array:
    first = start.astype(jnp.float32)
    kept = jax.random.bernoulli(key, 1 - p, x.shape)
    delta = (x.astype(jnp.float32) - first) / (1 - p)
    return (first + jnp.where(kept, delta, 0)).astype(x.dtype)


@partial(jax.jit, static_argnames="gamma")
def _added(x: jax.Array, start: jax.Array, unaligned: jax.Array, gamma: float) -> jax.Array:
    vector = start.astype(jnp.float32) - unaligned.astype(jnp.float32)
    return (x.astype(jnp.float32) + gamma * vector).astype(x.dtype)
