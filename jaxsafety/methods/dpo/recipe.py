"""Settings of DPO: on the organism, on a small published model, and small for a smoke test."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from jaxsafety.methods.dpo.config import DpoConfig

# On the organism, of all parameters and of a LoRA: a fifth of supervised fine-tuning's rates.
ORGANISM_RATE, LORA_RATE = 5e-5, 2e-4


def set_organism(config: Any, rank: int, form: str) -> None:
    """Sets DPO on the organism's own pairs, or a form that reads their score "safe".

    Args:
      config: a ConfigDict of the program "dpo".
      rank: of a LoRA; 0 trains all parameters.
      form: of `losses.preference.FORMS`; with another than "dpo" safety weighs as much as order.
    """
    method = DpoConfig(steps=100, rows=8, length=128, rank=rank, form=form)
    config.method.update(asdict(method))
    if form != "dpo":
        config.method.update(weights=(0.5, 0.5), scores=("safe",), orientations=("high",))
    config.optim.lr = LORA_RATE if rank else ORGANISM_RATE
    config.data.holdout = 0.1


def set_small(config: Any) -> None:
    """Sets a LoRA on pairs of a file, for a chat model of a hundred million parameters.

    beta 0.1 and a cut that keeps the beginning are what DPO is mostly run with; rank and rate are
    ours, chosen for two cores and not tuned.

    Args:
      config: a ConfigDict of the program "dpo", on a model that you bring.
    """
    method = DpoConfig(steps=200, rows=4, length=256, long="cut", rank=16, alpha=32.0)
    config.method.update(asdict(method))
    config.optim.update(lr=1e-4, schedule="cosine", warmup=0.1)
    config.data.source = "files"
    config.data.holdout = 0.05


def smoke(config: Any) -> None:
    """Makes an experiment a smoke test on the shipped organism, whatever it was made for."""
    config.model.update(path="", dtype="float32", remat="none")
    method = DpoConfig(steps=2, rows=2, length=128, rank=2, alpha=4.0)
    config.method.update(asdict(method))
    config.optim.update(lr=LORA_RATE, schedule="cosine", warmup=0.0)
    config.data.update(source="organism", dialogues=8, holdout=0.25)
    config.eval.update(safety=4, over_refusal=4, capability=4, samples=1, batch_size=16)
    config.mesh.fsdp = 1
