"""SafeLoRA: what the task changed is projected onto what alignment changed, where the two differ.

Hsu et al. 2024 (arXiv 2405.16833). For each adapted matrix, as the paper writes it [out,in], with
V = W_start - W_unaligned and the task's change dW:

    C = V V^T / ||V||_F                            "paper"
    C = U U^T, U the left singular vectors of V    "orthogonal"
    cos = <C dW, dW> / (||C dW|| ||dW||)

The `layers` matrices of smallest cosine, or all with cos <= tau, take C dW in place of dW; the
others are kept to the bit. Read in a stored public copy of IBM/SafeLoRA's class `SafeLoRA` (its
header says Apache-2.0; the index does not say of which commit), which does this as B <- C B of LoRA
and has both ways to select, "number" and "threshold"; 10 and 0.5 are its defaults.

C of the paper is no projector: its eigenvalues are sigma_i^2 / ||V||_F, so it shrinks with V and
comes near to deleting dW. Hence three modes beside it, to tell the direction from the size:
"orthogonal", a projector, onto as many singular vectors as hold `energy` of ||V||_F^2 (our choice;
all of them would be the identity where out <= in); "delete", which takes the matrices that "paper"
selects back to the start; and `rescale`, which gives C dW the norm of dW.

What differs from the code: kernels here are [in,out], so C stands on the right, dW C = (dW V^T) V /
||V||_F with V [in,out], and is never made; cosines are not rounded, and of equal ones the first is
taken, so that `layers` matrices change and no more; each expert of a stack is a matrix of its own;
a matrix that alignment, or the task, did not change has no cosine and is kept (the code compares a
NaN, which keeps it too). Without adapters in the variables, all of `model.projections` are edited
as W <- W_start + C dW; embeddings, norms and biases are left as the task made them.

Pinned by tests/mitigations/test_safelora.py (against numpy in the layout [out,in]).
Letters: L layers, E experts (1 without adapters), I inputs, O outputs, R rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.adapters import projection
from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.mitigations import aligned
from jaxsafety.mitigations.means import Means
from jaxsafety.protocols import Mitigation, Variables

PAPERS = {"2405.16833": ""}

PyTree = Any
MODES = ("paper", "orthogonal", "delete")


@dataclass(frozen=True)
class SafeLora:
    """Settings.

    Attributes:
      mode: "paper", "orthogonal" or "delete".
      layers: how many matrices are projected, those of smallest cosine; 0: by `tau`.
      tau: the largest cosine that is projected, where `layers` is 0.
      energy: share of ||V||_F^2 that "orthogonal" keeps.
      rescale: whether C dW gets the norm of dW.
    """

    needs: ClassVar[tuple[str, ...]] = ("unaligned",)
    when: ClassVar[str] = "after"
    apart: ClassVar[dict[str, str]] = {
        "resta": "its vector would be taken for what the task changed, and projected"
    }

    mode: str = "paper"
    layers: int = 10
    tau: float = 0.5
    energy: float = 0.9
    rescale: bool = False

    def __post_init__(self) -> None:
        """Rejects what selects nothing, or no projection."""
        field = "mitigations.safelora"
        if self.mode not in MODES:
            raise bad(f"{field}.mode", self.mode, ", ".join(MODES))
        if self.layers < 0:
            raise bad(f"{field}.layers", self.layers, "a number of matrices, or 0 for `tau`")
        if not 0 < self.tau <= 1:
            raise bad(f"{field}.tau", self.tau, "above 0 (nothing is selected), at most 1")
        if not 0 < self.energy <= 1:
            raise bad(f"{field}.energy", self.energy, "above 0, at most 1")
        if self.rescale and self.mode == "delete":
            raise bad(f"{field}.rescale", True, "False: what is deleted has no norm")

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks.

        Raises:
          UsageError: an unaligned base of another shape, or equal to the start.
        """
        aligned.check("mitigations.safelora.unaligned", means.start, means.unaligned)
        return Mitigation(after=Projected(self, means), budget={"checkpoints": 1})


@dataclass(frozen=True)
class Projected:
    """The `after` hook."""

    settings: SafeLora
    means: Means

    def __call__(self, variables: Variables) -> Variables:
        """The variables with projected adapters, or kernels where there are no adapters."""
        made, cosines = self.edits(variables)
        chosen = selected(self.settings, cosines)
        adapters = variables.get("adapters")
        found = {}
        for name, new in made.items():
            old = _trained(variables, self.means.model.projections[name], name)
            flags = jnp.asarray(chosen[name] if adapters is not None else chosen[name][:, 0])
            flags = flags.reshape(*flags.shape, *[1] * (old.ndim - flags.ndim))
            found[name] = aligned.like(jnp.where(flags, new, old), old)
        if adapters is not None:
            table = {n: {**pair, "b": found[n]} for n, pair in adapters["experts"].items()}
            return {**variables, "adapters": {**adapters, "experts": table}}
        base = variables["base"]
        blocks = base["blocks"]
        for name, kernel in found.items():
            blocks = _put(blocks, (*self.means.model.projections[name].path, "kernel"), kernel)
        return {**variables, "base": {**base, "blocks": blocks}}

    def edits(self, variables: Variables) -> tuple[dict[str, jax.Array], dict[str, np.ndarray]]:
        """What each matrix would become, and its cosine.

        Returns:
          By projection: `b` [L,E,R,*out] or the kernel [L,*in,*out] in the dtype that it has; the
          cosine [L,E], NaN where there is none.
        """
        made, cosines = {}, {}
        adapters, projections = variables.get("adapters"), self.means.model.projections
        for name in projections if adapters is None else adapters["experts"]:
            p = projections[name]
            kernel, start, unaligned = (
                _at(tree["blocks"], (*p.path, "kernel"))
                for tree in (variables["base"], self.means.start, self.means.unaligned)
            )
            start, unaligned = (aligned.like(x, kernel) for x in (start, unaligned))
            sizes = math.prod(projection.in_shape(p)), math.prod(projection.out_shape(p))
            pair = None if adapters is None else adapters["experts"][name]
            changed = kernel if pair is None else (pair["a"], pair["b"])
            how = self.settings
            made[name], cosine = _project(
                changed, start, unaligned, sizes, how.mode, how.energy, how.rescale
            )
            cosines[name] = trees.host(cosine)
        return made, cosines


