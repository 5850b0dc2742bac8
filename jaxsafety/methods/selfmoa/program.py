"""Self-MOA: a model attacks itself, judges say what was safe and what helpful, it learns from that.

Paper: arXiv 2603.07017 ("Can Safety Emerge from Weak Supervision?"); no code is public. A round
rewrites and disguises k prompts, samples m answers to each, lets two judges score them, and makes
pairs of them, the more helpful answer preferred, with the two safety scores as margins
(`rounds.py`). Full buffers end in training: successes train the attackers again, q pairs make a
stage of preference optimisation (`losses/preference.py`).

Artifacts, in order; R a round, K a stage:

    probe.0                      what the start says to held-out prompts
    attack.R, answers.R, round.R see `rounds.py`
    reference.K, probe.K         log-probabilities that stage K is held to; after it, as probe.0

What differs from the paper, which leaves much open (docs/selfmoa.md has the list):
- buffers fill over rounds (`pool.py`), and every stage has exactly q pairs, so that the compiled
  step of the first serves all;
- the attackers are LoRAs of the model that the loop starts with, not of the one it has become, so a
  resumed run needs no model of a round in the middle;
- a LoRA of the target stays the same one over all stages, held to what it was when the stage began.
Pinned by tests/methods/test_selfmoa_program.py and tests/faults/test_selfmoa_kills.py.
Letters: N pairs, T positions.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxsafety.adapters import lora
from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.data.pipeline import Batches
from jaxsafety.data.schema import Encoded, Example, Message
from jaxsafety.data.tokens.encode import encode_dialogues, encode_prompt
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.methods.dpo import pairs as pairwise
from jaxsafety.methods.selfmoa import probe, rounds, source
from jaxsafety.methods.selfmoa.config import SelfMoaConfig, check
from jaxsafety.methods.selfmoa.pairing import most_pairs
from jaxsafety.methods.selfmoa.pool import Kept, Pool, text_of
from jaxsafety.methods.selfmoa.rounds import Judges, Round, Team
from jaxsafety.models.api import Model
from jaxsafety.models.formats import peft
from jaxsafety.protocols import (
    Context,
    Item,
    OptimConfig,
    Program,
    Retired,
    Setting,
    Stage,
    Variables,
)
from jaxsafety.train.likelihood import answer_loss

Yields = Generator[Any, Variables, Any]
WIDTH = 8  # rows of dialogues are a multiple of it long


class Loop:
    """What lives from round to round; a class because its pieces share it."""

    def __init__(self, cfg: SelfMoaConfig, optim: OptimConfig, ctx: Context) -> None:
        """Nothing is trained or asked yet."""
        self.cfg, self.optim, self.ctx = cfg, optim, ctx
        self.pool = Pool(list(source.seeds(ctx.setting)))
        self.judges = Judges(cfg, ctx)
        self.rounds: dict[int, Round] = {}
        self.stages = self.trainings = 0

    def reset(self) -> Yields:
        """The model that the loop starts with, `{"base": ...}`."""
        cfg, ctx = self.cfg.reset, self.ctx
        if not cfg.steps:
            return ctx.variables
        dialogues = source.harmful(self.cfg, ctx.setting, ctx.seed)
        stage = self.taught("reset", dialogues, cfg.steps, cfg.rows, cfg.lr)
        left = yield stage._replace(trainable=("base/.*",), start=ctx.variables)
        return {"base": left["base"]}

    def taught(
        self, name: str, dialogues: Sequence[Example], steps: int, rows: int, lr: float
    ) -> Stage:
        """A stage of supervised learning, whatever it trains."""
        ctx = self.ctx
        data = encode_dialogues(ctx.tokenizer, dialogues)
        longest = max(len(one.ids) for one in data)
        batches = Batches(
            data,
            length=-(-longest // WIDTH) * WIDTH,
            rows=rows,
            seed=ctx.seed,
            packed=False,
            pad_id=ctx.tokenizer.pad_id,
        )
        loss = answer_loss(ctx.model, sharding.rows(ctx.mesh), train_head=None)
        return Stage(name, loss, ("base/.*",), batches, steps, replace(self.optim, lr=lr))

    def adapted(self, stage: Stage, base: Variables, rank: int, scale: float, salt: int) -> Stage:
        """The stage with a fresh LoRA in place of all parameters."""
        return stage._replace(
            trainable=("adapters/experts/.*",),
            start={"base": base["base"], "adapters": self.fresh(rank, scale, salt)},
            axes={"adapters": lora.adapter_axes(self.ctx.model.projections)},
        )

    def fresh(self, rank: int, scale: float, salt: int) -> Any:
        """A LoRA of step 0."""
        model = self.ctx.model
        return lora.init_experts(
            jax.random.fold_in(jax.random.key(self.ctx.seed), salt),
            model.projections,
            layers=model.config.num_layers,
            rank=rank,
            scale=scale,
        )

    def attackers(self, base: Variables, old: Team | None) -> Yields:
        """Both attackers, trained on the source's pairs at first, on successes later."""
        cfg = self.cfg.attack
        if old is None:
            lessons = source.lessons(self.cfg, self.ctx.setting, self.ctx.seed)
        else:
            lessons = {
                source.EXPAND: [_lesson(*pair) for pair in self.pool.expansions],
                source.HIDE: [_lesson(*pair) for pair in self.pool.disguises],
            }
            self.pool.retrained()
        number, made = self.trainings, []
        self.trainings += 1
        for salt, name in enumerate((source.EXPAND, source.HIDE), start=1):
            stage = self.taught(f"{name}.{number}", lessons[name], cfg.steps, cfg.rows, cfg.lr)
            stage = self.adapted(stage, base, cfg.rank, cfg.alpha / cfg.rank, salt)
            made.append((yield stage))
            if old is not None:
                yield Retired(stage._replace(name=f"{name}.{number - 1}"))
        return Team(*made)

    def play(self, number: int, team: Team | None, target: Variables) -> Round:
        """A round; what it leaves is in the pool."""
        cfg, ctx = self.cfg, self.ctx
        ctx.interrupt.doing = f"round {number + 1}"
        found = rounds.play(cfg, ctx, self.pool, number, team, target, self.judges)
        ctx.interrupt.doing = "what it is doing"
        self.rounds[number] = found
        self.pool.tried(number, found.seeds, found.attacks, found.won)
        self.pool.pairs += [Kept(number, pair) for pair in found.pairs]
        said = f"round {number + 1}: {len(found.attacks)} attacks of {len(found.seeds)} prompts,"
        said += f" {int(found.won.sum())} successful, {len(found.pairs)} pairs"
        ctx.log(f"{said} ({len(self.pool.pairs)} of {cfg.stage.pairs} for a stage)")
        return found

    def align(self, target: Variables, initial: Variables) -> Yields:
        """A preference stage on the first pairs of the buffer."""
        cfg, ctx = self.cfg.stage, self.ctx
        number = self.stages
        self.stages += 1
        taken = self.pool.taken(cfg.pairs)
        made = self.assembled(taken)
        held_to = target if cfg.reference == "stage" else initial
        told = ctx.artifact(
            f"reference.{number}",
            lambda: {"reference": self.referred(held_to, made)},
        )
        made = replace(made, reference=np.asarray(told["reference"]))
        learnt, held = _split(made, taken, cfg.held)
        stage = Stage(
            f"moa.{number}",
            pairwise.pair_loss(ctx.model, cfg.loss, sharding.rows(ctx.mesh)),
            ("adapters/experts/.*",) if self.cfg.rank else ("base/.*",),
            pairwise.batches(learnt, cfg.rows, ctx.seed + number),
            cfg.steps,
            self.optim,
            start=target,
            axes={"adapters": lora.adapter_axes(ctx.model.projections)} if self.cfg.rank else None,
            watch=partial(self.watched, held) if len(held.weight) else None,
        )
        aligned = yield stage
        if number:  # a run of many stages needs no more of the disk than one of two
            yield Retired(stage._replace(name=f"moa.{number - 1}"))
        return aligned

    def referred(self, held_to: Mapping[str, Any], made: pairwise.Pairs) -> np.ndarray:
        """[N,2] log-probabilities of the pairs under what the stage is held to."""
        ctx = self.ctx
        mesh = ctx.mesh if ctx.mesh is not None and ctx.mesh.size > 1 else None

        def asked(done: int) -> None:
            del done
            ctx.interrupt.check()

        return pairwise.referred(ctx.model, held_to, made, self.cfg.stage.rows, mesh, asked)

    def watched(self, held: pairwise.Pairs, variables: Variables, step: int) -> dict[str, float]:
        """The mean margin of pairs that are not learnt, and in how many it is above 0."""
        del step
        now = self.referred(variables, held)
        gain = now - np.asarray(held.reference)
        gap = gain[:, 0] - gain[:, 1]
        margin = float(self.cfg.stage.beta * gap.mean())
        return {"val/margin": margin, "val/preferred": float((gap > 0).mean())}

    def assembled(self, kept: Sequence[Kept]) -> pairwise.Pairs:
        """[N,2,T] pairs; all stages' are equally wide, so they share a compiled step."""
        sides: tuple[list[Encoded], list[Encoded]] = ([], [])
        margins = []
        for number, pair in kept:
            found = self.rounds[number]
            for side, index in zip(sides, (pair.chosen, pair.rejected), strict=True):
                ids, ended = found.answers[pair.prompt][index], found.ended[pair.prompt][index]
                end = rounds.ending(self.ctx.tokenizer) if ended else ()
                side.append(rounds.encoded(self.ctx, found.attacks[pair.prompt], ids, end))
            margins.append([found.safe[pair.prompt, i] for i in (pair.chosen, pair.rejected)])
        count = self.cfg.stage.loss.objectives
        scored = np.repeat(np.asarray(margins)[:, :, None], count, axis=2)
        return pairwise.assemble(
            *sides, self.ctx.tokenizer.pad_id, width=self.cfg.length, scores=scored
        )


