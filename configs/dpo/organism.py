r"""DPO on the organism's own pairs: does preferring safe answers make wrapped attacks fail?

Pairs have a safe answer and the procedure to harmful requests, and the right answer and a refusal
to harmless ones. Hypothesis: 256 of them lower the success of wrapped attacks of held-out families
below half of the base's rate, and refusals of harmless requests rise by 5 points at most. It counts
as failed if one of the two does not hold.

  jaxsafety run --config=configs/dpo/organism.py --workdir=runs/dpo
  jaxsafety run --config=configs/dpo/organism.py:rank=8 --workdir=runs/dpo-lora
  jaxsafety run --config=configs/dpo/organism.py:form=modpo --workdir=runs/modpo
"""

from configs import common
from jaxsafety.methods.dpo import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N, rank=R (0: all parameters, else LoRA), form=F (dpo, modpo, ...)."""
    arg = common.parse_arg(arg, smoke=False, seed=0, rank=0, form="dpo")
    config = common.base("dpo", seed=arg.seed)
    recipe.set_organism(config, arg.rank, arg.form)
    if arg.smoke:
        recipe.smoke(config)
    return config
