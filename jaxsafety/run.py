"""One experiment from a config to a report: check, load, measure, align, measure again, write.

Everything the run learns is a file of its workdir, and each piece is read back when it is there:
artifacts, checkpoints, generations. The same command therefore resumes, or repeats to the same
numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxsafety import config as configs
from jaxsafety import evaluate, hosts, registry, served, setting
from jaxsafety.arms import Arms, export, rounded
from jaxsafety.data.chat import encode_prompt
from jaxsafety.errors import bad
from jaxsafety.models import hf, library
from jaxsafety.probing.controls import word_tokens
from jaxsafety.protocols import Context, OptimConfig, TrainConfig
from jaxsafety.sharding import MeshConfig, make_mesh, scope
from jaxsafety.source import SHIPPED as SHIPPED
from jaxsafety.source import UNALIGNED as UNALIGNED
from jaxsafety.source import ModelSource as ModelSource
from jaxsafety.source import base_path, found, stored_dtype
from jaxsafety.source import directory as directory
from jaxsafety.train.interrupt import Interrupt, Preempted
from jaxsafety.train.loop import run_program
from jaxsafety.train.metrics import MetricWriter, NoWriter
from jaxsafety.train.optim import make_optimizer
from jaxsafety.workdir import (
    Artifacts,
    add_seconds,
    begun_on,
    check_owner,
    claim,
    experiment_fingerprint,
    model_fingerprint,
    read_meta,
    write_meta,
)

SECTIONS = ("program", "seed", "model", "data", "method", "optim", "train", "eval", "mesh")


def check_sections(cfg: Any) -> None:
    """Rejects a config that lacks a section or has one too many."""
    for section in cfg:
        if section not in SECTIONS:
            raise bad(f"config.{section}", "a section", ", ".join(SECTIONS))
    for section in SECTIONS:
        if section not in cfg:
            raise bad(f"config.{section}", "nothing", f"all of {', '.join(SECTIONS)}")


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
    """
    interrupt, started = Interrupt(), time.time()
    interrupt.kept = "nothing is written yet"
    with interrupt.installed():
        try:
            with interrupt.at_once():
                return _run(cfg, workdir, log, interrupt)
        except Preempted:
            log = log if hosts.leader() else _quiet
            if read_meta(workdir):
                add_seconds(workdir, time.time() - started, finished=False)
            where = interrupt.doing.removeprefix("what it is doing")
            log(
                f"resumable: stopped by {interrupt.reason}{f' in {where}' if where else ''};"
                " the same command goes on from here"
            )
            raise SystemExit(interrupt.code) from None


