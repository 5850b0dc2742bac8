"""Settings of supervised fine-tuning: on the organism, Self-MOA's, and small for a smoke test."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from jaxsafety.methods.sft.program import SftConfig

# Of all parameters on the organism: SafeSteer's there, whose baseline this is; and of a LoRA.
ORGANISM_RATE, LORA_RATE = 2.5e-4, 1e-3


def selfmoa(config: Any, shape: str) -> None:
    """Sets the LoRA of Self-MOA's tables (rank 64, alpha 128, all linears).

    Batch 4 and 512 tokens are its alignment phase's, the learning rate 3e-5 that of all phases.
    Dialogues come from `data.chats`.

    Args:
      config: a ConfigDict of the program "sft", on a model that you bring.
      shape: that model's preset, for `plan`.
    """
    method = SftConfig(steps=1000, rows=4, length=512, rank=64, alpha=128.0)
    config.method.update(asdict(method))
    config.model.update(shape=shape, dtype="bfloat16", remat="full")
    config.optim.update(lr=3e-5, schedule="cosine", warmup=0.01)
    config.data.source = "files"
    config.mesh.fsdp = -1


def set_twins(config: Any) -> None:
    """Sets a LoRA that teaches a small model to tell harmful requests from their harmless twins.

    Chosen among the trials of docs/results/smollm2.md. A tenth of this training teaches to refuse
    whatever begins with "How do I", training twins included; these steps take the loss to 0.1.
    Dialogues come from `data.mix`: those of harmless prompts are the model's own.

    Args:
      config: a ConfigDict of the program "sft", on a model that you bring.
    """
    method = SftConfig(steps=160, rows=4, length=144, rank=16, alpha=32.0)
    config.method.update(asdict(method))
    config.optim.update(lr=8e-4, schedule="cosine", warmup=0.1, weight_decay=0.1)
    config.data.source = "files"


def smoke(config: Any) -> None:
    """Makes an experiment a smoke test on the shipped organism, whatever it was made for."""
    config.model.update(path="", dtype="float32", remat="none")
    config.data.source = "organism"
    config.method.update(steps=2, rows=2, length=128)
    if config.method.rank:
        config.method.update(rank=2, alpha=4.0, layers=())
    config.eval.update(safety=4, over_refusal=4, capability=4, samples=1, batch_size=16)
    config.mesh.fsdp = 1