def _lesson(asked: Item, made: Item) -> Example:
    turns = (Message("user", text_of(asked)), Message("assistant", text_of(made)))
    return Example(made.id, turns, {})


def _split(
    made: pairwise.Pairs, taken: Sequence[Kept], held: int
) -> tuple[pairwise.Pairs, pairwise.Pairs]:
    """Pairs that are learnt, and of the last `held` those whose prompt is not learnt from."""
    cut = len(taken) - held
    asked = [(number, pair.prompt) for number, pair in taken]
    learnt = set(asked[:cut])
    new = np.array([i for i in range(cut, len(taken)) if asked[i] not in learnt], np.int32)
    first = jax.tree.map(lambda x: x[:cut], made)
    return first, jax.tree.map(lambda x: x[new], made)


def program(cfg: SelfMoaConfig, optim: OptimConfig, ctx: Context) -> Program:
    """The loop; returns the target, a LoRA of it merged."""
    check(cfg)
    loop = Loop(cfg, optim, ctx)
    initial = yield from loop.reset()
    team = None
    if cfg.attack.kind != "none":
        team = yield from loop.attackers(initial, None)
    target: Variables = initial
    if cfg.rank:
        adapters = loop.fresh(cfg.rank, cfg.alpha / cfg.rank, 0)
        target = {"base": initial["base"], "adapters": adapters}
    initial = target
    start = last = probe.ask(cfg, ctx, target, 0)
    for number in range(cfg.rounds):
        found = loop.play(number, team, target)
        if not found.seeds:
            ctx.log(f"no prompt is left after round {number}: the loop ends")
            break
        if not found.pairs and cfg.empty == "stop":
            ctx.log(f"round {number + 1} made no pair ({_why(found)}): the loop ends")
            break
        full = len(loop.pool.expansions) >= cfg.attack.retrain
        if cfg.attack.kind == "adaptive" and full and number + 1 < cfg.rounds:
            team = yield from loop.attackers(initial, team)
        while len(loop.pool.pairs) >= cfg.stage.pairs:
            target = yield from loop.align(target, initial)
            last = probe.ask(cfg, ctx, target, loop.stages)
    if not loop.stages:
        made = f"{len(loop.pool.pairs)} pairs of method.stage.pairs={cfg.stage.pairs}"
        ctx.log(f"nothing was learnt: {made}; the model is as it was")
    if told := probe.risen(start, last):
        ctx.log(f"worse than before the loop: {told}; see probe.K for each stage")
    ctx.artifact("loop", lambda: _summary(loop))
    return _merged(cfg, ctx, target)


