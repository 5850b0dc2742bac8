"""What a finished stage left: variables that are read from its checkpoint when they are asked for.

A resumed program runs through all stages that are finished, and most of what they left is not
needed: the next stage trained it further, or the artifacts made of it are on disk already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.protocols import Context, Stage, TrainConfig, Variables, same
from jaxsafety.train import state as states
from jaxsafety.train.assemble import assemble, places
from jaxsafety.train.checkpoint import Checkpoints
from jaxsafety.train.state import TrainState

PyTree = Any


class Source:
    """A tree on disk that is read once, at the first question."""

    def __init__(self, read: Callable[[], PyTree]) -> None:
        """`read()` returns the tree."""
        self.again = read

    @cached_property
    def leaves(self) -> list[Any]:
        """The tree's leaves."""
        return jax.tree.leaves(self.again())


@dataclass(frozen=True, eq=False)
class Unread:
    """A leaf that stays on disk: number `index` of a source."""

    source: Source
    index: int
    shape: tuple[int, ...]
    dtype: Any


class Left(Mapping[str, Any]):
    """Variables of which each is read when it is asked for, and then kept.

    To JAX it is a tree with the leaves of a dict of all of them, which are read then; what
    `jax.tree.map` makes of it is a dict. A stage that starts from it reads what it needs.
    """

    def __init__(self, pending: Variables, where: Variables) -> None:
        """`pending` has leaves or `Unread`s; `where` their shardings."""
        self.pending = pending
        self._where = where
        self._known: Variables = {}

    def __getitem__(self, name: str) -> PyTree:
        """The variable, in its places."""
        if name not in self._known:
            self._known[name] = jax.device_put(read(self.pending[name]), self._where[name])
        return self._known[name]

    def only(self, names: Iterable[str]) -> Left:
        """The variables of these names; reads nothing."""
        kept = list(names)
        return Left(*({name: tree[name] for name in kept} for tree in (self.pending, self._where)))

    def __iter__(self) -> Iterator[str]:
        """Names; reads nothing."""
        return iter(self.pending)

    def __len__(self) -> int:
        """How many variables; reads nothing."""
        return len(self.pending)


def _flatten(left: Left) -> tuple[list[tuple[Any, PyTree]], tuple[str, ...]]:
    names = tuple(sorted(left))
    return [(jax.tree_util.DictKey(name), left[name]) for name in names], names


def _unflatten(names: tuple[str, ...], values: Any) -> Any:
    return dict(zip(names, values, strict=True))


jax.tree_util.register_pytree_with_keys(Left, _flatten, _unflatten)


def pending(variables: Mapping[str, Any]) -> Variables:
    """Variables as a dict whose leaves may be `Unread`; reads nothing."""
    return variables.pending if isinstance(variables, Left) else dict(variables)


def outline(stage: Stage, variables: Mapping[str, Any]) -> Variables:
    """What `left` needs of a stage's start: shapes of what is trained, the rest to be read anew.

    Whoever holds it holds no parameters that were on disk, however often they are read.
    """
    trained, frozen = trees.partition(pending(variables), stage.trainable)
    again: dict[int, Source] = {}

    def anew(x: Any) -> Any:
        if not isinstance(x, Unread):
            return x
        source = again.setdefault(id(x.source), Source(x.source.again))
        return Unread(source, x.index, x.shape, x.dtype)

    def shape(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    return trees.combine(jax.tree.map(shape, trained), jax.tree.map(anew, frozen))


def read(tree: PyTree) -> PyTree:
    """The tree with every `Unread` leaf read."""
    return jax.tree.map(lambda x: x.source.leaves[x.index] if isinstance(x, Unread) else x, tree)


def shapes(tree: PyTree) -> PyTree:
    """The tree with a shape in place of every `Unread` leaf."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, Unread) else x, tree
    )


def left(
    stage: Stage,
    ctx: Context,
    mesh: Any,
    train: TrainConfig,
    checkpoints: Checkpoints,
    step: int,
    *,
    slim: bool | None = None,
) -> Left:
    """The variables at the end of a finished stage, or at a marked step.

    Args:
      stage: whose `start` are the variables as of `pending`.
      ctx: of the run.
      mesh: where the variables go.
      train: uses `master`.
      checkpoints: of the stage, or of its marks.
      step: a committed one.
      slim: whether it holds the parameters alone; None is what the checkpoint says.

    Returns:
      Trained leaves in dtype `train.master`, not read yet; frozen ones as they are in `start`.
    """
    start = shapes(stage.start)
    where = places(start, ctx.model, mesh, stage.axes)
    params, _ = trees.partition(start, stage.trainable)
    _, frozen = trees.partition(stage.start, stage.trainable)
    params_places, _ = trees.partition(where, stage.trainable)
    abstract = jax.eval_shape(lambda p: states.masters(p, train.master), params)
    target = states.abstract_state(abstract, params_places)

    def restored() -> PyTree:
        held = checkpoints.slim(step) if slim is None and checkpoints.retired is None else slim
        if held or checkpoints.retired is not None:
            found = checkpoints.restore_params(step, target)
        else:  # written by a version that kept whole states
            whole = assemble(stage._replace(start=start), ctx.model, mesh, train)
            wanted = states.abstract_state(whole.abstract, whole.shardings.state)
            found = checkpoints.restore(step, wanted).params
        ctx.log(f"{stage.name}: restored step {step} of {stage.steps}")
        return found

    if mesh.size == 1:
        where = dict.fromkeys(where, sharding.home(mesh))  # as `sharding.settle` leaves them
    found = trees.combine(_unread(Source(restored), abstract), frozen)
    if stage.mitigation.after is same:
        return Left(found, where)
    # It may change any leaf, and has to read them all.
    whole = Source(lambda: end(stage, Left(found, where)))
    return Left(_unread(whole, shapes(found)), where)


def last(stage: Stage, state: TrainState) -> PyTree:
    """The parameters that a stage leaves: the trained ones, or what its mitigations make of them.

    Raises:
      UsageError: another structure, shape or dtype.
    """
    params = state.params
    for name, extra in stage.mitigation.extra.items():
        made = extra.last(state.extra[name], params)
        _check(f"stage.mitigation.extra.{name}.last", params, made)
        params = made
    return params


def end(stage: Stage, variables: Mapping[str, Any]) -> Variables:
    """The variables that a stage leaves, after its mitigation's `after`.

    Raises:
      UsageError: another structure, shape or dtype.
    """
    before = dict(variables)
    made = stage.mitigation.after(before)
    if made is not before:
        _check("stage.mitigation.after", before, made)
    return made


def _check(name: str, before: PyTree, after: PyTree) -> None:
    shaped = [jax.eval_shape(lambda x: x, tree) for tree in (before, after)]
    found = trees.diff(*shaped, limit=1).splitlines()
    if found:
        raise bad(name, found[0], "the same names, shapes and dtypes")


def _unread(source: Source, abstract: PyTree) -> PyTree:
    found, structure = jax.tree.flatten(abstract)
    return structure.unflatten([Unread(source, i, x.shape, x.dtype) for i, x in enumerate(found)])
