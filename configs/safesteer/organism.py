"""SafeSteer on the model organism: does localized distillation make wrapped attacks fail?

Hypothesis: 25 updates on the safety tokens alone halve the success of wrapped attacks at
temperature 1, on attack families and domains the method never saw, and cost no capability.
The set S is scaled to the organism's vocabulary of about 1100 words and refusals of about seven
words: 24 tokens (paper: 50 of 128k to 152k), 12 votes per position (200), the first 4 answer
positions (5 to 7), a probability floor of 3e-3 (1e-8). How they were chosen, and
which worlds that makes development worlds, is told in docs/results/safesteer.md.

  jaxsafety run --config=configs/safesteer/organism.py
  jaxsafety run --config=configs/safesteer/organism.py:preset=paper --workdir=runs/paper
  jaxsafety run --config=configs/safesteer/organism.py:smoke --workdir=runs/smoke

preset=paper is the published method: partial loss, criterion of Arditi et al., coefficient 1 added
at all positions. Only the size of S and the learning rate stay the organism's.
"""

import dataclasses

from configs import common
from jaxsafety.core.errors import bad
from jaxsafety.methods.safesteer.teacher import DirectionConfig
from jaxsafety.probing.selection import SelectConfig

PRESETS = ("default", "paper")


def get_config(arg=""):
    """`arg`: smoke, seed=N, preset=default|paper, control=N (draw N of the mass-matched sets)."""
    arg = common.parse_arg(arg, smoke=False, seed=0, preset="default", control=-1)
    if arg.preset not in PRESETS:
        raise bad("config argument preset", arg.preset, ", ".join(PRESETS))
    method = common.organism_safesteer()
    if arg.control >= 0:
        tokens = dataclasses.replace(method.tokens, kind="matched", control_seed=arg.control)
        method = dataclasses.replace(method, tokens=tokens)
    if arg.preset == "paper":
        select = SelectConfig(criterion="arditi", coefficients=(1.0,), steers=("all",))
        method = dataclasses.replace(
            method, variant="partial", direction=DirectionConfig(select=select, filter="score")
        )
    config = common.base("safesteer", seed=arg.seed, method=method)
    config.optim.lr = common.ORGANISM_RATE
    config.train.checkpoint_every = 5
    if arg.smoke:
        common.shrink(config, config.method)
    return config
