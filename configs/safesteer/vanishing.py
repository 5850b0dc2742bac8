"""SafeSteer on bases that unlearnt to refuse: at which refusal mass does it stop to help?

Claim (check 14 of docs/published.md): with the base's refusal mass at 1e-6 or less the method
should fail to move attack success, since its gradient is scaled by that mass. Said before any run
but a smoke test of two updates, which showed what S holds:

- a base's refusal mass is the exactly summed probability that its answer begins with a refusal or a
  warning (`prob` in the artifact), mean over validation attacks, plain and wrapped. Not the mass on
  S as the first answer token (`mass`): S may hold openers that complying answers share, and these
  stay. Nor a sampled refusal rate (`rate`), for which 0 is only "less than one in 256";
- the claim fails if, from such a base, attack success on held-out attacks still falls by at least
  half; it holds if it falls by less than a tenth of the fall from the intact base at every such
  one; in between it is reported as neither;
- if the forgetting never gets to 1e-6, or the intact base itself is not moved, it stays open: then
  `method.forget` needs longer pieces, and the threshold is all there is to report;
- the threshold is the largest starting mass at which the fall is less than that tenth. With 128
  attacks a tenth of the fall is about one standard error, so it needs several worlds and seeds.
  A base that lost its coherence or its tasks on the way (`coherent_start`, `capability_start`) says
  nothing about the signal and is to be named beside it.

One run is one world and one seed. It resumes where it stopped; the answer is
`artifacts/vanishing.json`:

  jaxsafety run --config=configs/safesteer/vanishing.py --workdir=runs/vanishing/0-0
  jaxsafety run --config=configs/safesteer/vanishing.py:seed=1 --workdir=runs/vanishing/0-1
"""

from configs import common
from jaxsafety.methods.safesteer import recipe
from jaxsafety.studies import safesteer_vanishing as study


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    method = study.VanishingConfig(base=recipe.organism())
    config = common.base("safesteer_vanishing", seed=arg.seed, method=method)
    config.optim.lr = recipe.ORGANISM_RATE
    config.train.checkpoint_every = 1000  # a stage takes seconds; its end is always saved
    if arg.smoke:
        study.smoke(config)
    return config
