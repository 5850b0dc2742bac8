"""The study as a program: train every arm, select by capability alone, then measure safety.

Per goal and training seed: an alignment stage where an arm has mitigations that hook in there, the
task's stage with those that hook into training, a curve. A point of a curve is a marked step as it
would be served: with `Extra.last` (an average), repaired by a stage of its own where an arm has a
repair, edited by the "after" mitigations, behind what "serve" changes. `Stage.watch` sees none of
these, so it is not what checkpoints are selected by.
Artifacts, in order; G a goal, P a grid point, S a seed, K a step, B a set:

    start.G                 the base: right answers on dev, general capability
    curve.G.P.S             {"points": [{step, correct, n, general}, ...]}
    selected                what is compared, from curves alone
    verdicts.base.B         answers and flags of the base, and of it on the test split of G: test.G
    verdicts.G.P.S.K.B      the same of each selected checkpoint
    direction, own.*, token_set.*   what mitigations and repairs found out
    judged.J.*              what other judges J say of these answers (`others.py`)
    table                   all of it, one row per goal, arm, seed and anchor

No trained model is asked a safety set before `selected` is on disk.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

from jaxsafety.adapters import lora
from jaxsafety.benchmarks.anchors import Floor, by_chance, resolve_target
from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.data.pipeline import Batches
from jaxsafety.data.schema import Encoded
from jaxsafety.methods.sft import program as sft
from jaxsafety.mitigations.means import WHEN, build
from jaxsafety.mitigations.repairs import Job
from jaxsafety.protocols import (
    Benchmark,
    Context,
    Item,
    Marked,
    OptimConfig,
    Program,
    Served,
    Stage,
    Variables,
    same,
)
from jaxsafety.studies.anchored import config, goals, means, measure, others, table
from jaxsafety.studies.anchored.arms import REPAIR, Point
from jaxsafety.studies.anchored.config import AnchoredConfig
from jaxsafety.train import finished
from jaxsafety.train.likelihood import answer_loss

ALIGNED = "align"
Yields = Generator[Stage | Marked, Variables, Any]


@dataclass(frozen=True)
class Trained:
    """A stage that was trained, and where it began."""

    stage: Stage
    start: Variables


class Study:
    """What all arms of a run share; a class because ten locals live across its phases."""

    def __init__(self, cfg: AnchoredConfig, optim: OptimConfig, ctx: Context) -> None:
        """Draws the splits, and reads the dialogues that mitigations use."""
        self.cfg, self.optim, self.ctx = cfg, optim, ctx
        self.goals = config.declared_goals(cfg)
        self.points = config.arms(cfg)
        self.open = [point for point in self.points if not config.lacks(cfg, point)]
        self.seeds = config.seeds(cfg, ctx.seed)
        self.splits = {task: config.draw(cfg, task, ctx.seed) for task in self.goals}
        self.means = means.maker(cfg, ctx, self.open)
        self.aligned: dict[tuple[str, int], Variables] = {}
        self.trained: dict[tuple[str, str, int], Trained] = {}
        self.repaired: dict[str, Stage | None] = {}

    def asked(self, task: str, split: str) -> list[Item]:
        """The questions of a split."""
        return goals.questions(self.splits[task][split])

    def steps(self) -> tuple[int, ...]:
        """The marked steps: every so many, and the last."""
        every, last = self.cfg.every, self.cfg.sft.steps
        return tuple(sorted({*range(every, last, every), last}))

    def batches(self, encoded: list[Encoded], seed: int, *, packed: bool) -> Batches:
        """Batches of dialogues, in the order of a seed."""
        cfg = self.cfg.sft
        return Batches(
            encoded,
            length=cfg.length,
            rows=cfg.rows,
            seed=seed,
            packed=packed,
            pad_id=self.ctx.tokenizer.pad_id,
            reduction=cfg.reduction,
        )

    def train(self, task: str, point: Point, seed: int) -> Yields:
        """The stage of a grid point, trained once for all that train alike."""
        key = (task, point.training, seed)
        if key not in self.trained:
            base = yield from self.align(point, seed)
            hooks = build(point.of("train"), self.means(base, seed))._replace(serve=same)
            stage = self.task_stage(task, point, seed, base)._replace(mitigation=hooks)
            yield stage
            assert stage.start is not None
            self.trained[key] = Trained(stage, stage.start)
        return self.trained[key]

    def align(self, point: Point, seed: int) -> Yields:
        """The base that a grid point starts from: aligned first, where its mitigations do."""
        named, ctx, cfg = point.of(ALIGNED), self.ctx, self.cfg
        base = ctx.variables["base"]
        if not named:
            return base
        key = (point.training, seed)
        if key not in self.aligned:
            safe = config.guards(cfg, ctx.setting, ("safe",), ctx.seed)["safe"]
            self.aligned[key] = yield Stage(
                f"{ALIGNED}.{point.training}.{seed}",
                answer_loss(ctx.model, sharding.rows(ctx.mesh), train_head=True),
                ("base/.*",),
                self.batches(config.learn(cfg, ctx.tokenizer, safe), seed, packed=False),
                cfg.align,
                self.optim,
                start=ctx.variables,
                mitigation=build(named, self.means(base, seed))._replace(serve=same),
            )
        return self.aligned[key]["base"]

    def task_stage(self, task: str, point: Point, seed: int, base: Any) -> Stage:
        """SFT on the goal's training questions, of all parameters or of a LoRA."""
        ctx, cfg = self.ctx, self.cfg.sft
        encoded = config.learn(self.cfg, ctx.tokenizer, self.splits[task]["train"], ctx.log)
        stage = Stage(
            f"sft.{task}.{point.training}.{seed}",
            answer_loss(ctx.model, sharding.rows(ctx.mesh), train_head=not cfg.rank),
            ("base/.*",),
            self.batches(encoded, seed, packed=cfg.packed),
            cfg.steps,
            replace(self.optim, lr=self.optim.lr * point.rate),
            start={**ctx.variables, "base": base},
            marks=self.steps(),
        )
        if not cfg.rank:
            return stage
        chosen = sft.names(cfg, ctx.model)
        adapters = sft.fresh(cfg, ctx.model, jax.random.key(seed))
        return stage._replace(
            trainable=("adapters/experts/.*",),
            start={**ctx.variables, "base": base, "adapters": adapters},
            axes={"adapters": lora.adapter_axes(ctx.model.projections, chosen)},
        )

    def checkpoint(self, task: str, point: Point, seed: int, step: int) -> Yields:
        """A function that makes what answers at a marked step; it reads when it is called."""
        trained = yield from self.train(task, point, seed)
        variables = yield Marked(trained.stage, step)
        if point.repair:
            variables = yield from self.mend(task, point, seed, step, variables)

        def what() -> Served:
            at_hand = self.means(trained.start["base"], seed)
            late = build(point.of("after"), at_hand)
            # As the loop edits what a stage leaves, with its checks.
            edited = finished.end(trained.stage._replace(mitigation=late), variables)
            return measure.served(self.ctx, edited, build(point.of("serve"), at_hand))

        return what

    def mend(self, task: str, point: Point, seed: int, step: int, left: Variables) -> Yields:
        """What a marked step left, after its repairs, each a stage; made once for all alike."""
        trained, steps = self.trained[task, point.training, seed], self.cfg.repair
        for kind, settings in point.of(REPAIR).items():
            name = f"{REPAIR}.{kind}.{task}.{point.repair}.{seed}.{step}"
            if name not in self.repaired:
                of, means = trained.stage, self.means(trained.start["base"], seed)
                made = settings.repair(
                    Job(name, left, of.trainable, of.axes, steps, of.optim, self.ctx, means)
                )
                if made is not None:
                    made = made._replace(marks=(steps,))
                    yield made
                    made = made._replace(start=None)  # not to be held until the run ends
                self.repaired[name] = made
            if (stage := self.repaired[name]) is not None:
                found: Any = yield Marked(stage, steps)
                left = found.only(left)  # without what the repair alone has read
        return left


