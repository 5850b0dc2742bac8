"""The study as a program: answers per seed, then for every arm scores, pairs, a stage, a probe.

All arms of a seed learn from answers to the same prompts by the same base, so what differs is who
judged them and by which loss. Artifacts, S a seed, A the number of an arm:

    answers.S   token ids of the answers, and the exact verdict of each
    probe.base  what the base says to held-out prompts
    scores.A.S  P(safe), helpfulness, pairs; how often they are right
    probe.A.S   what the arm says to the same prompts
    table       all of it, a row per arm and seed

The question is that of arXiv 2603.07017 ("Can Safety Emerge from Weak Supervision?"), which has two
judges of unknown quality; judges of chosen accuracy, coverage, bias and agreement are our own
(`weak/simulated.py`). The exact judge only counts: no arm is chosen or stopped by it.
Pinned by tests/studies/test_weak_supervision.py.
Letters: N prompts, M answers to each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.judges.judging import judged
from jaxsafety.methods.dpo import pairs as pairwise
from jaxsafety.methods.selfmoa import pairing, probe, rounds, scores
from jaxsafety.methods.selfmoa.pool import Attack
from jaxsafety.models.api import Model
from jaxsafety.protocols import (
    Context,
    Exchange,
    Item,
    OptimConfig,
    Program,
    Retired,
    SampleConfig,
    Setting,
    Stage,
    Variables,
    as_trained,
)
from jaxsafety.sampling import copies
from jaxsafety.studies.weak_supervision import config, judges
from jaxsafety.studies.weak_supervision.config import Arm, WeakConfig

VERDICT = ("unsafe", "attempt", "refusal", "informative", "coherent", "correct")
SPLITS = ("harmful_val", "wrapped_val", "harmless_val")


@dataclass(frozen=True)
class Answers:
    """What the base said: N x M answers, their verdicts in one list of N*M."""

    attacks: Sequence[Attack]
    ids: Sequence[Sequence[Sequence[int]]]
    ended: Sequence[Sequence[bool]]
    exchanges: Sequence[Exchange]
    verdicts: Sequence[Mapping[str, Any]]

    @property
    def size(self) -> tuple[int, int]:
        """N, M."""
        return len(self.ids), len(self.ids[0])


def fits(
    cfg: WeakConfig, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """Rejects what this model and setting cannot do.

    Raises:
      UsageError: says which.
    """
    del tokenizer
    if cfg.length > model.config.max_length:
        allowed = f"at most the context of {model.config.max_length}"
        raise bad("method.length", cfg.length, allowed)
    if cfg.tokens >= cfg.length:
        raise bad("method.tokens", cfg.tokens, f"less than method.length={cfg.length}")
    if cfg.stage.rows % optim.accum:
        raise bad("optim.accum", optim.accum, f"a divisor of method.stage.rows={cfg.stage.rows}")
    if len(setting.prompts["distil"]) < cfg.prompts * cfg.seeds:
        there = len(setting.prompts["distil"])
        given = f"{cfg.prompts} for each of {cfg.seeds} seeds"
        raise bad("method.prompts", given, f"at most the {there} of data.prompts together")


def program(cfg: WeakConfig, optim: OptimConfig, ctx: Context) -> Program:
    """Trains and probes every arm; returns the base as it was."""
    config.check(cfg)
    _probed(cfg, ctx, ctx.variables, "base")
    found = config.arms(cfg)
    for seed in range(cfg.seeds):
        said = answers(cfg, ctx, seed)
        for number, (name, arm) in enumerate(found.items()):
            learnt = paired(cfg, ctx, said, arm, number, seed)
            left: Variables | None = None
            if learnt is not None:
                stage = trained(cfg, optim, ctx, arm, number, seed, learnt)
                left = yield stage
            # Without a pair there is nothing to learn: the arm says what the base says.
            _probed(cfg, ctx, ctx.variables if left is None else left, f"{number}.{seed}", name)
            if learnt is not None:
                yield Retired(stage)
    ctx.artifact("table", lambda: table(cfg, ctx))
    return ctx.variables


def answers(cfg: WeakConfig, ctx: Context, seed: int) -> Answers:
    """Artifact `answers.S`: M answers of the base to the seed's own prompts, exactly judged."""
    first = seed * cfg.prompts
    items = ctx.setting.prompts["distil"][first : first + cfg.prompts]
    attacks = [Attack(item, item, item) for item in items]

    def make() -> dict[str, Any]:
        ctx.interrupt.doing = f"the answers of seed {seed}"
        what, stop = as_trained(cfg, ctx.variables), tuple(ctx.tokenizer.eos_ids)
        said = copies.generate(
            ctx,
            what,
            [encode_prompt(ctx.tokenizer, item.messages) for item in items],
            SampleConfig(cfg.tokens, cfg.temperature, stop=stop),
            seed=ctx.seed + seed,
            samples=cfg.samples,
        )
        ctx.interrupt.doing = "what it is doing"
        ids = [[list(map(int, one.ids)) for one in row] for row in said]
        rows = judged(ctx.setting.judge, exchanged(ctx, items, ids))
        return {
            "ids": ids,
            "ended": [[bool(one.finished) for one in row] for row in said],
            "verdicts": [[_flag(row[name]) for name in VERDICT] for row in rows],
        }

    told = ctx.artifact(f"answers.{seed}", make)
    verdicts: list[dict[str, Any]] = [
        dict(zip(VERDICT, row, strict=True)) for row in told["verdicts"]
    ]
    spoken = exchanged(ctx, items, told["ids"])
    return Answers(attacks, told["ids"], told["ended"], spoken, verdicts)


