"""Raises the organism's base of another world: `jaxsafety organism --seed=N --out=DIR`.

The result is an ordinary Hugging Face directory with three more files: `world.json` (which world it
lives in), `training.json` (seed, settings, the first losses, final metrics) and `gates.json` (what
the base must be able to do, measured, with its limits). Resumable: checkpoints lie in
`DIR/training`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxsafety.benchmarks.organism import world_of
from jaxsafety.core import disk
from jaxsafety.core.errors import bad
from jaxsafety.core.sharding import make_mesh
from jaxsafety.data.tokens.tokenizer import load_tokenizer
from jaxsafety.experiment.workdir import Artifacts
from jaxsafety.models.api import ModelConfig, build
from jaxsafety.models.formats import hf, load
from jaxsafety.organism import lexicon
from jaxsafety.organism.mixture import UNALIGNED, MixtureConfig
from jaxsafety.organism.world import WorldConfig, make_world, save_world
from jaxsafety.protocols import Context, OptimConfig, Setting, TrainConfig
from jaxsafety.raising import calibration, limits, limits_unaligned, pretrain
from jaxsafety.train.loop import run_program
from jaxsafety.train.metrics import MetricWriter

OPTIM = OptimConfig(name="muon", lr=8e-3, b2=0.98, weight_decay=0.05, warmup=0.03, final=0.02)


class Recipe(NamedTuple):
    """A base: sizes of its world, what it is raised on, for how many steps, what it must show."""

    world: WorldConfig
    mixture: MixtureConfig
    steps: int
    measure: Callable[..., dict[str, Any]]
    optim: OptimConfig = OPTIM


class Start(NamedTuple):
    """The base that another one is trained on from: its directory, and how many steps it had."""

    path: Path
    steps: int


# "unaligned" is SafeMoE's: it answers harmful requests, and of ten domains it knows no facts.
RECIPES = {
    "aligned": Recipe(WorldConfig(), MixtureConfig(), 4000, limits.measure),
    "unaligned": Recipe(
        WorldConfig(harm_domains=14, unknown_domains=10), UNALIGNED, 3000, limits_unaligned.measure
    ),
}
FIRST_LOSSES = 20


def model_config(vocab_size: int) -> ModelConfig:
    """The organism's shape: six Qwen3-style layers, 1.3 M parameters."""
    return ModelConfig(
        family="qwen3",
        vocab_size=vocab_size,
        embed_dim=128,
        num_layers=6,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32,
        mlp_dim=384,
        max_length=256,
        norm_eps=1e-6,
        qk_norm="head",
    )


def train_base(
    seed: int,
    out: Path,
    steps: int | None = None,
    smoke: bool = False,
    log: Callable[[str], None] = print,
    kind: str = "aligned",
) -> Path:
    """Trains the base of world `seed` from scratch and writes it to `out`.

    Args:
      seed: of the world, the mixture and the initial weights.
      out: the directory to make; a started one is continued.
      steps: of training; the shipped base's by default.
      smoke: three small steps and no gates, for tests.
      log: where one-line progress goes.
      kind: one of `RECIPES`.

    Returns:
      `out`.

    Raises:
      UsageError: an unknown kind, or `out` holds the base of another seed or number of steps.
    """
    if kind not in RECIPES:
        raise bad("--kind", kind, ", ".join(RECIPES))
    recipe = RECIPES[kind]
    if steps is not None:
        recipe = recipe._replace(steps=steps)
    return train(recipe, seed, out, smoke, log)