def selected(settings: SafeLora, cosines: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which matrices are projected: booleans [L,E] by projection; none without a cosine."""
    if not settings.layers:
        return {name: found <= settings.tau for name, found in cosines.items()}  # NaN: False
    flat = np.concatenate([found.ravel() for found in cosines.values()])
    order = np.argsort(flat, kind="stable")  # NaN last
    wanted = np.zeros(flat.shape, bool)
    wanted[order[: settings.layers]] = True
    wanted &= ~np.isnan(flat)
    ends = np.cumsum([found.size for found in cosines.values()])[:-1]
    parts = zip(cosines.items(), np.split(wanted, ends), strict=True)
    return {name: part.reshape(found.shape) for (name, found), part in parts}


@partial(jax.jit, static_argnames=("sizes", "mode", "energy", "rescale"))
def _project(
    changed: Any,
    start: jax.Array,
    unaligned: jax.Array,
    sizes: tuple[int, int],
    mode: str,
    energy: float,
    rescale: bool,
) -> tuple[jax.Array, jax.Array]:
    """(what takes the place of `b` or of the kernel, cosines [L,E]); see `Projected.edits`.

    Layer by layer, so that what is made in between is of one layer.
    """
    inner, outer = sizes

    def layer(x: tuple) -> tuple:
        changed, start, unaligned = x
        first = start.astype(jnp.float32).reshape(inner, outer)
        v = first - unaligned.astype(jnp.float32).reshape(inner, outer)
        if isinstance(changed, tuple):
            a, b = changed
            rank = a.shape[-1]
            left = a.astype(jnp.float32).reshape(-1, inner, rank)  # [E,I,R]
            gram = jnp.einsum("eir,eis->ers", left, left)
            right = b.astype(jnp.float32).reshape(-1, rank, outer)  # [E,R,O]
            new, cosine = _edited(right, gram, v, mode, energy, rescale)
            return new.reshape(b.shape).astype(b.dtype), cosine
        delta = changed.astype(jnp.float32).reshape(1, inner, outer) - first
        new, cosine = _edited(delta, None, v, mode, energy, rescale)
        return (first + new[0]).reshape(changed.shape).astype(changed.dtype), cosine

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(layer, (changed, start, unaligned))


def _edited(
    right: jax.Array,
    gram: jax.Array | None,
    v: jax.Array,
    mode: str,
    energy: float,
    rescale: bool,
) -> tuple[jax.Array, jax.Array]:
    """(dW C, cosines [E]) of E matrices [E,R,O]; `gram` [E,R,R] is a^T a where dW = a `right`."""

    def inner(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum((x if gram is None else jnp.einsum("ers,eso->ero", gram, x)) * y, (1, 2))

    def applied(to: jax.Array, rows: jax.Array) -> jax.Array:
        return jnp.einsum("erk,ko->ero", jnp.einsum("ero,ko->erk", to, rows), rows)

    if mode == "orthogonal":
        new = applied(right, _span(v, energy))
    else:
        size = jnp.linalg.norm(v)
        new = applied(right, v) / jnp.where(size > 0, size, 1)
    before, after = jnp.sqrt(inner(right, right)), jnp.sqrt(inner(new, new))
    known = before * after > 0
    cosine = jnp.where(known, inner(new, right) / jnp.where(known, before * after, 1), jnp.nan)
    # A change at right angles to V is no matter of rounding: its cosine is the smallest there is.
    cosine = jnp.where((before > 0) & (after == 0) & jnp.any(v != 0), 0.0, cosine)
    if mode == "delete":
        return jnp.zeros_like(right), cosine
    if rescale:
        new = new * jnp.where(after > 0, before / jnp.where(after > 0, after, 1), 1)[:, None, None]
    return new, cosine


def _span(v: jax.Array, energy: float) -> jax.Array:
    """Singular vectors of the outputs, [K,O]; those beyond `energy` of the squares are zeros."""
    _, sizes, rows = jnp.linalg.svd(v, full_matrices=False)
    squares = jnp.square(sizes)
    before = jnp.cumsum(squares) - squares
    some = sizes > sizes[0] * max(v.shape) * jnp.finfo(v.dtype).eps  # not rounding: numpy's rank
    return rows * ((before < energy * jnp.sum(squares)) & some)[:, None]


def _trained(variables: Variables, p: projection.Projection, name: str) -> jax.Array:
    adapters = variables.get("adapters")
    if adapters is not None:
        return adapters["experts"][name]["b"]
    return _at(variables["base"]["blocks"], (*p.path, "kernel"))


def _at(tree: PyTree, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _put(tree: PyTree, path: tuple[str, ...], value: Any) -> PyTree:
    if not path:
        return value
    return {**tree, path[0]: _put(tree[path[0]], path[1:], value)}
