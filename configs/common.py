"""The one level of reuse for configurations: argument parsing and sections with their defaults."""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from jaxsafety import registry
from jaxsafety.adapters.routing import Routing
from jaxsafety.core.config import parse_arg
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.experiment.setting import DataConfig, EvalConfig
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.methods.safemoe.program import SafeMoEConfig
from jaxsafety.methods.safesteer.program import SafeSteerConfig
from jaxsafety.methods.safesteer.teacher import DirectionConfig, TokenConfig
from jaxsafety.methods.sft.program import SftConfig
from jaxsafety.models.formats.source import UNALIGNED, ModelSource
from jaxsafety.probing.selection import SelectConfig
from jaxsafety.probing.votes import VoteConfig
from jaxsafety.protocols import OptimConfig, TrainConfig

__all__ = ["base", "parse_arg", "section"]

# SafeSteer's learning rate on the organism. Picked on validation prompts of world 0 between 2e-4,
# which halves attacks only just, and 3e-4, which costs a task a point (docs/results/safesteer.md).
ORGANISM_RATE = 2.5e-4
# Of SafeMoE's router on the organism; in trial runs on world 0 a third of it did as well.
ROUTER_RATE = 3e-2


def section(record: Any) -> ConfigDict:
    """A section with every field of a frozen dataclass, so that each can be overridden by name."""
    return ConfigDict(dataclasses.asdict(record))


def base(program: str, *, seed: int = 0, model: str = "", method: Any = None) -> ConfigDict:
    """All sections of `run.run` with their defaults.

    `model` is a Hugging Face directory, "" the shipped organism; `method` the program's config.
    """
    config = ConfigDict()
    config.program = program
    config.seed = seed
    config.model = section(ModelSource(path=model))
    config.data = section(DataConfig())
    if method is None:
        method = registry.resolve(registry.METHODS, program).config()
    config.method = section(method)
    config.optim = section(OptimConfig())
    config.train = section(TrainConfig())
    config.eval = section(EvalConfig())
    config.mesh = section(MeshConfig())
    return config


def organism_safesteer() -> SafeSteerConfig:
    """SafeSteer's settings on the organism, whose vocabulary of 1100 words makes S small.

    S: 24 tokens (paper: 50 of 128k to 152k), 12 votes per position (200), the first 4 answer
    positions (5 to 7; refusals here have about seven words), a floor of 3e-3 (1e-8). How
    these were chosen is told in docs/results/safesteer.md.
    """
    votes = VoteConfig(size=24, top=12, samples=8, horizon=4, floor=3e-3)
    # Judged at temperature 1, where even the base's answers are coherent only 95 times in 100 and a
    # warning without a refusal sentence does not count as a refusal: hence the low limits.
    select = SelectConfig(coefficients=(1.0, 2.0, 4.0, 6.0), screen=40, coherent=0.8, refusal=0.3)
    return SafeSteerConfig(direction=DirectionConfig(select=select), tokens=TokenConfig(votes))


# First words of refusals. For Qwen the paper's code has token ids that "still need verification":
# those for Qwen2.5 (40, 2121, 7931, 11200) are "I", "As", "_action" and " spokes" there.
LLAMA_OPENERS = ("I",)
QWEN_OPENERS = ("I", "As", "My", "It", "Sorry", "Unfortunately")


def published_safesteer(
    arg: Any, path: str, shape: str, *, horizon: int, floor: float, lr: float
) -> ConfigDict:
    """SafeSteer as arXiv 2606.02530 ran it, on one of its models.

    `path` is where you put the model, nothing is downloaded; `shape` is its preset for `plan`.
    `horizon` is H, `floor` min_steered_prob. Full fine-tuning, 25 updates of 4 prompts x 8 rollouts
    of at most 512 tokens, AdamW clipped at 1, cosine with a tenth of warm-up.
    """
    openers = QWEN_OPENERS if shape.startswith("qwen") else LLAMA_OPENERS
    select = SelectConfig(criterion="arditi", coefficients=(1.0,), steers=("all",))
    method = SafeSteerConfig(
        direction=DirectionConfig(select=select, openers=openers, filter="score", fallback="error"),
        tokens=TokenConfig(VoteConfig(size=50, top=200, samples=8, horizon=horizon, floor=floor)),
        variant="partial",
        max_tokens=512,
    )
    config = base("safesteer", seed=arg.seed, model=path, method=method)
    config.model.update(shape=shape, dtype="bfloat16", remat="full")
    config.optim.update(lr=lr, schedule="cosine", warmup=0.1, clip=1.0)
    config.data.update(source="files", train=128, val=32, prompts=100)
    config.mesh.fsdp = -1
    if arg.smoke:  # the same program with these settings' shape, on the shipped organism
        config.model.update(path="", dtype="float32", remat="none")
        config.data.source = "organism"
        shrink(config, config.method)
        config.method.direction.update(openers=(), filter="judge", fallback="rank")
        config.method.direction.select.criterion = "generation"
        config.method.tokens.votes.update(size=12, top=12, floor=1e-3)
        config.mesh.fsdp = 1
    return config