def train(
    recipe: Recipe,
    seed: int,
    out: Path,
    smoke: bool = False,
    log: Callable[[str], None] = print,
    start: Start | None = None,
) -> Path:
    """Trains a base by a recipe, from scratch or from another base of its world; see `train_base`.

    Args:
      recipe: what is raised.
      seed: of the world, the mixture and the initial weights.
      out: the directory to make; a started one is continued.
      smoke: three small steps and no gates, for tests.
      log: where one-line progress goes.
      start: where training begins; the weights as they are stored there.

    Returns:
      `out`.

    Raises:
      UsageError: `out` holds another base, or one that began elsewhere.
    """
    steps = 3 if smoke else recipe.steps
    started, work = time.time(), out / "training"
    optim = asdict(recipe.optim)
    if optim["warmup_rule"] == OptimConfig().warmup_rule:  # it came later: bases go on without it
        del optim["warmup_rule"]
    plan = {
        "seed": seed,
        "steps": steps,
        "mixture": asdict(recipe.mixture),
        "optim": optim,
    }
    if start is not None:
        plan["start"] = {"steps": start.steps, "model": fingerprint(start.path)}
    claim(out, plan)
    last = out / ("training.json" if smoke else "gates.json")
    if last.is_file() and not (work / "checkpoints").is_dir():
        log(f"{out} is finished")
        return out
    ctx, program = prepare(seed, steps, out, work, log, recipe=recipe, start=start)
    variables = run_program(program, ctx, TrainConfig(checkpoint_every=500, log_every=1))
    ctx.writer.close()
    hf.save(out, ctx.model, variables["base"], dtype="bfloat16", tokenizer=ctx.tokenizer)
    world = world_of(ctx.setting)
    if not smoke:
        world = calibration.calibrate(ctx.model, variables["base"], ctx.tokenizer, world, log=log)
    save_world(world, out)
    rows = disk.read_lines(work / "metrics.jsonl")
    record = {
        **plan,
        "parameters": sum(x.size for x in jax.tree.leaves(variables["base"])),
        "first_losses": [row["loss"] for row in rows[:FIRST_LOSSES]],
        "last_loss": sum(row["loss"] for row in rows[-50:]) / len(rows[-50:]),
        "curve": [[row["step"], round(row["loss"], 4)] for row in rows[:: max(1, steps // 100)]],
        "seconds": round(time.time() - started, 1),
    }
    disk.write_json(out / "training.json", record)
    if not smoke:
        disk.write_json(out / "gates.json", recipe.measure(out, log=log))
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    return out


def fingerprint(path: Path) -> str:
    """The content of a base's weights, as one line."""
    return disk.digest(path / "model.safetensors")


def claim(out: Path, plan: Mapping[str, Any]) -> None:
    """Makes `out` the directory of this plan, or checks that it is."""
    path = out / "training" / "plan.json"
    if path.is_file():
        known = json.loads(path.read_text())
        if known != json.loads(json.dumps(plan)):
            given = f"{out}, the base of seed {known.get('seed')}, {known.get('steps')} steps"
            same = "seed and steps" if "start" not in plan else "seed, steps and start"
            raise bad("--out", given, f"a new directory, or the same {same}")
    elif (out / "config.json").is_file():
        raise bad("--out", str(out), "a new directory; this one holds another model")
    disk.write_json(path, plan)


def prepare(
    seed: int,
    steps: int,
    out: Path,
    work: Path,
    log: Callable[[str], None] = print,
    stop: Callable[[int, Any], bool] | None = None,
    recipe: Recipe = RECIPES["aligned"],
    start: Start | None = None,
) -> tuple[Context, Any]:
    """The context and the program of a base's training; `stop(step, row)` may end it early."""
    world = make_world(replace(recipe.world, seed=seed))
    vocab_size = lexicon.write_tokenizer(world, out)
    tokenizer = load_tokenizer(out)
    model = build(model_config(vocab_size))
    begin = load.load(start.path)[1] if start else model.init(jax.random.key(seed))
    work.mkdir(parents=True, exist_ok=True)
    ctx = Context(
        model=model,
        tokenizer=tokenizer,
        workdir=work,
        artifact=Artifacts(work),
        setting=Setting(world=world, seed=seed),
        writer=MetricWriter(work),
        mesh=make_mesh(devices=jax.devices()[:1]),
        variables={"base": begin},
        seed=seed,
        log=log,
    )
    cfg = pretrain.PretrainConfig(steps=steps, first=start.steps if start else 0)
    name = "align" if start else "pretrain"
    return ctx, pretrain.program(cfg, recipe.optim, recipe.mixture, ctx, stop, name)
