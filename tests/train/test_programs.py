"""Equal stages compile once; what differs in anything that a program is made of compiles anew."""

import dataclasses

import jax
import pytest

from jaxsafety.core import trees
from jaxsafety.protocols import OptimConfig, Stage, TrainConfig
from jaxsafety.train.loop import run_program, run_stage
from jaxsafety.train.programs import KINDS, Programs
from tests.train import toy

TRAIN = TrainConfig(checkpoint_every=100, progress=False)
EVENT = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compiled():
    """Names of the functions that XLA compiles, as they come."""
    names = []

    def heard(event, seconds, **more):
        if event == EVENT:
            names.append(str(more.get("fun_name")))  # "jit(step)"

    jax.monitoring.register_event_duration_secs_listener(heard)
    yield names
    jax.monitoring.unregister_event_duration_listener(heard)


def steps(names):
    """How many of them are training steps."""
    return sum("step" in name for name in names)


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A loss as a record: equal fields, equal losses."""

    factor: float

    def __call__(self, params, frozen, batch, key):
        value, metrics = toy.noisy_loss(params, frozen, batch, key)
        return self.factor * value, metrics


class Loose(list):
    """A loss that cannot be hashed."""

    def __call__(self, params, frozen, batch, key):
        return toy.noisy_loss(params, frozen, batch, key)


def stages(count, loss=lambda index: toy.noisy_loss, **change):
    """`count` stages of two steps, each from where the last one ended."""
    final = None
    for index in range(count):
        stage = Stage(f"s{index}", loss(index), ("base/mlp",), toy.offline, 2, toy.OPTIM)
        other = {name: make(index) for name, make in change.items()}
        final = yield stage._replace(**other)
    return final


def test_fifteen_equal_stages_compile_once(tmp_path, compiled):
    seen = []

    def program():
        inner = stages(15)
        stage = next(inner)
        while True:
            final = yield stage
            seen.append(len(compiled))
            try:
                stage = inner.send(final)
            except StopIteration as end:
                return end.value

    final = run_program(program(), toy.context(tmp_path / "one"), TRAIN)
    assert steps(compiled) == 1 == steps(compiled[: seen[0]])
    assert compiled[seen[1] :] == []  # from the third stage on XLA compiles nothing at all
    # To the bit what stages do that share nothing.
    variables, ctx = toy.variables(), toy.context(tmp_path / "two")
    for index in range(15):
        stage = Stage(f"s{index}", toy.noisy_loss, ("base/mlp",), toy.offline, 2, toy.OPTIM)
        variables = run_stage(stage, variables, ctx, TRAIN)
    assert trees.diff(final, variables) == ""


@pytest.mark.parametrize(
    ("loss", "change", "times"),
    [
        (lambda index: Scaled(2.0), {}, 1),
        (lambda index: Scaled(2.0 + index), {}, 3),
        (lambda index: lambda *args: toy.noisy_loss(*args), {}, 3),
        (lambda index: Loose(), {}, 3),
        (lambda index: toy.loss, {"optim": lambda index: OptimConfig(lr=0.1 * (index + 1))}, 3),
        (lambda index: toy.loss, {"steps": lambda index: index + 1}, 3),
        (
            lambda index: toy.loss,
            {"trainable": lambda index: ("base", "base/mlp", "base/.*")[index : index + 1]},
            2,
        ),
        (
            lambda index: toy.loss,
            {"batches": lambda index: lambda v, step: toy.batch(step, length=5 + index % 2)},
            2,
        ),
    ],
)
def test_what_differs_is_compiled_anew(tmp_path, compiled, loss, change, times):
    run_program(stages(3, loss, **change), toy.context(tmp_path), TRAIN)
    assert steps(compiled) == times


def test_the_kinds_last_used_stay():
    programs = Programs()
    for number in range(KINDS):
        programs.of(number).steps["batch"] = str
    programs.of(0)  # used again, so 1 is the oldest
    programs.of("new")
    assert programs.of(0).steps and programs.of(2).steps and not programs.of(1).steps
    assert len(programs.kinds) == KINDS
