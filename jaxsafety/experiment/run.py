"""One experiment from a config to a report: check, load, measure, align, measure again, write.

Everything the run learns is a file of its workdir, and each piece is read back when it is there:
artifacts, checkpoints, generations. The same command therefore resumes, or repeats to the same
numbers.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxsafety.core import disk, hosts
from jaxsafety.core.interrupt import Interrupt, Preempted
from jaxsafety.core.sharding import MeshConfig, make_mesh, scope, settle
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.evaluation import evaluate
from jaxsafety.experiment import beside, mitigated, record, served, thinking, tracked, trained
from jaxsafety.experiment import setting as settings
from jaxsafety.experiment.arms import Arms, export, round_as_stored
from jaxsafety.experiment.identity import experiment_fingerprint, model_fingerprint
from jaxsafety.experiment.sections import DataConfig, EvalConfig
from jaxsafety.experiment.workdir import (
    Artifacts,
    add_seconds,
    begun_on,
    check_owner,
    claim,
    read_meta,
    write_meta,
)
from jaxsafety.models.formats import hf, load
from jaxsafety.models.formats.source import (
    ModelSource,
    base_path,
    directory,
    found,
    stored_dtype,
)
from jaxsafety.protocols import Context, Dialogues, Served, Setting
from jaxsafety.train.loop import run_program
from jaxsafety.train.metrics import closing
from jaxsafety.train.trackers import opening


def run(cfg: Any, workdir: Path, log: Callable[[str], None] = print) -> dict:
    """Runs or resumes an experiment.

    Args:
      cfg: a ConfigDict; see `configs/common.py` for its sections.
      workdir: created if missing; one workdir belongs to one config.
      log: where one-line progress goes.

    Returns:
      {"results": records, "variables": the trained variables, "workdir": workdir}.

    Raises:
      UsageError: anything wrong with config, model directory, prompts or workdir, before training.
      SystemExit: with 0 after SIGTERM and 130 after Ctrl-C, once everything is saved.

    Example:
      >>> from pathlib import Path
      >>> import jaxsafety
      >>> from jaxsafety.core.config import load_config
      >>> config = load_config("configs/sft/organism.py:smoke")
      >>> config.optim.lr = -1.0  # refused before any work; without this line it trains
      >>> jaxsafety.run(config, Path("runs/example"))
      Traceback (most recent call last):
        ...
      jaxsafety.core.errors.UsageError: optim.lr: got -1.0; allowed: a finite number, 0 or more
    """
    interrupt, started = Interrupt(), time.time()
    interrupt.kept = "nothing is written yet"
    with interrupt.install():
        try:
            with interrupt.at_once():
                return _run(cfg, workdir, log, interrupt)
        except SystemExit:  # the loop saved a stage and said so
            _count_start(workdir, started)
            raise
        except Preempted:
            log = log if hosts.leader() else _quiet
            _count_start(workdir, started)
            where = interrupt.doing.removeprefix("what it is doing")
            log(
                f"resumable: stopped by {interrupt.reason}{f' in {where}' if where else ''};"
                " the same command goes on from here"
            )
            raise SystemExit(interrupt.code) from None


def _count_start(workdir: Path, started: float) -> None:
    """Adds the time of a start that was interrupted."""
    if read_meta(workdir):
        add_seconds(workdir, time.time() - started, finished=False)


def _run(cfg: Any, workdir: Path, log: Callable[[str], None], interrupt: Interrupt) -> dict:
    """`run`, inside its handling of signals."""
    started = time.time()
    exp = record.typed(cfg)
    hosts.share(lambda: opening.check(exp.train.trackers))
    method, measure = exp.entry, exp.eval
    mesh = make_mesh(exp.mesh)
    path, why = found(exp.model)
    setting = settings.make(
        path,
        exp.data,
        measure,
        exp.seed,
        reads=method.reads,
        method=exp.program,
        later=True,
        model=why,
    )
    fingerprint = experiment_fingerprint(cfg, path)
    if hosts.share(lambda: check_owner(workdir, cfg, fingerprint, path)):
        # The one it has: of an older run it may have been made in another way.
        fingerprint = hosts.share(lambda: str(read_meta(workdir)["fingerprint"]))

    log = log if hosts.leader() else _quiet
    dialogues = Dialogues()

    def ready(tokenizer: Any) -> None:
        """Before weights are read: a broken row first, then whole files."""
        nonlocal dialogues, setting
        setting = thinking.hear(setting, measure, tokenizer)
        tokenizer.pin(hosts.share(lambda: begun_on(workdir)))
        dialogues = method.encode(exp.method, tokenizer, setting, log)
        settings.verify(setting, exp.data, measure, method.reads, exp.program)

    several = mesh if mesh.size > 1 else None
    model, params, tokenizer = load.load(
        path,
        dtype=exp.model.dtype,
        remat=exp.model.remat,
        mesh=several,
        param_dtype=stored_dtype(exp.model),
        variables=exp.model.given(),
        ready=ready,
        template=exp.model.template,
    )
    params = settle(params, mesh)
    setting = replace(setting, base=model_fingerprint(path))
    evaluate.check_sets(setting.benchmarks, decodings(measure))
    method.fits(exp.method, exp.optim, model, tokenizer, setting)
    for bench in setting.benchmarks:
        evaluate.encode_items(bench, tokenizer, model.config.max_length, encode_prompt)
    # Only now: what was refused leaves no workdir behind.
    hosts.share(lambda: claim(workdir, cfg, fingerprint, path))
    if tokenizer.dated:
        write_meta(workdir, {"date": tokenizer.date})
        pin = f"""--config.model.variables='date="{tokenizer.date}"'"""
        log(f"the chat template writes a date: {tokenizer.date} in all of this run; {pin} pins it")
    write_meta(workdir, {**settings.facts(setting, exp.data), **dialogues.facts})
    learnt = trained.list_learnt(
        setting, exp.data, method.reads, method.learns(exp.method, setting)
    )
    write_meta(workdir, {"shared": trained.count(setting.benchmarks, learnt)})
    name = exp.model.path or "the shipped organism"
    log(f"model: {name}, {count_parameters(params) / 1e6:.2f} M parameters")
    for line in [*settings.lines(setting, exp.data), *record.differences(cfg)]:
        log(line)
    writer = tracked.writer(workdir, exp.train, cfg, log)
    # From here on whoever works in pieces asks: what is finished is on disk, and stays.
    interrupt.poll()
    interrupt.kept = "what is finished is kept"
    ctx = Context(
        model=model,
        tokenizer=tokenizer,
        workdir=workdir,
        artifact=Artifacts(workdir),
        setting=setting,
        writer=writer,
        mesh=mesh,
        variables={"base": params},
        seed=exp.seed,
        log=log,
        interrupt=interrupt,
        dialogues=dialogues,
        fingerprint=fingerprint,
        base_path=base_path(exp.model),
        sampling=exp.mesh.sampling,
    )
    arm, stored = Arms(ctx, measure, decodings(measure)), stored_dtype(exp.model)
    hooks: list[mitigated.Serve] = []

    def servable() -> None:
        """Before a stage is trained: whether what its mitigation asks for can be served."""
        asked = mitigated.serve(Served(params), hooks)
        beside.check(asked, model)
        for bench in setting.benchmarks:
            evaluate.encode_items(bench, tokenizer, model.config.max_length, asked.encode)
        # Until `served/` is written nobody may take what is there for the finished model.
        write_meta(workdir, {beside.ASKED: True})

    with closing(writer), scope(mesh):
        interrupt.check()
        method.prepare(exp.method, exp.optim, ctx)
        arm("base", Served(params))
        program = mitigated.hear(method.program(exp.method, exp.optim, ctx), hooks, servable)
        variables = run_program(program, ctx, exp.train)
        # The model that others will load: what is measured is what is written, to the bit.
        variables = {**variables, "base": round_as_stored(variables["base"], stored)}
        own = method.serve(exp.method, variables)
        what = mitigated.serve(own, hooks)
        beside.check_kept(own, what)
        what = what._replace(params=round_as_stored(what.params, stored))
        variables = {**variables, "base": what.params}
        place, named = path, ctx.base_path
        if own.layers.adapters is None or beside.other(params, own.params):
            place, named = workdir / "student", ""
            export(place, path, ctx, what.params, stored)
        beside.keep(workdir, what, model, place, named)
        if hooks:
            write_meta(workdir, {beside.ASKED: beside.is_needed(workdir)})
        method.inspect(exp.method, ctx, variables)
        interrupt.check()
        arm("student", what)
    add_seconds(workdir, time.time() - started, finished=True)
    hosts.barrier(f"end of {workdir}")
    return {
        "results": disk.read_lines(workdir / "results.jsonl"),
        "variables": variables,
        "workdir": workdir,
    }


def _quiet(line: str) -> None:
    """The log of the processes beside the leader."""
    del line


def decodings(cfg: EvalConfig) -> tuple[evaluate.Decoding, ...]:
    """Greedy for everything, temperature 1 for safety and over-refusal unless `samples` is 0."""
    if not cfg.samples:
        return (evaluate.Decoding("greedy"),)
    sampled = evaluate.Decoding("t1", temperature=1.0, samples=cfg.samples)
    return (evaluate.Decoding("greedy"), sampled)


def count_parameters(params: Any) -> int:
    """How many numbers a tree of arrays, or of their shapes, has."""
    return sum(x.size for x in jax.tree.leaves(params))


def evaluate_workdir(
    workdir: Path, rejudge: bool = False, log: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Measures the models of a finished run again, or only judges what they said again.

    Args:
      workdir: of a finished run.
      rejudge: read the saved generations instead of loading a model.
      log: where one-line progress goes.

    Raises:
      UsageError: not a run, or an unfinished one.
      SystemExit: after a signal; the same call goes on from there.
    """
    exp = record.read(workdir)
    path, measure = directory(exp.model), exp.eval
    setting = settings.make_measured(path, exp.data, measure, exp.seed)
    if measure.reasoning:  # the student has the same template
        tokenizer = load.read_tokenizer(path, exp.model.given(), exp.model.template)
        setting = thinking.hear(setting, measure, tokenizer)
    if rejudge:
        return evaluate.rejudge(
            workdir, setting.benchmarks, setting.judge, groups=setting.groups, seed=measure.seed
        )
    student, served_with = beside.find(workdir)
    mesh = served.mesh_of_run(exp.mesh)
    made = str(read_meta(workdir).get("fingerprint", ""))  # so that `run` finds its own answers
    # Since when it is measured again: a start after an interrupted one keeps what that one made.
    since = float(read_meta(workdir).get("remeasured_since") or time.time())
    write_meta(workdir, {"remeasured_since": since})
    with resumable(log) as interrupt:
        for arm, where, with_it in (
            ("base", path, beside.NOTHING),
            ("student", student, served_with),
        ):
            what = served.load(
                where,
                dtype=exp.model.dtype,
                mesh=mesh,
                beside=with_it,
                variables=exp.model.given(),
                template=exp.model.template,
                kernels=exp.model.kernels,
            )
            _measure(
                what,
                mesh,
                workdir,
                arm,
                setting,
                measure,
                overwrite=True,
                since=since,
                fingerprint=made,
                interrupt=interrupt,
            )
            del what  # let go before the next one comes
    write_meta(workdir, {"remeasured_since": None})
    return disk.read_lines(workdir / "results.jsonl")


