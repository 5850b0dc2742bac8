"""SafeMoE's settings: on the organism, both published stages, and small for a smoke test."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from jaxsafety.adapters.routing import Routing
from jaxsafety.core.errors import bad
from jaxsafety.methods.safemoe.config import MeasureConfig, SafeMoEConfig
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.methods.sft import recipe as sft
from jaxsafety.methods.sft.program import SftConfig
from jaxsafety.models.formats.source import UNALIGNED

PRESETS = ("default", "adapted")
BASE = UNALIGNED  # the organism that it starts from
# Of the router on the organism; in trial runs on world 0 a third of it did as well.
ROUTER_RATE = 3e-2


def organism(preset: str = "default") -> SafeMoEConfig:
    """SafeMoE's settings on the unaligned organism: four experts, 4 x 200 safe answers.

    alpha = 2 R and 4 x 200 answers are the paper's; one router per block is our choice (the paper
    has "a router at each layer"), the rates are the organism's.
    All four experts are mixed: the paper selects 2 of 4 to 18, over 32 layers; over six layers a
    hard choice was behind in trial runs (docs/results/safemoe.md; the arm "top2" tests it).

    Args:
      preset: one of `PRESETS`. "adapted" learns unsafe and safe answers alone, and loses harmless
        requests (docs/results/safemoe.md); sizes and rates are the organism's, and a run says so
        (`published.ROWS`). "default" keeps them: half of the experts' rows and of
        the router's are answers of daily use, one expert more does nothing, and an adapter that
        is always on learns with the router what experts need not. Experts are of twice the rank and
        learn longer, since half of their rows are others'.

    Raises:
      UsageError: an unknown preset.
    """
    if preset not in PRESETS:
        raise bad("config argument preset", preset, ", ".join(PRESETS))
    experts = ExpertConfig(rank=8, alpha=16.0, steps=400, warned=0.8)
    method = SafeMoEConfig(experts=experts, routing=Routing(top=0), steps=500, rows=8, length=48)
    if preset == "adapted":
        return method
    experts = replace(experts, rank=16, alpha=32.0, steps=1000, everyday=4000)
    return replace(method, experts=experts, null=True, always=16, everyday=4000, length=64)


def expert() -> SftConfig:
    """One expert of SafeMoE's first stage (arXiv 2606.00686): LoRA on gate, up and down.

    Rank 32, alpha 64 and 5 epochs are the paper's, at its 10,000 pairs per category and rows of 16
    (batch and length are not given; these are common practice).
    """
    return SftConfig(
        steps=5 * 10_000 // 16,
        rows=16,
        length=1024,
        packed=False,
        rank=32,
        alpha=64.0,
        targets=("gate", "up", "down"),
        unsafe=True,
    )


def published_expert(config: Any, shape: str) -> None:
    """Sets the training of one `expert`, at the paper's rate of 2e-4 (the warm-up is not given).

    Prompts are raw, as the paper's (`model.template`).

    Args:
      config: a ConfigDict of the program "sft", on a model that you bring.
      shape: that model's preset, for `plan`.
    """
    config.method.update(asdict(expert()))
    config.model.update(shape=shape, dtype="bfloat16", remat="full", template="raw")
    config.optim.update(lr=2e-4, schedule="cosine", warmup=0.03)
    config.data.source = "files"
    config.mesh.fsdp = -1


def published_router(config: Any, shape: str) -> None:
    """Sets SafeMoE's second stage (arXiv 2606.00686) over 18 experts of rank 32: the router alone.

    Top 2, rate 1e-4, rows of 4, 10 epochs over 4 x 200 safe answers (2000 updates) and raw prompts
    (`model.template`) are the paper's; the length is that of its first author's earlier code;
    schedule, warm-up and clip are not given and ours. The experts are PEFT directories,
    `method.experts.paths`, the answers `data.chats`; with `data.domains` experts are trained as
    `expert` says.

    Args:
      config: a ConfigDict of the program "safemoe", on a model that you bring.
      shape: that model's preset, for `plan`.
    """
    one = expert()
    trained = ExpertConfig(
        count=18,
        rank=one.rank,
        alpha=one.alpha,
        steps=one.steps,
        rows=one.rows,
        length=one.length,
        lr=2e-4,
    )
    method = SafeMoEConfig(
        experts=trained,
        routing=Routing(),
        steps=2000,
        rows=4,
        length=512,
    )
    config.method.update(asdict(method))
    config.model.update(shape=shape, dtype="bfloat16", remat="full", template="raw")
    config.optim.update(lr=1e-4, schedule="cosine", warmup=0.03)
    config.data.source = "files"
    config.mesh.update(fsdp=4, tensor=-1)  # four rows


def set_small(config: Any) -> None:
    """Sets both stages for a chat model of 135 M parameters and two topics: minutes on two cores.

    All settings are ours. Dialogues that are longer than a row are left out, and the log counts
    them. One expert more does nothing, as what neither topic is about needs neither.

    Args:
      config: a ConfigDict of the program "safemoe", on a model that you bring.
    """
    experts = ExpertConfig(count=2, rank=8, alpha=16.0, steps=60, rows=2, length=192, lr=1e-3)
    method = SafeMoEConfig(
        experts=experts,
        routing=Routing(top=0),
        null=True,
        steps=40,
        rows=4,
        length=192,
        long="drop",
        measure=MeasureConfig(routed=8),
    )
    config.method.update(asdict(method))
    config.optim.update(lr=1e-2, schedule="cosine", warmup=0.1)
    config.data.source = "files"


def smoke(config: Any) -> None:
    """Makes an experiment a smoke test on a shipped organism, whatever it was made for."""
    if config.program == "sft":  # an expert alone
        sft.smoke(config)
        config.model.template = ""
        return
    if config.data.source == "files":  # the same program, with experts of its own
        config.model.update(path=BASE, dtype="float32", remat="none", template="")
        config.data.source = "organism"
        config.method.experts.update(count=4, length=ExpertConfig().length)
        config.mesh.update(fsdp=1, tensor=1)
    shrink(config, config.method)


def shrink(config: Any, method: Any) -> None:
    """Makes `method`, SafeMoE's section or a study's part of it, run in seconds.

    The same program, of which nothing can be learnt.
    """
    method.experts.update(steps=2, rows=1, rank=2, answers=16)
    method.update(steps=2, rows=2, samples=8, lora_rank=2, length=64)
    method.update(always=min(method.always, 2), everyday=min(method.everyday, 9))
    method.experts.everyday = min(method.experts.everyday, 9)
    method.measure.update(safety=4, harmless=4, tasks=2, routed=2)
    config.eval.update(safety=4, over_refusal=4, capability=4, samples=1, batch_size=16)
