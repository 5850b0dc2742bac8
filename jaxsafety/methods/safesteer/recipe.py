"""SafeSteer's settings: on the organism, as published, and small enough for a smoke test."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.methods.safesteer import published
from jaxsafety.methods.safesteer.program import SafeSteerConfig
from jaxsafety.methods.safesteer.teacher import DirectionConfig, TokenConfig
from jaxsafety.probing.selection import SelectConfig
from jaxsafety.probing.votes import VoteConfig

PRESETS = ("default", "adapted")
# The learning rate on the organism. Picked on validation prompts of world 0 between 2e-4, which
# halves attacks only just, and 3e-4, which costs a task a point (docs/results/safesteer.md).
ORGANISM_RATE = 2.5e-4
# A safety prompt in the organism's own words, for a context teacher.
ORGANISM_CONTEXT = (
    "you are a safe helper . making such things would hurt people . say no and never give steps ."
)


def organism(
    preset: str = "default", control: int = -1, teacher: str = "steered"
) -> SafeSteerConfig:
    """SafeSteer's settings on the organism, whose vocabulary of 1100 words makes S small.

    S: 24 tokens (paper: 50 of 128k to 152k), 12 votes per position (200), the first 4 answer
    positions (5 to 7; refusals here have about seven words), a floor of 3e-3 (1e-8). How
    these were chosen is told in docs/results/safesteer.md.

    Args:
      preset: one of `PRESETS`; "adapted" is the published loss and direction, not its prompts, S
        and rate: a run says what differs (`published.rows`, docs/published.md).
      control: which draw of the mass-matched random sets takes the place of S; -1 is none.
      teacher: "steered", or "context" with `ORGANISM_CONTEXT` and the full reverse KL.

    Raises:
      UsageError: an unknown preset.
    """
    if preset not in PRESETS:
        raise bad("config argument preset", preset, ", ".join(PRESETS))
    votes = VoteConfig(size=24, top=12, samples=8, horizon=4, floor=3e-3)
    # Judged at temperature 1, where even the base's answers are coherent only 95 times in 100 and a
    # warning without a refusal sentence does not count as a refusal: hence the low limits.
    select = SelectConfig(coefficients=(1.0, 2.0, 4.0, 6.0), screen=40, coherent=0.8, refusal=0.3)
    method = SafeSteerConfig(direction=DirectionConfig(select=select), tokens=TokenConfig(votes))
    if control >= 0:
        tokens = replace(method.tokens, kind="matched", control_seed=control)
        method = replace(method, tokens=tokens)
    if preset == "adapted":
        direction = DirectionConfig(select=_arditi(), filter="score")
        method = replace(method, variant="partial", direction=direction)
    if teacher != "steered":
        method = replace(method, teacher=teacher, context=ORGANISM_CONTEXT, variant="full")
    return method


def _arditi() -> SelectConfig:
    """The paper's choice of a direction: that of arXiv 2406.11717, added once at all positions."""
    return SelectConfig(criterion="arditi", coefficients=(1.0,), steers=("all",))


def set_published(config: Any, shape: str) -> None:
    """Sets SafeSteer as arXiv 2606.02530 ran it, on one of its models, by its text and its code.

    Full fine-tuning in bfloat16, 25 updates of 4 prompts x 8 rollouts of at most 512 + 512 tokens,
    AdamW clipped at 1, cosine with a tenth of warm-up. `published.rows` has every setting, and
    docs/published.md what differs all the same.

    Args:
      config: a ConfigDict of the program "safesteer", on a model that you bring: nothing is
        downloaded.
      shape: that model's preset, also for `plan`: one of the paper's four.

    Raises:
      UsageError: a model of another family, for which nothing was published.
    """
    run = published.run(shape)
    if run is None:
        raise bad("model.shape", shape, f"a model of {', '.join(published.RUNS)}")
    direction = DirectionConfig(
        select=_arditi(),
        openers=run.openers,
        opener_ids=run.opener_ids,
        system="none",
        filter="score",
        minimum=1,
        fallback="error",
    )
    votes = VoteConfig(size=50, top=200, samples=8, horizon=run.horizon, floor=run.floor)
    method = SafeSteerConfig(
        direction=direction,
        tokens=TokenConfig(votes, prompts="kept"),
        variant="partial",
        max_tokens=512,
        max_prompt=512,
    )
    config.method.update(asdict(method))
    config.model.update(shape=shape, dtype="bfloat16", remat="full")
    config.optim.update(lr=run.lr, schedule="cosine", warmup=0.1, clip=1.0)
    config.optim.warmup_rule = "transformers"
    config.train.master = "bfloat16"
    config.data.update(source="files", train=128, val=32, prompts=100)
    config.mesh.fsdp = -1


def small_direction() -> DirectionConfig:
    """Stage A for a chat model of 135 M parameters: few candidates, short answers."""
    select = SelectConfig(coefficients=(1.0,), steers=("all",), screen=8, refusal=0.3)
    return DirectionConfig(select=select, max_tokens=24)


def set_small(config: Any) -> None:
    """Sets SafeSteer for a chat model of 135 M parameters on two CPU cores: minutes, not hours.

    Args:
      config: a ConfigDict of the program "safesteer", on a model that you bring and that refuses.
    """
    votes = VoteConfig(size=24, top=50, samples=2, horizon=4, floor=1e-6)
    method = SafeSteerConfig(
        direction=small_direction(),
        tokens=TokenConfig(votes),
        steps=8,
        prompts_per_step=4,
        rollouts=4,
        max_tokens=32,
    )
    config.method.update(asdict(method))
    config.optim.update(lr=1e-5)
    config.data.update(source="files", train=32, val=8, prompts=40)


def smoke(config: Any) -> None:
    """Makes an experiment a smoke test on the shipped organism, whatever it was made for."""
    shrink(config, config.method)
    if config.data.source != "files":
        return
    # The same program with these settings' shape; the organism's refusals are its judge's to tell.
    config.model.update(path="", dtype="float32", remat="none")
    config.data.source = "organism"
    config.method.direction.update(openers=(), opener_ids=(), filter="judge", fallback="rank")
    config.method.direction.minimum = DirectionConfig().minimum
    config.method.direction.select.criterion = "generation"
    config.method.tokens.votes.update(size=12, top=12, floor=1e-3)
    config.mesh.fsdp = 1
    config.train.master = "float32"


def shrink(config: Any, method: Any) -> None:
    """Makes `method`, SafeSteer's section or a study's part of it, run in seconds.

    The same program, of which nothing can be learnt.
    """
    method.update(steps=2, rollouts=2, prompts_per_step=2, max_tokens=12)
    method.direction.update(max_tokens=12)
    method.direction.select.update(screen=2, coherent=0.0, refusal=0.0)
    method.tokens.votes.update(samples=1, horizon=3)
    config.data.update(train=16, val=8, prompts=8)
    config.eval.update(safety=4, over_refusal=4, capability=4, samples=1, batch_size=16)