def exchanged(ctx: Context, items: Sequence[Item], ids: Sequence[Any]) -> list[Exchange]:
    """[N*M] items with each of their answers."""
    return [
        Exchange(item, ctx.tokenizer.decode(one))
        for item, row in zip(items, ids, strict=True)
        for one in row
    ]


def _flag(value: Any) -> bool | None:
    return None if value is None or value != value else bool(value)


def paired(
    cfg: WeakConfig, ctx: Context, said: Answers, arm: Arm, number: int, seed: int
) -> pairwise.Pairs | None:
    """The arm's pairs as arrays, with the log-probabilities of the base; None without any.

    Artifact `scores.A.S`: see the module. The first pairs are taken, in a random order.
    """
    most = arm.pairs or cfg.stage.pairs

    def make() -> dict[str, Any]:
        ctx.interrupt.check()
        safe, told = judges.safe(arm, said.exchanges, said.verdicts, ctx.seed + seed)
        helpful = scores.helpfulness(
            judges.known(said.verdicts), said.exchanges, arm.scores, ctx.seed + seed
        )
        safe, helpful = safe.reshape(said.size), helpful.reshape(said.size)
        by = safe if arm.order == "safe" else helpful
        found = [p for p in pairing.build_pairs(by, safe) if _usable(ctx, said, p, cfg.length)]
        order = np.random.default_rng([ctx.seed, seed]).permutation(len(found))
        chosen = [found[int(i)] for i in order[:most]]
        told |= {"pairs": [list(map(int, p)) for p in chosen], "made": len(found)}
        told |= {"right": _right(said, chosen), "safe": safe, "helpful": helpful}
        if chosen:
            made = assembled(cfg, ctx, said, arm, chosen, safe)
            told["reference"] = pairwise.referred(ctx.model, ctx.variables, made, cfg.stage.rows)
        return told

    told = ctx.artifact(f"scores.{number}.{seed}", make)
    chosen = [pairing.Pair(*row) for row in told["pairs"]]
    if not chosen:
        return None
    made = assembled(cfg, ctx, said, arm, chosen, told["safe"])
    return replace(made, reference=np.asarray(told["reference"]))


def _usable(ctx: Context, said: Answers, pair: pairing.Pair, length: int) -> bool:
    """Two answers that differ, and have room behind their prompt."""
    sides = [said.ids[pair.prompt][i] for i in pair[1:]]
    if sides[0] == sides[1] or not all(sides):
        return False
    end = len(rounds.ending(ctx.tokenizer))
    prompt = encode_prompt(ctx.tokenizer, said.attacks[pair.prompt].hidden.messages)
    return len(prompt) + max(map(len, sides)) + end <= length


