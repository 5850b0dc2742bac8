"""SafeSteer on the model organism: does localized distillation make wrapped attacks fail?

Hypothesis: 25 updates on the safety tokens alone halve the success of wrapped attacks at
temperature 1, on attack families and domains the method never saw, and cost no capability.
The set S is scaled to the organism's vocabulary of about 1100 words and refusals of about seven
words: 24 tokens (paper: 50 of 128k to 152k), 12 votes per position (200), the first 4 answer
positions (5 to 7), a probability floor of 3e-3 (1e-8). How they were chosen, and
which worlds that makes development worlds, is told in docs/results/safesteer.md.

  jaxsafety run --config=configs/safesteer/organism.py
  jaxsafety run --config=configs/safesteer/organism.py:preset=adapted --workdir=runs/adapted
  jaxsafety run --config=configs/safesteer/organism.py:smoke --workdir=runs/smoke

preset=adapted has the published loss (partial) and direction (criterion of Arditi et al.,
coefficient 1 added at all positions, refusal score as filter), on the organism. It is not the
published run: what differs (prompts, openers, S and its vote, the rate, lengths) is listed setting
by setting in the log of a run, in its report, and in docs/published.md.
"""

from configs import common
from jaxsafety.methods.safesteer import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N, preset=default|adapted, teacher=steered|context.

    control=N takes draw N of the mass-matched sets in the place of S.
    """
    arg = common.parse_arg(
        arg, smoke=False, seed=0, preset="default", control=-1, teacher="steered"
    )
    method = recipe.organism(arg.preset, arg.control, arg.teacher)
    config = common.base("safesteer", seed=arg.seed, method=method)
    config.optim.lr = recipe.ORGANISM_RATE
    config.train.checkpoint_every = 5
    if arg.smoke:
        recipe.smoke(config)
    return config