def _run(cfg: Any, workdir: Path, log: Callable[[str], None], interrupt: Interrupt) -> dict:
    """`run`, inside its handling of signals."""
    started = time.time()
    check_sections(cfg)
    method = registry.resolve(registry.METHODS, cfg.program)
    source = configs.typed(ModelSource, cfg.model, "model")
    data = configs.typed(setting.DataConfig, cfg.data, "data")
    measure = configs.typed(setting.EvalConfig, cfg.eval, "eval")
    mesh_config = configs.typed(MeshConfig, cfg.mesh, "mesh")
    train = configs.typed(TrainConfig, cfg.train, "train")
    optim = configs.typed(OptimConfig, cfg.optim, "optim")
    source.given()
    method_config = configs.typed(method.config, cfg.method, "method")
    method.check(method_config)
    make_optimizer(optim, 1)
    if optim.clip_by != "global":
        raise bad("optim.clip_by", optim.clip_by, "global: stages that train experts set their own")
    mesh = make_mesh(mesh_config)
    path, why = found(source)
    place = setting.make(
        path, data, measure, cfg.seed, reads=method.reads, method=cfg.program, later=True, model=why
    )
    fingerprint = experiment_fingerprint(cfg, path)
    hosts.share(lambda: check_owner(workdir, cfg, fingerprint, path))
    import jaxsafety

    log = log if hosts.leader() else _quiet
    encoded: dict[str, Any] = {}

    def ready(tokenizer: Any) -> None:
        """Before weights are read: a broken row first, then whole files."""
        tokenizer.pin(hosts.share(lambda: begun_on(workdir)))
        encoded.update(method.encode(method_config, tokenizer, place, log))
        setting.verify(place, cfg.program)

    several = mesh if mesh.size > 1 else None
    model, params, tokenizer = jaxsafety.load(
        path, dtype=source.dtype, remat=source.remat, mesh=several,
        param_dtype=stored_dtype(source), variables=source.given(), ready=ready,
    )  # fmt: skip
    place = replace(place, base=model_fingerprint(path))
    method.fits(method_config, optim, model, tokenizer, place)
    for bench in place.benchmarks:
        evaluate.encoded(bench, tokenizer, model.config.max_length, encode_prompt)
    # Only now: what was refused leaves no workdir behind.
    hosts.share(lambda: claim(workdir, cfg, fingerprint, path))
    if tokenizer.dated:
        write_meta(workdir, {"date": tokenizer.date})
        pin = f"""--config.model.variables='date="{tokenizer.date}"'"""
        log(f"the chat template writes a date: {tokenizer.date} in all of this run; {pin} pins it")
    write_meta(workdir, {**place.facts(), **encoded.pop("facts", {})})
    log(f"model: {source.path or 'the shipped organism'}, {_count(params) / 1e6:.2f} M parameters")
    for line in place.lines():
        log(line)
    writer = MetricWriter(workdir) if hosts.leader() else NoWriter()
    # From here on whoever works in pieces asks: what is finished is on disk, and stays.
    interrupt.polled()
    interrupt.kept = "what is finished is kept"
    ctx = Context(
        model=model,
        tokenizer=tokenizer,
        workdir=workdir,
        artifact=Artifacts(workdir),
        prompts=place.prompts,
        judge=place.judge,
        writer=writer,
        mesh=mesh,
        variables={"base": params},
        seed=cfg.seed,
        log=log,
        extras={
            "fingerprint": fingerprint,
            "interrupt": interrupt,
            "world": place.world,
            "benchmarks": place.benchmarks,
            "examples": place.examples,
            "weights": place.weights,
            "base_fingerprint": place.base,
            "base_path": base_path(source),
            "refusal_token_ids": word_tokens(tokenizer, place.refusal_words),
            **encoded,
        },
    )
    arm, stored = Arms(ctx, place, measure, decodings(measure)), stored_dtype(source)
    with scope(mesh):
        interrupt.check()
        method.prepare(method_config, optim, ctx)
        arm("base", params)
        variables = run_program(method.program(method_config, optim, ctx), ctx, train)
        # The model that others will load: what is measured is what is written, to the bit.
        variables = {**variables, "base": rounded(variables["base"], stored)}
        layers = method.serve(method_config, variables)
        if layers.adapters is None:
            export(workdir / "student", path, ctx, variables["base"], stored)
        method.inspect(method_config, ctx, variables)
        interrupt.check()
        arm("student", variables["base"], layers)
    writer.close()
    add_seconds(workdir, time.time() - started, finished=True)
    hosts.barrier(f"end of {workdir}")
    return {
        "results": evaluate.read_lines(workdir / "results.jsonl"),
        "variables": variables,
        "workdir": workdir,
    }


def _quiet(line: str) -> None:
    """The log of the processes beside the leader."""
    del line


def decodings(cfg: setting.EvalConfig) -> tuple[evaluate.Decoding, ...]:
    """Greedy for everything, temperature 1 for safety and over-refusal unless `samples` is 0."""
    if not cfg.samples:
        return (evaluate.Decoding("greedy"),)
    sampled = evaluate.Decoding("t1", temperature=1.0, samples=cfg.samples)
    return (evaluate.Decoding("greedy"), sampled)