def base_point(cfg: AnchoredConfig, ctx: Context, task: str) -> dict[str, Any]:
    """What the base can do: artifact `start.<task>`."""
    dev = goals.questions(config.draw(cfg, task, ctx.seed)["dev"])
    tasks, what = config.general(cfg, ctx.setting), Served(ctx.variables["base"])
    ratio = config.declared_goals(cfg)[task].ratio
    make = partial(measure.capability, ctx, what, dev, tasks, ratio)
    return ctx.artifact(f"start.{task}", lambda: {"step": 0, **make()})


def met(goal: goals.Declared, base: Mapping[str, Any]) -> bool:
    """Whether the base meets a goal that was declared as a number."""
    if not goal.target:
        return False
    return bool(resolve_target(goal.goal("any", base["n"]), table.rate(base)).outcome)


def prepare(cfg: AnchoredConfig, optim: OptimConfig, ctx: Context) -> None:
    """Asks the base first: a run whose goals are all met has nothing to train for.

    Raises:
      UsageError: all goals are met; no direction can be found that an arm needs; a judge that
        cannot be opened.
    """
    others.prepare(cfg.judges, ctx)
    declared = config.declared_goals(cfg)
    scores = {task: base_point(cfg, ctx, task) for task in declared}
    if all(met(goal, scores[task]) for task, goal in declared.items()):
        told = [f"{task} {table.rate(point):.3f}" for task, point in scores.items()]
        given = f"goals that the base meets: {', '.join(told)}"
        raise bad("method.goals", given, "one at least that it does not meet")
    chosen = [point for point in config.arms(cfg) if not config.lacks(cfg, point)]
    if cfg.floor:
        general = {name: (k, n) for name, (k, n) in scores[next(iter(scores))]["general"].items()}
        for doubt in by_chance(general, Floor(tuple(general), cfg.floor)):
            ctx.log(f"method.floor={cfg.floor}, {doubt}: more of method.general tells more")
    at_hand = means.maker(cfg, ctx, chosen)(ctx.variables["base"], ctx.seed)
    for point in chosen:
        for when in WHEN:  # what cannot be built or chained is said now
            made = build(point.of(when), at_hand)
            made.loss(answer_loss(ctx.model), 1 / optim.accum)  # nor split in micro-batches
        for settings in point.of(REPAIR).values():
            settings.begin(ctx, at_hand, optim)