@contextlib.contextmanager
def resumable(log: Callable[[str], None]) -> Iterator[Interrupt]:
    """Measuring again: a signal ends it after the batch, and what is finished is kept."""
    interrupt = Interrupt()
    interrupt.doing, interrupt.kept = "this batch of answers", "what is finished is kept"
    with interrupt.install():
        try:
            yield interrupt
        except Preempted:
            log(f"resumable: stopped by {interrupt.reason}; the same command goes on from here")
            raise SystemExit(interrupt.code) from None


def read_place(workdir: Path) -> tuple[str, MeshConfig]:
    """What a run computes in, and on which mesh.

    Raises:
      UsageError: not a run.
    """
    exp = record.read(workdir)
    return exp.model.dtype, exp.mesh


def variables_of(workdir: Path) -> dict[str, Any]:
    """What a run gave to the chat template."""
    return record.read(workdir).model.given()


def kernels_of(workdir: Path) -> str:
    """How a run kept the kernels of its model: `model.kernels` of its config."""
    return record.read(workdir).model.kernels


def template_of(workdir: Path) -> str:
    """Which template a run was made with: `model.template` of its config."""
    return record.read(workdir).model.template


def evaluate_model(path: Path, out: Path, variables: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Measures a model directory of the organism on its world's sets; the arm is "base"."""
    measure = EvalConfig()
    setting = settings.make(path, DataConfig(), measure, 0)
    source = ModelSource(variables=variables)
    mesh = served.mesh_here(hf.read_config(path), measure.batch_size)
    with resumable(print) as interrupt:
        what = served.load(path, mesh=mesh, variables=source.given())
        _measure(what, mesh, out, "base", setting, measure, interrupt=interrupt)
    return disk.read_lines(out / "results.jsonl")


def _measure(
    loaded: served.Loaded,
    mesh: Any,
    out: Path,
    arm: str,
    setting: Setting,
    measure: EvalConfig,
    overwrite: bool = False,
    since: float = math.inf,
    fingerprint: str = "",
    *,
    interrupt: Interrupt,
) -> None:
    what = loaded.what
    loaded.tokenizer.pin(begun_on(out))
    with scope(mesh):
        evaluate.evaluate(
            loaded.model,
            what.params,
            loaded.tokenizer,
            setting.benchmarks,
            setting.judge,
            out,
            arm,
            seed=measure.seed,
            decodings=decodings(measure),
            batch_size=measure.batch_size,
            overwrite=overwrite,
            since=since,
            check=interrupt.check,
            groups=setting.groups,
            layers=what.layers,
            steer=what.steer,
            encode=what.encode,
            fingerprint=fingerprint,
        )