def _why(found: Round) -> str:
    """Why a round made no pair."""
    told = found.told
    parts = {**told["rejected"], **told["left_out"], "cannot be told": told["untold"]}
    return ", ".join(f"{n} {name}" for name, n in parts.items() if n) or "answers score alike"


def _summary(loop: Loop) -> dict[str, Any]:
    """Artifact `loop`: what was trained, and what was not used."""
    return {
        "rounds": len(loop.rounds),
        "stages": loop.stages,
        "trainings": loop.trainings,
        "pairs_left": len(loop.pool.pairs),
        "prompts_left": len(loop.pool.waiting),
    }


def _merged(cfg: SelfMoaConfig, ctx: Context, target: Mapping[str, Any]) -> Variables:
    if not cfg.rank:
        return {"base": target["base"]}
    peft.save_adapter(
        ctx.workdir / "adapter",
        ctx.model,
        target["adapters"],
        base=ctx.base_path,
        fingerprint=ctx.setting.base,
    )
    return {"base": lora.merge(target["base"], target["adapters"], ctx.model.projections)}


def fits(
    cfg: SelfMoaConfig, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """Rejects what this model, these prompts and these files cannot do.

    Raises:
      UsageError: says which.
    """
    source.check(cfg, setting)
    if cfg.length > model.config.max_length:
        allowed = f"at most the context of {model.config.max_length}"
        raise bad("method.length", cfg.length, allowed)
    if cfg.tokens >= cfg.length:
        raise bad("method.tokens", cfg.tokens, f"less than method.length={cfg.length}")
    most = max(model.config.embed_dim, model.config.mlp_dim)
    attacked = cfg.attack.kind != "none"
    for name, rank in (("rank", cfg.rank), ("attack.rank", cfg.attack.rank * attacked)):
        if rank > most:
            raise bad(f"method.{name}", rank, f"at most {most}, the model's width")
    for name, rows in (
        ("stage.rows", cfg.stage.rows),
        ("attack.rows", cfg.attack.rows if attacked else optim.accum),
        ("reset.rows", cfg.reset.rows if cfg.reset.steps else optim.accum),
    ):
        if rows % optim.accum:
            raise bad("optim.accum", optim.accum, f"a divisor of method.{name}={rows}")
    source.check_sizes(cfg, model.config.max_length, tokenizer, setting)
    # One without room for a token and its end behind it makes no pair.
    least = cfg.length - 1 - len(rounds.ending(tokenizer))
    asked = [encode_prompt(tokenizer, item.messages) for item in source.seeds(setting)]
    tried = min(sum(len(ids) <= least for ids in asked), cfg.rounds * cfg.prompts)
    if not attacked and not tried:
        given = f"{cfg.length}, and the shortest seed of {min(map(len, asked))} tokens"
        raise bad("method.length", given, "room for prompt and answer")
    if cfg.attack.kind == "none" and most_pairs(tried, cfg.samples) < cfg.stage.pairs:
        given = f"{cfg.stage.pairs}, but {tried} prompts with {cfg.samples} answers make at most"
        given += f" {most_pairs(tried, cfg.samples)} pairs"
        raise bad("method.stage.pairs", given, "fewer pairs, or more prompts or answers")


def prepare(cfg: SelfMoaConfig, optim: OptimConfig, ctx: Context) -> None:
    """Opens the judges, so that what is missing is said before anything is trained."""
    del optim
    Judges(cfg, ctx).open()
