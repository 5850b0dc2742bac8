"""SafeSteer, its baselines and refusal SFT on the organism, each attacked from the other side.

Question, before any run but a smoke test: at about equal success of wrapped attacks, how much of
each defence is left when refusal directions of the defended model itself are ablated (one, or
several), when an answer has begun already, and how many updates on 10, 50 or 100 unsafe answers
bring plain attacks back to a half? Claims and margins: docs/predictions/safesteer_attacked.md.
Arms: SafeSteer; a context teacher with the full reverse KL (arXiv 2605.15239); forward KL on the
teacher's top-k; k1 and k3 on sampled tokens; refusal SFT that is ended where it equals SafeSteer on
wrapped validation attacks. What the attacks bring out is of an invented world and does nothing.

One run is one world and one seed. It resumes where it stopped; the table is
`artifacts/attacked.json` and a section of the report:

  jaxsafety run --config=configs/safesteer/attacked.py --workdir=runs/attacked/0-0
  jaxsafety run --config=configs/safesteer/attacked.py:smoke --workdir=runs/smoke
"""

from configs import common
from jaxsafety.methods.safesteer import recipe
from jaxsafety.studies.safesteer_attacked import config as study


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    method = study.AttackedConfig(base=recipe.organism())
    config = common.base("safesteer_attacked", seed=arg.seed, method=method)
    config.optim.lr = recipe.ORGANISM_RATE
    config.train.checkpoint_every = 1000  # a stage takes seconds; its end is always saved
    if arg.smoke:
        study.smoke(config)
    return config