def selfmoa_sft(arg: Any, path: str, shape: str) -> ConfigDict:
    """Supervised fine-tuning with the LoRA of Self-MOA's tables (rank 64, alpha 128, all linears).

    Batch 4 and 512 tokens are its alignment phase's, the learning rate 3e-5 that of all phases.
    Dialogues come from `data.chats`.
    """
    method = SftConfig(steps=1000, rows=4, length=512, rank=64, alpha=128.0)
    config = base("sft", seed=arg.seed, model=path, method=method)
    config.model.update(shape=shape, dtype="bfloat16", remat="full")
    config.optim.update(lr=3e-5, schedule="cosine", warmup=0.01)
    config.data.source = "files"
    config.mesh.fsdp = -1
    if arg.smoke:
        shrink_sft(config)
    return config


def safemoe_expert(arg: Any, path: str, shape: str) -> ConfigDict:
    """One expert of SafeMoE's first stage (arXiv 2606.00686): LoRA on gate, up and down.

    Rank 32, alpha 64, rate 2e-4 and 5 epochs are the paper's, at its 10,000 pairs per category and
    rows of 16 (batch, length and warm-up are not given; these are common practice).
    """
    method = SftConfig(
        steps=5 * 10_000 // 16,
        rows=16,
        length=1024,
        packed=False,
        rank=32,
        alpha=64.0,
        targets=("gate", "up", "down"),
        unsafe=True,
    )
    config = base("sft", seed=arg.seed, model=path, method=method)
    config.model.update(shape=shape, dtype="bfloat16", remat="full")
    config.optim.update(lr=2e-4, schedule="cosine", warmup=0.03)
    config.data.source = "files"
    config.mesh.fsdp = -1
    if arg.smoke:
        shrink_sft(config)
    return config


def safemoe_router(arg: Any, path: str, shape: str) -> ConfigDict:
    """SafeMoE's second stage (arXiv 2606.00686) over 18 experts of rank 32: the router alone.

    Top 2, rate 1e-4, rows of 4 and 10 epochs over 4 x 200 safe answers (2000 updates) are the
    paper's; the length is that of its first author's earlier code. The experts are PEFT
    directories, `method.experts.paths`, the answers `data.chats`.
    """
    method = SafeMoEConfig(
        experts=ExpertConfig(count=18, rank=32, alpha=64.0),
        routing=Routing(),
        steps=2000,
        rows=4,
        length=512,
    )
    config = base("safemoe", seed=arg.seed, model=path, method=method)
    config.model.update(shape=shape, dtype="bfloat16", remat="full")
    config.optim.update(lr=1e-4, schedule="cosine", warmup=0.03)
    config.data.source = "files"
    config.mesh.update(fsdp=4, tensor=-1)  # four rows
    if arg.smoke:  # the same program on the organism, with experts of its own
        config.model.update(path=UNALIGNED, dtype="float32", remat="none")
        config.data.source = "organism"
        config.method.experts.count = 4
        shrink_safemoe(config, config.method)
        config.mesh.update(fsdp=1, tensor=1)
    return config


def organism_safemoe() -> SafeMoEConfig:
    """SafeMoE's settings on the unaligned organism: four experts of rank 8, 4 x 200 safe answers.

    alpha = 2 R, one router per block and 4 x 200 answers are the paper's, the rates the organism's.
    All four experts are mixed: the paper selects 2 of 4 to 18, over 32 layers; over six layers a
    hard choice was behind in trial runs (docs/results/safemoe.md; the arm "top2" tests it).
    """
    experts = ExpertConfig(rank=8, alpha=16.0, steps=400, warned=0.8)
    return SafeMoEConfig(experts=experts, routing=Routing(top=0), steps=500, rows=8, length=48)


def shrink_safemoe(config: ConfigDict, method: ConfigDict) -> None:
    """Makes a SafeMoE experiment a smoke test: the same program in seconds, nothing learnt."""
    method.experts.update(steps=2, rows=1, rank=2, answers=16)
    method.update(steps=2, rows=2, samples=8, lora_rank=2, length=64)
    method.measure.update(safety=4, harmless=4, tasks=2, routed=2)
    config.eval.update(safety=4, over_refusal=4, capability=4, samples=1, batch_size=16)


def shrink_sft(config: ConfigDict) -> None:
    """Makes a fine-tuning experiment a smoke test on the shipped organism."""
    config.model.update(path="", dtype="float32", remat="none")
    config.data.source = "organism"
    config.method.update(steps=2, rows=2, length=128)
    if config.method.rank:
        config.method.update(rank=2, alpha=4.0)
    config.eval.update(safety=4, over_refusal=4, capability=4, samples=1, batch_size=16)
    config.mesh.fsdp = 1


def shrink(config: ConfigDict, method: ConfigDict) -> None:
    """Makes a SafeSteer experiment a smoke test: the same program in seconds, nothing measured."""
    method.update(steps=2, rollouts=2, prompts_per_step=2, max_tokens=12)
    method.direction.update(max_tokens=12)
    method.direction.select.update(screen=2, coherent=0.0, refusal=0.0)
    method.tokens.votes.update(samples=1, horizon=3)
    config.data.update(train=16, val=8, prompts=8)
    config.eval.update(safety=4, over_refusal=4, capability=4, samples=1, batch_size=16)