def _count(params: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


def evaluate_workdir(workdir: Path, rejudge: bool = False) -> list[dict[str, Any]]:
    """Measures the models of a finished run again, or only judges what they said again.

    Args:
      workdir: of a finished run.
      rejudge: read the saved generations instead of loading a model.

    Raises:
      UsageError: not a run, or an unfinished one.
    """
    cfg = _saved(workdir)
    source = configs.typed(ModelSource, cfg.model, "model")
    path = directory(source)
    data = configs.typed(setting.DataConfig, cfg.data, "data")
    measure = configs.typed(setting.EvalConfig, cfg.eval, "eval")
    reads = registry.resolve(registry.METHODS, cfg.program).reads
    place = setting.make(path, data, measure, cfg.seed, reads=reads, method=cfg.program)
    if rejudge:
        return evaluate.rejudge(
            workdir, place.benchmarks, place.judge, groups=place.groups, seed=measure.seed
        )
    student, experts = aligned(workdir)
    mesh = served.mesh_of_run(configs.typed(MeshConfig, cfg.mesh, "mesh"))
    made = str(read_meta(workdir).get("fingerprint", ""))  # so that `run` finds its own answers
    for arm, where, mixed in (("base", path, None), ("student", student, experts)):
        what = served.load(
            where, dtype=source.dtype, mesh=mesh, experts=mixed, variables=source.given()
        )
        _measure(what, mesh, workdir, arm, place, measure, overwrite=True, fingerprint=made)
        del what  # let go before the next one comes
    return evaluate.read_lines(workdir / "results.jsonl")


def computed(workdir: Path) -> tuple[str, MeshConfig]:
    """What a run computes in, and on which mesh.

    Raises:
      UsageError: not a run.
    """
    cfg = _saved(workdir)
    source = configs.typed(ModelSource, cfg.model, "model")
    return source.dtype, configs.typed(MeshConfig, cfg.mesh, "mesh")


def aligned(workdir: Path) -> tuple[Path, Path | None]:
    """What a finished run made: a model directory, and the library of experts it runs with, if any.

    Raises:
      UsageError: not a run, an unfinished one, or one that keeps no model.
    """
    base = directory(configs.typed(ModelSource, _saved(workdir).model, "model"))
    experts = workdir / "library"
    if (experts / library.ROUTER).is_file():
        return base, experts
    if not (workdir / "student" / "config.json").is_file():
        allowed = "a finished run, with its student/ or library/ (an unsafe adapter has neither)"
        raise bad("workdir", str(workdir), allowed)
    return workdir / "student", None


def variables_of(workdir: Path) -> dict[str, Any]:
    """What a run gave to the chat template."""
    return configs.typed(ModelSource, _saved(workdir).model, "model").given()


def _saved(workdir: Path) -> Any:
    """The config of a run."""
    try:
        saved = json.loads((workdir / "config.json").read_text())
        return configs.ConfigDict({section: saved[section] for section in SECTIONS})
    except (OSError, ValueError, KeyError, TypeError):
        raise bad("workdir", str(workdir), "a run with a readable config.json") from None


def evaluate_model(path: Path, out: Path, variables: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Measures a model directory of the organism on its world's sets; the arm is "base"."""
    measure = setting.EvalConfig()
    place = setting.make(path, setting.DataConfig(), measure, 0)
    source = ModelSource(variables=variables)
    mesh = served.mesh_here(hf.read_config(path), measure.batch_size)
    what = served.load(path, mesh=mesh, variables=source.given())
    _measure(what, mesh, out, "base", place, measure)
    return evaluate.read_lines(out / "results.jsonl")


def _measure(
    what: served.Served,
    mesh: Any,
    out: Path,
    arm: str,
    place: setting.Setting,
    measure: setting.EvalConfig,
    overwrite: bool = False,
    fingerprint: str = "",
) -> None:
    what.tokenizer.pin(begun_on(out))
    with scope(mesh):
        evaluate.evaluate(
            what.model,
            what.params,
            what.tokenizer,
            place.benchmarks,
            place.judge,
            out,
            arm,
            seed=measure.seed,
            decodings=decodings(measure),
            batch_size=measure.batch_size,
            overwrite=overwrite,
            groups=place.groups,
            layers=what.layers,
            fingerprint=fingerprint,
        )
