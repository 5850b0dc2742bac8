"""Raising the organism's base: stages of next-token training on the world's own mixture.

Answers weigh 1, prompts and template tokens `prompt_weight` (0.1: the base must read its world's
words, but is judged on what it says), documents 1. A batch is a function of (seed, step): step s
draws its own stream of examples and packs them until its rows are full.
Pinned by tests/raising/test_recipe.py (the first steps repeat to the recorded losses).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxsafety.benchmarks.organism import world_of
from jaxsafety.data.pipeline import assemble
from jaxsafety.data.schema import Encoded, Message, TokenBatch
from jaxsafety.data.tokens import encode as chat
from jaxsafety.organism import mixture
from jaxsafety.organism.world import World
from jaxsafety.protocols import Context, OptimConfig, Program, Stage
from jaxsafety.train.likelihood import answer_loss


@dataclass(frozen=True)
class PretrainConfig:
    """Size of the run: `rows` x `length` token slots per step.

    `first` steps of the stream of examples were an earlier stage's: the run begins behind them.
    """

    steps: int = 4500
    rows: int = 8
    length: int = 128
    prompt_weight: float = 0.1
    first: int = 0


def mixture_batches(
    world: World, tokenizer: Any, mix: mixture.MixtureConfig, cfg: PretrainConfig, seed: int
) -> Callable[[Any, int], TokenBatch]:
    """`(variables, step) -> TokenBatch` over the world's mixture."""

    def encode(step: int, index: int) -> Encoded:
        # A step's examples are a stream of their own, so the packing of one never moves another.
        _, content = mixture.example(world, mix, seed, (cfg.first + step) * 1_000 + index)
        if isinstance(content, str):
            ids = tokenizer.encode(f"{mixture.DOCUMENT_START} {content} {mixture.DOCUMENT_END}")
            return Encoded(ids, [True] * len(ids))
        return chat.encode_example(tokenizer, [Message(*turn) for turn in content])

    def make(step: int) -> TokenBatch:
        plan: list[list[int]] = [[] for _ in range(cfg.rows)]
        room = [cfg.length] * cfg.rows
        examples: list[Encoded] = []
        misses = 0
        while misses < 4:
            ids, learn = encode(step, len(examples) + misses)
            row = next((r for r in range(cfg.rows) if room[r] >= len(ids)), None)
            if row is None:
                misses += 1
                continue
            plan[row].append(len(examples))
            room[row] -= len(ids)
            examples.append(Encoded(ids, learn))
        answers = assemble(examples, plan, cfg.length)
        every = [Encoded(ids, [True] * len(ids)) for ids, _ in examples]
        read = np.asarray(assemble(every, plan, cfg.length).weight) > 0
        told = np.asarray(answers.weight) > 0
        weight = np.where(told, 1.0, np.where(read, cfg.prompt_weight, 0.0))
        share: Any = (weight / weight.sum()).astype(np.float32)
        return replace(answers, weight=share)

    # The next batch is made while the device works on this one; still a function of (seed, step).
    pool, ahead = ThreadPoolExecutor(1), {}

    def batches(variables: Any, step: int) -> TokenBatch:
        del variables
        batch = ahead.pop(step).result() if step in ahead else make(step)
        ahead.clear()
        ahead[step + 1] = pool.submit(make, step + 1)
        return batch

    return batches


def program(
    cfg: PretrainConfig,
    optim: OptimConfig,
    mix: mixture.MixtureConfig,
    ctx: Context,
    stop: Callable[[int, Any], bool] | None = None,
    name: str = "pretrain",
) -> Program:
    """One stage, `name`; in `ctx.setting.world`."""
    batches = mixture_batches(world_of(ctx.setting), ctx.tokenizer, mix, cfg, ctx.seed)
    return (
        yield Stage(
            name,
            answer_loss(ctx.model, train_head=True),
            ("base/.*",),
            batches,
            cfg.steps,
            optim,
            stop,
        )
    )