def _right(said: Answers, chosen: Sequence[pairing.Pair]) -> list[int]:
    """Of the pairs: in how many the chosen answer is truly safer, as safe, less safe, not told."""
    counts = [0, 0, 0, 0]
    for pair in chosen:
        flags = [said.verdicts[pair.prompt * said.size[1] + i]["unsafe"] for i in pair[1:]]
        if None in flags:
            counts[3] += 1
        else:
            counts[1 + int(flags[0]) - int(flags[1])] += 1
    return counts


def assembled(
    cfg: WeakConfig,
    ctx: Context,
    said: Answers,
    arm: Arm,
    chosen: Sequence[pairing.Pair],
    safe: np.ndarray,
) -> pairwise.Pairs:
    """[N,2,T] pairs with what the arm's loss reads of their scores."""
    end, sides = rounds.ending(ctx.tokenizer), ([], [])
    for pair in chosen:
        for side, index in zip(sides, (pair.chosen, pair.rejected), strict=True):
            ids, ended = said.ids[pair.prompt][index], said.ended[pair.prompt][index]
            attack = said.attacks[pair.prompt]
            side.append(rounds.encoded(ctx, attack, ids, end if ended else ()))
    both = np.array([[safe[p.prompt, i] for i in (p.chosen, p.rejected)] for p in chosen])
    count = arm.stage(cfg.stage).loss.objectives
    soft = arm.order == "safe" and arm.label == "soft"
    return pairwise.assemble(
        *sides,
        ctx.tokenizer.pad_id,
        width=cfg.length,
        scores=np.repeat(both[:, :, None], count, axis=2),
        label=judges.order(both[:, 0], both[:, 1]) if soft else None,
    )


def trained(
    cfg: WeakConfig,
    optim: OptimConfig,
    ctx: Context,
    arm: Arm,
    number: int,
    seed: int,
    learnt: pairwise.Pairs,
) -> Stage:
    """The arm's stage; all arms make as many updates."""
    stage = arm.stage(cfg.stage)
    return Stage(
        f"arm{number}.{seed}",
        pairwise.pair_loss(ctx.model, stage.loss, sharding.rows(ctx.mesh)),
        ("base/.*",),
        pairwise.batches(learnt, stage.rows, ctx.seed + seed),
        stage.steps,
        optim,
        start=ctx.variables,
    )


def _probed(
    cfg: WeakConfig, ctx: Context, variables: Variables, name: str, arm: str = "base"
) -> None:
    """Artifact `probe.NAME`: counts by split, greedy, and of wrapped attacks at temperature 1."""

    def make() -> dict[str, Any]:
        ctx.interrupt.doing = f"the probe of {arm}"
        found = {}
        for split in SPLITS:
            items = ctx.setting.prompts.get(split, ())[: cfg.probe]
            if items:
                found[split] = probe.counts(ctx, variables, items, cfg.tokens)
        wrapped = ctx.setting.prompts.get("wrapped_val", ())[: cfg.probe]
        if wrapped and cfg.answers:
            found["wrapped_t1"] = probe.counts(
                ctx, variables, wrapped, cfg.tokens, temperature=1.0, samples=cfg.answers
            )
        ctx.interrupt.doing = "what it is doing"
        return found

    told = ctx.artifact(f"probe.{name}", make)
    parts = [f"{split} {row['unsafe'][0]}/{row['unsafe'][1]}" for split, row in told.items()]
    ctx.log(f"{name} ({arm or 'default'}): unsafe {', '.join(parts)}")


def table(cfg: WeakConfig, ctx: Context) -> dict[str, Any]:
    """The base's probe, and a row per arm and seed."""

    def missing() -> dict[str, Any]:
        raise AssertionError("made before the table")

    rows = []
    for number, name in enumerate(config.arms(cfg)):
        for seed in range(cfg.seeds):
            told = ctx.artifact(f"scores.{number}.{seed}", missing)
            kept = ("made", "right", "silent", "accuracy", "estimated", "warnings")
            facts = {key: told[key] for key in kept if key in told}
            found = ctx.artifact(f"probe.{number}.{seed}", missing)
            rows.append(
                {"arm": name, "seed": seed, "pairs": len(told["pairs"]), **facts, "probe": found}
            )
    return {"base": ctx.artifact("probe.base", missing), "rows": rows}
