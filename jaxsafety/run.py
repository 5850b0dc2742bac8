"""One experiment from a config to a report: check, load, measure, align, measure again, write.

Everything the run learns is a file of its workdir, and each piece is read back when it is there:
artifacts, checkpoints, generations. The same command therefore resumes, or repeats to the same
numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from jaxsafety import config as configs
from jaxsafety import evaluate, hosts, registry, setting
from jaxsafety.data.chat import encode_prompt
from jaxsafety.errors import bad
from jaxsafety.models import hf, hub, library
from jaxsafety.models.api import LayerInputs
from jaxsafety.probing.controls import word_tokens
from jaxsafety.protocols import Context, OptimConfig, TrainConfig
from jaxsafety.sharding import MeshConfig, make_mesh
from jaxsafety.train.interrupt import Interrupt
from jaxsafety.train.loop import resumable, run_program
from jaxsafety.train.metrics import MetricWriter, NoWriter
from jaxsafety.train.optim import make_optimizer
from jaxsafety.workdir import (
    Artifacts,
    check_owner,
    claim,
    experiment_fingerprint,
    model_fingerprint,
    write_meta,
)

SHIPPED = Path(__file__).parent / "organism" / "base"
UNALIGNED = "shipped:unaligned"  # SafeMoE's base: it answers, and does not know the later domains
SECTIONS = ("program", "seed", "model", "data", "method", "optim", "train", "eval", "mesh")


@dataclass(frozen=True)
class ModelSource:
    """Where the model lies, a directory or a hub id; "" is the shipped organism.

    "shipped:unaligned" is the shipped base before alignment (docs/results/safemoe.md).

    Computes in `dtype`. `shape` names a preset for `plan`, which needs no weights.
    """

    path: str = ""
    shape: str = ""
    dtype: str = "float32"
    remat: str = "none"


def check_sections(cfg: Any) -> None:
    """Rejects a config that lacks a section or has one too many."""
    for section in cfg:
        if section not in SECTIONS:
            raise bad(f"config.{section}", "a section", ", ".join(SECTIONS))
    for section in SECTIONS:
        if section not in cfg:
            raise bad(f"config.{section}", "nothing", f"all of {', '.join(SECTIONS)}")


def directory(source: ModelSource) -> Path:
    """Where a config's model lies."""
    if source.path == UNALIGNED:
        return SHIPPED.with_name("unaligned")
    return hub.directory(source.path) if source.path else SHIPPED


