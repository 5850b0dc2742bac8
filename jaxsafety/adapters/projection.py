"""`Projection`: the one description of a linear map (equation, kernel shape, logical axes).

Everything an adapter needs follows from the equation: which kernel dimensions are inputs, which are
outputs, the shapes and axes of the low-rank factors. Letters: b, t are data dimensions; the kernel
lists its input dimensions first, then its output dimensions. E experts, R rank.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Projection(NamedTuple):
    """A linear map.

    Attributes:
      eqn: einsum equation such as "btd,dnh->btnh" (data, kernel, result).
      shape: kernel shape without the layer axis, inputs first.
      axes: logical axis name of every kernel dimension.
      path: where the kernel lives below `params["blocks"]`, such as ("attn", "q").
    """

    eqn: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    path: tuple[str, ...] = ()


def split(p: Projection) -> tuple[str, str, str, str]:
    """Returns the letters (data, inputs, outputs, result) of the equation.

    Raises:
      ValueError: the kernel does not list its contracted dimensions first.
    """
    operands, result = p.eqn.split("->")
    data, kernel = operands.split(",")
    inputs = "".join(c for c in kernel if c in data and c not in result)
    outputs = "".join(c for c in kernel if c in result)
    if inputs + outputs != kernel or not inputs or not outputs:
        raise ValueError(f"{p.eqn}: the kernel must be its inputs followed by its outputs")
    return data, inputs, outputs, result


def in_shape(p: Projection) -> tuple[int, ...]:
    """Sizes of the contracted kernel dimensions."""
    return p.shape[: len(split(p)[1])]


def out_shape(p: Projection) -> tuple[int, ...]:
    """Sizes of the produced kernel dimensions."""
    return p.shape[len(split(p)[1]) :]


def fan_in(p: Projection) -> int:
    """Number of inputs that are summed into one output."""
    return math.prod(in_shape(p))


def lora_shapes(p: Projection, experts: int, rank: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the factors: a [E,*in,R], b [E,R,*out]."""
    return {"a": (experts, *in_shape(p), rank), "b": (experts, rank, *out_shape(p))}


def expert_axes(p: Projection) -> dict[str, tuple[str, ...]]:
    """Logical axes of a layer-stacked expert set, inherited from the kernel: sharding for free."""
    inputs = len(split(p)[1])
    return {
        "a": ("layers", "expert", *p.axes[:inputs], "rank"),
        "b": ("layers", "expert", "rank", *p.axes[inputs:]),
    }


def delta_equations(p: Projection) -> tuple[str, str]:
    """The two einsums of a low-rank update: data,a -> z[...,e,r] and z,b -> result."""
    data, inputs, outputs, result = split(p)
    lead = "".join(c for c in data if c not in inputs)
    return (
        f"{data},e{inputs}r->{lead}er",
        f"{lead}er,er{outputs}->{result}",
    )


def merge_equation(p: Projection) -> str:
    """The einsum that folds layer-stacked experts into a kernel: a, b, mix -> [L,*in,*out]."""
    _, inputs, outputs, _ = split(p)
    return f"le{inputs}r,ler{outputs},e->l{inputs}{outputs}"
