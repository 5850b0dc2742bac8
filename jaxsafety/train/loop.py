"""The one loop: drives a program's generator and trains its stages.

Resume is bitwise: a state holds parameters, optimizer, key and step, and a batch is a function of
(variables, step), so nothing else has a memory. Finished stages hand back variables that are read
when they are asked for, and the generator runs on to the stage that was interrupted.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
import zlib
from collections.abc import Mapping
from typing import Any

import jax
from tqdm import tqdm

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.interrupt import Interrupt, Preempted
from jaxsafety.core.progress import Progress
from jaxsafety.protocols import (
    Context,
    Marked,
    Program,
    Retired,
    Stage,
    TrainConfig,
    Variables,
)
from jaxsafety.train import finished, marks
from jaxsafety.train import state as states
from jaxsafety.train.assemble import assemble, lower, mesh_of
from jaxsafety.train.begin import begun
from jaxsafety.train.checkpoint import Checkpoints, checkpoints_of
from jaxsafety.train.clock import Clock
from jaxsafety.train.optim import make_schedule
from jaxsafety.train.programs import Programs, recipe, signature
from jaxsafety.train.step import Step

PyTree = Any


class NonFinite(UsageError):
    """Too many consecutive steps had a non-finite loss, gradient, update or parameter."""


def run_program(program: Program, ctx: Context, train: TrainConfig = TrainConfig()) -> Variables:
    """Runs a program to its end, resuming whatever the workdir already holds.

    Args:
      program: the generator; its code between yields must be deterministic or an artifact. It
        yields stages, `Marked` to get the variables of a marked step back, and `Retired` for what
        it will not read again.
      ctx: its `fingerprint` is checked against the checkpoints; on-policy batches poll its
        `interrupt` too.
      train: checkpoints, logging, non-finite policy.

    Returns:
      What the program returns: the final variables.

    Raises:
      UsageError: bad stage settings, a workdir of another config, or too many non-finite steps.
      SystemExit: with 0 after SIGTERM and 130 after Ctrl-C, once the state is saved.
    """
    interrupt, programs = ctx.interrupt, Programs()
    with interrupt.install():
        variables: Any = None
        marked: dict[str, Stage] = {}  # stages with marks
        while True:
            try:
                stage = next(program) if variables is None else program.send(variables)
            except StopIteration as end:
                return dict(end.value)  # reads what is still on disk alone
            except Preempted:  # between stages everything is saved already
                _resumable(ctx, interrupt)
            if isinstance(stage, Marked):
                variables = marks.get(stage, marked, ctx, train)
                continue
            if isinstance(stage, Retired):
                checkpoints_of(ctx, stage.stage.name, train.keep).retire()
                continue
            current = ctx.variables if variables is None else variables
            start = current if stage.start is None else stage.start
            if stage.marks:
                marked[stage.name] = stage._replace(start=finished.outline(stage, start))
            variables = run_stage(stage, start, ctx, train, programs=programs)


def run_stage(
    stage: Stage,
    variables: Variables,
    ctx: Context,
    train: TrainConfig = TrainConfig(),
    *,
    programs: Programs | None = None,
) -> Variables:
    """Trains one stage from `variables`, or continues it from its newest checkpoint.

    `variables` stay valid: trainable leaves are copied, because the step donates its state. What
    `batches` receives is valid until it returns; a program must not keep it. Of a stage that is
    finished nothing is read before somebody asks (see `finished.Left`).

    Args:
      stage: the work.
      variables: where it starts; on resume only its structure and frozen leaves are used.
      ctx: see `run_program`.
      train: see `run_program`.
      programs: what earlier stages compiled; an equal stage compiles nothing.

    Returns:
      The variables with trained leaves (in dtype `train.master`) in place.

    Raises:
      UsageError: see `run_program`.
      SystemExit: see `run_program`.
    """
    marks.check(stage)
    mesh = mesh_of(ctx)
    stage = stage._replace(start=finished.pending(variables))
    checkpoints = checkpoints_of(ctx, stage.name, train.keep)
    saved = checkpoints.latest()
    if saved and saved.finished:
        ctx.log(f"{stage.name}: finished at step {saved.step} of {stage.steps}")
        done: Any = finished.left(stage, ctx, mesh, train, checkpoints, saved.step)
        return done
    flag, programs = ctx.interrupt, programs or Programs()
    first = saved.step if saved else 0
    try:
        stage = begun(stage, ctx, mesh, train)
    except Preempted:  # what is saved stays, and nothing is new
        _resumable(ctx, flag, f"{stage.name} step {first} of {stage.steps}", stage.name, first)
    return _StageRun(stage, ctx, mesh, train, flag, programs, checkpoints, first).train()


class _StageRun:
    """One stage in progress; a class only because a dozen locals live across its phases."""

    def __init__(
        self,
        stage: Stage,
        ctx: Context,
        mesh: Any,
        train: TrainConfig,
        flag: Interrupt,
        programs: Programs,
        checkpoints: Checkpoints,
        first: int,
    ) -> None:
        self.stage, self.ctx, self.config, self.flag = stage, ctx, train, flag
        self.started = time.perf_counter()
        self.clock = Clock()
        self.mesh, self.checkpoints, self.first = mesh, checkpoints, first
        self.schedule = make_schedule(stage.optim, stage.steps)
        shaped = stage._replace(start=finished.shapes(stage.start))
        self.parts = assemble(shaped, ctx.model, mesh, train)
        tx, _, shardings, abstract = self.parts
        params, frozen = trees.partition(stage.start, stage.trainable)
        self.frozen = jax.device_put(finished.read(frozen), shardings.frozen)
        self.kind = programs.of(recipe(stage, train, self.parts, self.frozen))
        if first:
            target = states.abstract_state(abstract, shardings.state)
            self.state = checkpoints.restore(first, target)
            ctx.log(f"{stage.name}: restored step {first} of {stage.steps}")
        else:
            # crc32, not hash(): the latter is salted per process.
            key = jax.random.fold_in(jax.random.key(ctx.seed), zlib.crc32(stage.name.encode()))
            begin = self.kind.begin
            if begin is None:
                begin = states.beginner(
                    tx, shardings.state, stage.mitigation.extra, master=train.master
                )
                self.kind.begin = begin
            self.state = states.fresh(begin, finished.read(params), key, shardings.state)
        ctx.writer.truncate(stage.name, self.first or -1)  # a row of step 0 is written anew
        self.pending: list[tuple[int, Mapping[str, Any], dict[str, float]]] = []
        self.skips = 0
        self.watched: set[int] = set()

    def variables(self) -> Variables:
        """The current variables, without copying: valid until the next step donates them."""
        return trees.combine(self.state.params, self.frozen)

    def train(self) -> Variables:
        stage, config = self.stage, self.config
        show = config.progress and sys.stderr.isatty()
        scope = jax.set_mesh(self.mesh) if self.mesh.size > 1 else contextlib.nullcontext()
        with (
            scope,
            tqdm(total=stage.steps, initial=self.first, desc=stage.name, disable=not show) as bar,
        ):
            self.flag.doing, self.flag.kept = "this step, which is saved", self.describe_kept()
            quiet = self.ctx.log if bar.disable else _silent  # a bar says it all
            try:
                if not self.first and (told := self.watch(0)):
                    self.ctx.writer.write(stage.name, 0, told)
                with Progress(quiet, stage.name, total=stage.steps, unit="steps") as progress:
                    progress.skip(self.first)
                    for index in range(self.first, stage.steps):
                        done = self.advance(index, bar)
                        progress(index + 1)
                        if done:
                            break
            finally:
                self.flag.doing = "what it is doing"
                self.flag.rest()
        self.checkpoints.wait()
        self.ctx.log(f"{stage.name}: {index + 1} steps; {self.clock.summary(self.started)}")
        left = sharding.settle(trees.combine(self.last(), self.frozen), self.mesh)
        return finished.end(self.stage, left)

    def last(self) -> PyTree:
        """The parameters that the stage would leave, did it end here."""
        return finished.last(self.stage, self.state)

    def advance(self, index: int, bar: Any) -> bool:
        """One step: batch, update, log, save. Returns whether the stage is finished."""
        stage, config = self.stage, self.config
        self.stop_if_asked(index)
        try:
            with self.clock("data"):
                batch = stage.batches(self.variables(), index)
                batch = jax.block_until_ready(sharding.global_batch(self.mesh, batch))
        except Preempted:
            self.stop_if_asked(index, asked=True)
        with self.clock("compile"):
            step = self.compile(batch)
        last = index + 1 == stage.steps
        save = last or (index + 1) % config.checkpoint_every == 0
        due = save or stage.stop is not None or (index + 1) % config.log_every == 0
        with self.clock("step"), jax.transfer_guard("disallow"):
            self.state, metrics = step(self.state, self.frozen, batch)
            # On an accelerator the call returns at once. Where the numbers are wanted the wait is
            # the step's; elsewhere there is none, and the wait of the next flush covers it.
            if due or jax.default_backend() == "cpu":
                jax.block_until_ready(metrics)
        told = self.watch(index + 1)
        self.pending.append((index + 1, metrics, {**told, **self.clock.lap()}))
        if index + 1 in stage.marks:  # before the checkpoint from which a resumed run goes on
            with self.clock("save"):
                marks.save(self.ctx, stage, index + 1, self.last())
        row = self.flush(bar) if due else None
        stopped = stage.stop is not None and row is not None and stage.stop(index + 1, row)
        if save or stopped:
            self.save(index + 1, end=last or stopped)
        bar.update()
        return bool(last or stopped)

    def watch(self, step: int) -> dict[str, float]:
        """What the stage measures after `step` updates, where it is due."""
        stage = self.stage
        often = step == stage.steps or step % (stage.every or stage.steps) == 0
        if stage.watch is None or not often:
            return {}
        with self.clock("watch"):
            self.watched.add(step)
            return dict(stage.watch(self.variables(), step))

    def compile(self, batch: PyTree) -> Step:
        """The compiled step for this batch's shapes (on-policy batches come in a few lengths)."""
        shapes, steps = signature(batch), self.kind.steps
        if shapes not in steps:
            steps[shapes] = lower(self.parts, self.state, self.frozen, batch).compile()
        return steps[shapes]

    def flush(self, bar: Any) -> dict[str, float]:
        """Fetches the metrics of the steps since the last flush and writes the due ones.

        On an accelerator steps that were only sent off share their time evenly: the last alone was
        waited for.
        """
        row: dict[str, float] = {}
        sent = [times.get("time/step", 0.0) for *_, times in self.pending]
        for step, metrics, times in self.pending:
            if jax.default_backend() != "cpu":
                times["time/step"] = round(sum(sent) / len(sent), 6)
            values = {name: float(trees.host(x)) for name, x in metrics.items()}
            row = {**values, "lr": float(self.schedule(step - 1)), **times}
            due = step % self.config.log_every == 0 or step in self.watched
            if due or step == self.stage.steps:
                self.ctx.writer.write(self.stage.name, step, row)
            self.skips = self.skips + 1 if values["skipped"] else 0
            if self.skips >= self.config.max_skips:
                self.fail(step)
        self.pending.clear()
        if row:
            bar.set_postfix(loss=f"{row['loss']:.4g}", refresh=False)
            if bar.disable and _milestone(int(self.state.step), self.stage.steps):
                self.ctx.log(
                    f"{self.stage.name}: step {int(self.state.step)} of"
                    f" {self.stage.steps}, loss {row['loss']:.4g}"
                )
        return row

    def fail(self, step: int) -> None:
        saved = self.checkpoints.latest()
        kept = f"step {saved.step} is kept" if saved else "no checkpoint yet"
        raise NonFinite(
            f"{self.stage.name}: loss, gradient, update or parameters were not finite in"
            f" {self.skips} consecutive steps, the last is step {step}; allowed: fewer than"
            f" train.max_skips={self.config.max_skips}; checkpoint: {kept}"
        )

    def save(self, step: int, *, end: bool = False) -> None:
        with self.clock("save"):
            if end:
                self.checkpoints.finish(step, self.last())
            else:
                self.checkpoints.save(step, self.state)
        self.flag.kept = self.describe_kept(step)

    def describe_kept(self, step: int | None = None) -> str:
        step = self.first if step is None else step
        what = f"everything up to step {step} of {self.stage.name} is saved already"
        return what if step else f"no step of {self.stage.name} is saved yet"

    def stop_if_asked(self, index: int, *, asked: bool = False) -> None:
        if not (asked or self.flag.at(index)):
            return
        saved = self.checkpoints.latest()
        if index and (saved is None or saved.step < index):
            self.flush(tqdm(disable=True))
            self.save(index)
        self.checkpoints.wait()
        where = f"{self.stage.name} step {index} of {self.stage.steps}"
        _resumable(self.ctx, self.flag, where, self.stage.name, index)


def _silent(line: str) -> None:
    del line


def _milestone(step: int, steps: int) -> bool:
    return step == 1 or step % max(1, math.ceil(steps / 10)) == 0 or step == steps


def _resumable(ctx: Context, flag: Interrupt, where: str = "", name: str = "", at: int = 0) -> None:
    on = f"from step {at + 1} of {name}" if at else f"with the first step of {name}"
    ctx.log(
        f"resumable: saved after {flag.reason}{f' at {where}' if where else ''}; the same command"
        f" goes on {on if name else 'from here'}"
    )
    raise SystemExit(flag.code)
