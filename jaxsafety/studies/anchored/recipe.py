"""Settings of the study on one's own chat model: small on two cores, larger on accelerators.

The paper's own settings are not public (arXiv 2606.03648, abstract and opening alone): all numbers
are this library's choice.
"""

from __future__ import annotations

from typing import Any

from jaxsafety.studies.anchored import config as study
from jaxsafety.studies.anchored import files

# ptst and interpolation are made of plain's training, and cost none of their own; safesteer repairs
# what that left.
ARMS = (
    "plain",
    "mixing",
    "kl",
    "constrained",
    "ptst",
    "interpolation:s=0.5|0.8",
    "ema:decay=0.9",
    "safesteer",
)


def set_small(config: Any, goal: str) -> None:
    """Sets the study for a chat model of 135 M parameters on two CPU cores: an hour or two a goal.

    Dialogues for mitigations and the sets that are measured are the starter set's, of which one
    half is held back, unless `data.harmful`, `data.harmless` and `eval.sets` name others.

    Args:
      config: a ConfigDict of the program "anchored", on a model that you bring and that refuses.
      goal: a name of `method.tasks`; "" names one that needs none, for `plan` alone: a run asks for
        its tasks.
    """
    config.method.goals = (f"{goal or 'letter'}:margin=0.05",)
    config.method.update(arms=ARMS, train=512, dev=96, test=96, every=12)
    config.method.update(general=32, floor=0.1, guard=40, align=12, repair=8)
    config.method.sft.update(steps=48, rows=4, length=192, long="drop", rank=16, alpha=32.0)
    config.optim.update(lr=4e-4, schedule="constant", warmup=0.1)
    config.train.checkpoint_every = 1000
    config.eval.update(safety=64, over_refusal=64, capability=64, samples=0)
    files.set_starter(config)
    config.eval.max_tokens = 48


def set_chat(config: Any, goal: str, shape: str) -> None:
    """Sets the study for a chat model of 1 to 8 billion parameters on accelerators.

    As `set_small`, with LoRA on 16 rows of 1,024 tokens for 400 updates, 256 questions that select
    and 500 that are tested, and whole safety sets.

    Args:
      config: a ConfigDict of the program "anchored", on a model that you bring and that refuses.
      goal: as of `set_small`.
      shape: that model's preset, for `plan`.
    """
    set_small(config, goal)
    config.method.update(train=4096, dev=256, test=500, every=25, general=256, repair=25)
    config.method.update(guard=64, align=100)
    config.method.sft.update(steps=400, rows=16, length=1024, rank=16, alpha=32.0)
    config.model.update(shape=shape, dtype="bfloat16", remat="full")
    config.optim.update(lr=1e-4, schedule="constant", warmup=0.05)
    config.eval.update(safety=0, over_refusal=0, capability=0, max_tokens=512)
    config.mesh.fsdp = -1


def smoke(config: Any) -> None:
    """Makes such an experiment a smoke test on the organism, as no file of a task is shipped."""
    config.data.source = "organism"
    config.data.update(harmful="", harmless="")
    config.eval.sets = ()
    config.eval.max_tokens = 512
    config.method.sft.update(rank=2, alpha=4.0)
    config.optim.update(lr=4e-4, schedule="constant", warmup=0.1)
    config.mesh.fsdp = 1
    study.smoke(config)