def program(cfg: AnchoredConfig, optim: OptimConfig, ctx: Context) -> Program:
    """Trains, selects, measures; returns what the first arm reached its goal with, or its last."""
    study = Study(cfg, optim, ctx)
    curves = yield from draw_curves(study)
    selected = ctx.artifact("selected", lambda: table.select(cfg, study.seeds, curves))
    told = yield from measure_selected(study, selected)
    found = ctx.artifact("table", lambda: table.fill(cfg, selected, curves, told))
    for line in table.lines(found):
        ctx.log(line)
    return (yield from student(study, selected))


def draw_curves(study: Study) -> Yields:
    """Trains every grid point that can be; the curves as `table.select` takes them."""
    cfg, ctx = study.cfg, study.ctx
    curves: dict[str, Any] = {}
    for task, goal in study.goals.items():
        base = base_point(cfg, ctx, task)
        curves[task] = {"base": base, "points": {}}
        if met(goal, base):  # as was declared: nothing to train for
            continue
        for point in study.open:
            found = curves[task]["points"][point.name] = {}
            for seed in study.seeds:
                found[str(seed)] = yield from draw_curve(study, task, point, seed)
    return curves


def draw_curve(study: Study, task: str, point: Point, seed: int) -> Yields:
    """A curve, an artifact: of marked steps, each read when it is measured."""
    cfg, ctx = study.cfg, study.ctx
    made = []
    for step in study.steps():
        what = yield from study.checkpoint(task, point, seed, step)
        made.append((step, what))
    dev, tasks = study.asked(task, "dev"), config.general(cfg, ctx.setting)

    def curve() -> dict[str, Any]:
        ctx.interrupt.doing = f"this curve ({task}, {point.name}, seed {seed})"
        points = []
        while made:  # what was read of one is let go before the next
            step, what = made.pop(0)
            ctx.interrupt.check()
            answering = what()
            told = measure.capability(ctx, answering, dev, tasks, study.goals[task].ratio)
            gap = measure.distance(answering.params, ctx.variables["base"])
            points.append({"step": step, **told, "norm": gap})
        ctx.interrupt.doing = "what it is doing"
        scores = [f"{p['step']}: {table.rate(p):.3f}" for p in points]
        ctx.log(f"{task}, {point.name}, seed {seed}: dev {', '.join(scores)}")
        return {"goal": task, "arm": point.arm, "seed": seed, "points": points}

    return ctx.artifact(f"curve.{task}.{point.name}.{seed}", curve)["points"]


