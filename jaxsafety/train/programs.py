"""The compiled programs of a run's stages, found again by what they are made of.

Compiling the step of a large model takes minutes, and a program may have dozens of stages that
differ in their data alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import jax

from jaxsafety.protocols import Stage, TrainConfig
from jaxsafety.train.assemble import Assembled

PyTree = Any
KINDS = 8  # kinds of stages whose programs stay: a compiled step holds memory of the device


@dataclass
class Kind:
    """The programs of all stages of one recipe.

    Attributes:
      begin: `(params, key) -> state` of step 0, jitted; None until a stage began.
      steps: the signature of a batch -> the compiled step.
    """

    begin: Callable[..., Any] | None = None
    steps: dict[Hashable, Callable[..., Any]] = field(default_factory=dict)


class Programs:
    """The `KINDS` kinds of stages that were last trained."""

    def __init__(self) -> None:
        """None yet."""
        self.kinds: OrderedDict[Hashable, Kind] = OrderedDict()

    def of(self, recipe: Hashable) -> Kind:
        """The programs of a recipe, empty where it is new."""
        kind = self.kinds.setdefault(recipe, Kind())
        self.kinds.move_to_end(recipe)
        while len(self.kinds) > KINDS:
            self.kinds.popitem(last=False)
        return kind


def recipe(stage: Stage, train: TrainConfig, parts: Assembled, frozen: PyTree) -> Hashable:
    """What a compiled step depends on besides its batch; see `Stage` for when losses are equal.

    Args:
      stage: the work.
      train: uses `master`.
      parts: assembled from both.
      frozen: the placed variables that are not trained.

    Returns:
      A key; of a stage with a part that cannot be compared, one that equals nothing else.
    """
    hooks = stage.mitigation
    key = (
        hooks.loss,
        hooks.grad,
        hooks.update,
        tuple(hooks.extra.items()),
        stage.loss,
        stage.optim,
        stage.rates,
        stage.steps,
        train.master,
        signature(parts.abstract),
        signature(parts.shardings.state),
        signature(frozen),
    )
    try:
        hash(key)
    except TypeError:
        return object()
    return key


def signature(tree: PyTree) -> Hashable:
    """Structure of a tree; of its leaves shape, dtype, weak type and place, where they have one.

    Leaves are arrays, `ShapeDtypeStruct`s or shardings.
    """

    def one(x: Any) -> Hashable:
        if isinstance(x, jax.sharding.Sharding):
            return x
        return (x.shape, x.dtype, getattr(x, "weak_type", False), x.sharding)

    return jax.tree.structure(tree), tuple(one(x) for x in jax.tree.leaves(tree))
