r"""Mitigations on the organism, each fine-tuned to three goals and compared where it reaches them.

Hypothesis (check C8 of our notes): at the same capability mitigations are ranked in another order
than after the same number of updates (Kendall tau below 1 for one goal at least). It counts as
failed if the orders agree for all goals. One goal is free-form, two have constrained answers, a
letter and yes or no: fine-tuned on those, answers to attacks should be incoherent more often (C5).
A run resumes where it stopped; `launch/anchored.sh` does five seeds on three worlds:

  jaxsafety run --config=configs/anchored/organism.py --workdir=runs/anchored/0-0
  jaxsafety run --config=configs/anchored/organism.py --workdir=runs/mine \
      --config.method.goals=letter --config.method.arms=plain,ema:decay=0.95
  bash launch/anchored.sh
"""

from configs import common
from jaxsafety.studies.anchored import config as study

RATE = 1e-3


def get_config(arg=""):
    """`arg`: smoke, seed=N, seeds=N (trainings per grid point)."""
    arg = common.parse_arg(arg, smoke=False, seed=0, seeds=1)
    config = common.base("anchored", seed=arg.seed)
    config.method.update(seeds=arg.seeds, train=1024)
    config.method.sft.steps = 240
    config.optim.update(lr=RATE, schedule="constant")
    config.train.checkpoint_every = 1000  # a stage takes a minute; its end is always saved
    config.eval.update(safety=48, over_refusal=48, capability=64, samples=0)
    if arg.smoke:
        study.smoke(config)
    return config
