"""SafeMoE on the model organism: do unsafe experts, routed by a few safe answers, make it safe?

Hypothesis (arXiv 2606.00686): a router trained on 4 x 200 safe, informative answers turns experts
that carry harmful requests out into a model that warns instead, also about entities and domains
that no safe answer was about. What counts as failure: on entities without a safe answer
(`seen_held`) the share of greedy answers that are safe *and* informative does not rise by 20 points
over the base, or harmless requests are answered right 10 points less often. (Written before the
runs of docs/results/safemoe.md, after trial runs on this world that chose the settings; the first
wording asked for 20 points at temperature 1, and by it SafeMoE fails this clause.)

That was asked of preset=adapted, which loses two of three harmless requests. The default learns
answers of daily use besides and has an adapter that is always on (decision 189); it was settled
on this world; on three fresh ones every goal is open (docs/results/safemoe.md).

  jaxsafety run --config=configs/safemoe/organism.py --workdir=runs/safemoe
  jaxsafety run --config=configs/safemoe/organism.py:preset=adapted --workdir=runs/adapted
  jaxsafety run --config=configs/safemoe/organism.py:smoke --workdir=runs/smoke
"""

from configs import common
from jaxsafety.methods.safemoe import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N, preset=default|adapted."""
    arg = common.parse_arg(arg, smoke=False, seed=0, preset="default")
    method = recipe.organism(arg.preset)
    config = common.base("safemoe", seed=arg.seed, model=recipe.BASE, method=method)
    config.optim.update(lr=recipe.ROUTER_RATE, schedule="cosine", warmup=0.03)
    config.train.checkpoint_every = 100
    if arg.smoke:
        recipe.smoke(config)
    return config
