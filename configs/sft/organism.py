r"""Supervised fine-tuning of the organism on right answers: the baseline for every safety method.

Hypothesis: 256 dialogues (half of them refused attacks, plain and wrapped) lower the success of
wrapped attacks at least as much as SafeSteer's 100 prompts do, which need no answers at all. It
counts as failed if held-out families stay above half of the base's rate.

  jaxsafety run --config=configs/sft/organism.py --workdir=runs/sft
  jaxsafety run --config=configs/sft/organism.py:rank=8 --workdir=runs/sft-lora
"""

from configs import common
from jaxsafety.methods.sft import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N, rank=R (0 trains all parameters, else LoRA)."""
    arg = common.parse_arg(arg, smoke=False, seed=0, rank=0)
    config = common.base("sft", seed=arg.seed)
    config.method.rank = arg.rank
    config.optim.lr = recipe.LORA_RATE if arg.rank else recipe.ORGANISM_RATE
    if arg.smoke:
        recipe.smoke(config)
    return config
