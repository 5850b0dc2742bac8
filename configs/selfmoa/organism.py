r"""Self-MOA on the organism: does a loop of own attacks and two judges make it safer?

Hypothesis: after three stages fewer held-out wrapped attacks succeed than before the loop, by the
exact judge that trains nothing, and harmless requests are answered as before. It fails if the
interval of the difference holds 0, or if harmless answers fall by more than 5 points.

  jaxsafety run --config=configs/selfmoa/organism.py --workdir=runs/selfmoa
  jaxsafety run --config=configs/selfmoa/organism.py:seed=1 --config.method.stage.form=paper_eq2 \
      --workdir=runs/selfmoa_eq2
  jaxsafety run --config=configs/selfmoa/organism.py:smoke --workdir=runs/smoke
"""

from configs import common
from jaxsafety.methods.selfmoa import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N, reset=STEPS (updates on carried-out requests before the loop)."""
    arg = common.parse_arg(arg, smoke=False, seed=0, reset=0)
    config = common.base("selfmoa", seed=arg.seed)
    recipe.set_organism(config)
    config.method.reset.steps = arg.reset
    if arg.smoke:
        recipe.smoke(config)
    return config
