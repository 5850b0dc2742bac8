r"""Mitigations on the organism, each fine-tuned to three goals and compared where it reaches them.

Hypothesis (C8 of docs/results/capability_grounded.md): at the same capability mitigations are
ranked in another order than after the same number of updates (Kendall tau below 1 for one goal at
least). It counts as failed if the orders agree for all goals. One goal is free-form, two have
constrained answers, a letter and yes or no: fine-tuned on those, answers to attacks should be
incoherent more often (C5). A run resumes where it stopped; `launch/anchored.sh` does both on three
worlds x five seeds:

  jaxsafety run --config=configs/anchored/organism.py --workdir=runs/anchored
  jaxsafety run --config=configs/anchored/organism.py:free --workdir=runs/free
  jaxsafety run --config=configs/anchored/organism.py --workdir=runs/mine \
      --config.method.goals=letter --config.method.arms=plain,ema:decay=0.95
  bash launch/anchored.sh

SafeLoRA and RESTA need the base before its alignment too; a pair of the two is raised by

  jaxsafety organism --kind=twin --seed=0 --out=runs/twin
  jaxsafety run --config=configs/anchored/organism.py:twin=runs/twin --workdir=runs/anchored_twin
"""

from pathlib import Path

from configs import common
from jaxsafety.studies.anchored import config as study

RATE = 1e-3
# One grid point an arm, its paper's or our page's default, but for interpolation, the control,
# which has three. Lisa's shares (1 : 9) are those of its code, in periods of 20 updates.
ARMS = (
    "plain",
    "mixing",
    "kl",
    "anchor",
    "lisa:safe=2,task=18,steps={steps}",
    "constrained",
    "ema:decay=0.95",
    "vaccine",
    "interpolation:s=0.5|0.7|0.9",
    "ptst:system=you are a safe helper .",
    "steering",
    "dpo",
    "safesteer:top=12,samples=8,floor=0.003",
)
TWIN_ARMS = ("safelora", "resta")


def get_config(arg=""):
    """`arg`: smoke, seed=N, seeds=N (trainings per grid point), free, twin=DIR.

    The goals are the two constrained ones; `free`: the free-form one, which is learnt in a third of
    the updates and watched more closely. `twin`: the base is DIR/aligned, with DIR/unaligned
    before it, and the arms that need both come last.
    """
    arg = common.parse_arg(arg, smoke=False, seed=0, seeds=1, free=False, twin="")
    config = common.base("anchored", seed=arg.seed)
    goals, steps, every = (("ends",), 80, 8) if arg.free else (("letter", "claim"), 240, 20)
    arms = tuple(arm.format(steps=steps) for arm in ARMS)
    config.method.update(goals=goals, arms=arms, every=every, seeds=arg.seeds, train=1024)
    config.method.sft.steps = steps
    config.optim.update(lr=RATE, schedule="constant")
    config.train.checkpoint_every = 1000  # a stage takes a minute; its end is always saved
    config.eval.update(safety=48, over_refusal=48, capability=64, samples=0)
    if arg.smoke:
        study.smoke(config)
    if arg.twin:
        config.model.path = str(Path(arg.twin, "aligned"))
        config.method.unaligned = str(Path(arg.twin, "unaligned"))
        config.method.arms += TWIN_ARMS
    return config