def measure_selected(study: Study, selected: Mapping[str, Any]) -> Yields:
    """Safety of the base and of what was selected: `{artifact's name: verdicts}`."""
    ctx = study.ctx
    sets = [b for b in ctx.setting.benchmarks if b.kind != measure.CAPABILITY]
    told: dict[str, Any] = {}
    base = Served(ctx.variables["base"])
    for bench in sets:
        name = f"verdicts.base.{bench.name}"
        told[name] = ctx.artifact(name, partial(measure.verdicts, ctx, base, bench))
        ctx.interrupt.check()
    for task in study.goals:
        name, test = f"verdicts.base.test.{task}", study.asked(task, "test")
        made = partial(measure.tested, ctx, base, test, study.goals[task].ratio)
        told[name] = ctx.artifact(name, made)
    by_name = {point.name: point for point in study.points}
    for task, name, seed, step in table.wanted(selected):
        what = yield from study.checkpoint(task, by_name[name], seed, step)
        keep = partial(keep_verdicts, study, told, f"verdicts.{task}.{name}.{seed}.{step}")
        keep(task, sets, what)
        del what, keep  # a model
    others.ask(study.cfg.judges, ctx, sets, told)
    return told


def keep_verdicts(
    study: Study, told: dict[str, Any], start: str, task: str, sets: list[Benchmark], what: Any
) -> None:
    """Verdicts of one checkpoint, set by set; it is read when the first of them is missing."""
    ctx, known = study.ctx, []

    def answering() -> Served:
        if not known:
            known.append(what())
        return known[0]

    for bench in sets:
        ctx.interrupt.check()
        ctx.interrupt.doing = f"these answers ({start}, {bench.name})"
        name = f"{start}.{bench.name}"
        told[name] = ctx.artifact(name, lambda b=bench: measure.verdicts(ctx, answering(), b))
    test = study.asked(task, "test")
    ratio = study.goals[task].ratio
    told[f"{start}.test"] = ctx.artifact(
        f"{start}.test", lambda: measure.tested(ctx, answering(), test, ratio)
    )
    ctx.interrupt.doing = "what it is doing"


def student(study: Study, selected: Mapping[str, Any]) -> Yields:
    """The variables of the first row that has a checkpoint; the base where none has."""
    trained = {p.name: p for p in study.points if not p.of("serve")}  # a model of its own
    rows = (row for row in selected["rows"] if row["step"] is not None)
    row = next((row for row in rows if row["point"] in trained), None)
    if row is None:
        return study.ctx.variables
    point = trained[row["point"]]
    what = yield from study.checkpoint(row["goal"], point, row["seed"], row["step"])
    return {**study.ctx.variables, "base": what().params}
