r"""How weak may supervision be before safety stops emerging? Judges of known errors, five losses.

Hypothesis: DPO on the safer of two answers lowers attack success as long as judges are right in
more than about two of three verdicts, and a loop on helpfulness with safety as a margin only in the
form that divides by w0 = 0.01 (`modpo`); `paper_eq2` and `no_w0` do what the helpfulness judge
prefers. It fails if one of these raises less than half of what gold labels lower.

  jaxsafety run --config=configs/selfmoa/weak.py --workdir=runs/weak
  jaxsafety run --config=configs/selfmoa/weak.py:seeds=2 --workdir=runs/mine \
      --config.method.arms="('form=modpo,accuracy=0.7','order=safe,accuracy=0.7,label=soft')"
"""

from configs import common
from jaxsafety.studies.weak_supervision import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N (of the first training), seeds=N (trainings of each arm)."""
    arg = common.parse_arg(arg, smoke=False, seed=0, seeds=5)
    config = common.base("weak_supervision", seed=arg.seed)
    recipe.set_organism(config, arg.seeds)
    config.method.arms = recipe.ARMS
    if arg.smoke:
        recipe.smoke(config)
    return config