def stored_dtype(source: ModelSource) -> str:
    """What parameters are loaded as: bfloat16 where the model computes in it, as published.

    Trained ones become `train.master` in the state of the stage; a teacher is the base itself.
    """
    return "bfloat16" if source.dtype == "bfloat16" else "float32"


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
      SystemExit: with 0 after SIGTERM, once everything is saved.
    """
    started = time.time()
    check_sections(cfg)
    method = registry.resolve(registry.METHODS, cfg.program)
    source = configs.typed(ModelSource, cfg.model, "model")
    data = configs.typed(setting.DataConfig, cfg.data, "data")
    measure = configs.typed(setting.EvalConfig, cfg.eval, "eval")
    mesh_config = configs.typed(MeshConfig, cfg.mesh, "mesh")
    train = configs.typed(TrainConfig, cfg.train, "train")
    optim = configs.typed(OptimConfig, cfg.optim, "optim")
    method_config = configs.typed(method.config, cfg.method, "method")
    method.check(method_config)
    make_optimizer(optim, 1)
    if optim.clip_by != "global":
        raise bad("optim.clip_by", optim.clip_by, "global: stages that train experts set their own")
    if optim.accum < 1:
        raise bad("optim.accum", optim.accum, "1 or more")
    mesh = make_mesh(mesh_config)
    path = directory(source)
    place = setting.make(path, data, measure, cfg.seed)
    fingerprint = experiment_fingerprint(cfg, path)
    hosts.share(lambda: check_owner(workdir, cfg, fingerprint))
    import jaxsafety

    several = mesh if mesh.size > 1 else None
    model, params, tokenizer = jaxsafety.load(
        path, dtype=source.dtype, remat=source.remat, mesh=several, param_dtype=stored_dtype(source)
    )
    place = replace(place, base=model_fingerprint(path))
    method.fits(method_config, optim, model, tokenizer, place)
    for bench in place.benchmarks:
        evaluate.encoded(bench, tokenizer, model.config.max_length, encode_prompt)
    # Only now: what was refused leaves no workdir behind.
    hosts.share(lambda: claim(workdir, cfg, fingerprint))
    log = log if hosts.leader() else _quiet
    log(f"model: {source.path or 'the shipped organism'}, {_count(params) / 1e6:.2f} M parameters")
    writer = MetricWriter(workdir) if hosts.leader() else NoWriter()
    interrupt = Interrupt()
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
            "refusal_token_ids": word_tokens(tokenizer, place.refusal_words),
        },
    )
    arm = Arms(ctx, place, measure)
    with interrupt.installed(), resumable(ctx):
        method.prepare(method_config, optim, ctx)
        arm("base", params)
        variables = run_program(method.program(method_config, optim, ctx), ctx, train)
        layers = method.serve(method_config, variables)
        export = workdir / "student"
        if layers.adapters is None and not hosts.share((export / "config.json").is_file):
            hf.save(export, model, variables["base"], dtype="bfloat16", tokenizer=tokenizer)
        if (path / "world.json").is_file() and hosts.leader() and export.is_dir():
            (export / "world.json").write_text((path / "world.json").read_text())
        method.inspect(method_config, ctx, variables)
        arm("student", variables["base"], layers)
    writer.close()
    write_meta(workdir, {"seconds": round(time.time() - started, 1)})
    hosts.barrier(f"end of {workdir}")
    return {
        "results": evaluate.read_lines(workdir / "results.jsonl"),
        "variables": variables,
        "workdir": workdir,
    }


class Arms:
    """Measures one model of the run after another under the same settings."""

    def __init__(self, ctx: Context, place: setting.Setting, cfg: setting.EvalConfig) -> None:
        """Remembers what all arms share."""
        self.ctx, self.place, self.cfg = ctx, place, cfg

    def __call__(
        self, name: str, params: Any, layers: LayerInputs = evaluate.NO_LAYERS
    ) -> list[dict[str, Any]]:
        """Evaluates `params` with `layers` as arm `name`; finished sets are read back."""
        return evaluate.evaluate(
            self.ctx.model,
            params,
            self.ctx.tokenizer,
            self.place.benchmarks,
            self.place.judge,
            self.ctx.workdir,
            name,
            seed=self.cfg.seed,
            decodings=decodings(self.cfg),
            batch_size=self.cfg.batch_size,
            log=self.log,
            fingerprint=str(self.ctx.extras.get("fingerprint", "")),
            groups=self.place.groups,
            layers=layers,
        )

    def log(self, line: str) -> None:
        """Passes a line on; after SIGTERM it is the last one, what it tells of is on disk."""
        self.ctx.log(line)
        interrupt = self.ctx.extras.get("interrupt")
        if interrupt is not None and interrupt.is_set():
            self.ctx.log("resumable: stopped by SIGTERM while measuring; run it again to go on")
            raise SystemExit(0)


def _quiet(line: str) -> None:
    """The log of the processes beside the leader."""
    del line


def decodings(cfg: setting.EvalConfig) -> tuple[evaluate.Decoding, ...]:
    """Greedy for everything, temperature 1 for safety and over-refusal."""
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
    place = setting.make(path, data, measure, cfg.seed)
    if rejudge:
        return evaluate.rejudge(
            workdir, place.benchmarks, place.judge, groups=place.groups, seed=measure.seed
        )
    student, experts = aligned(workdir)
    for arm, where, mixed in (("base", path, None), ("student", student, experts)):
        _measure(where, workdir, arm, place, measure, True, source.dtype, mixed)
    return evaluate.read_lines(workdir / "results.jsonl")


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


def _saved(workdir: Path) -> Any:
    """The config of a run."""
    try:
        saved = json.loads((workdir / "config.json").read_text())
        return configs.ConfigDict({section: saved[section] for section in SECTIONS})
    except (OSError, ValueError, KeyError, TypeError):
        raise bad("workdir", str(workdir), "a run with a readable config.json") from None


def evaluate_model(path: Path, out: Path) -> list[dict[str, Any]]:
    """Measures a model directory of the organism on its world's sets; the arm is "base"."""
    measure = setting.EvalConfig()
    place = setting.make(path, setting.DataConfig(), measure, 0)
    _measure(path, out, "base", place, measure, overwrite=False)
    return evaluate.read_lines(out / "results.jsonl")


def _measure(
    path: Path,
    out: Path,
    arm: str,
    place: setting.Setting,
    measure: setting.EvalConfig,
    overwrite: bool,
    dtype: str = "float32",
    experts: Path | None = None,
) -> None:
    import jaxsafety

    model, params, tokenizer = jaxsafety.load(path, dtype=dtype)
    layers = evaluate.NO_LAYERS
    if experts is not None:
        layers = library.inputs(experts, model, fingerprint=model_fingerprint(path))
    evaluate.evaluate(
        model,
        params,
        tokenizer,
        place.benchmarks,
        place.judge,
        out,
        arm,
        seed=measure.seed,
        decodings=decodings(measure),
        batch_size=measure.batch_size,
        overwrite=overwrite,
        groups=place.groups,
        layers=layers,
    )
