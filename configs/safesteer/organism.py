"""SafeSteer on the model organism: does localized distillation make wrapped attacks fail?

Hypothesis: 25 updates on the safety tokens alone halve the success of wrapped attacks at
temperature 1, on attack families and domains the method never saw, and cost no capability.
The set S is scaled to the organism's vocabulary of about 1100 words: 12 tokens (paper: 50 of 128k
to 152k), 12 votes per position (200), a probability floor of 1e-3 (1e-8).

  jaxsafety run --config=configs/safesteer/organism.py
  jaxsafety run --config=configs/safesteer/organism.py:preset=paper --workdir=runs/paper
  jaxsafety run --config=configs/safesteer/organism.py:smoke --workdir=runs/smoke

preset=paper is the published method: partial loss, criterion of Arditi et al., coefficient 1 added
at all positions. Only the size of S and the learning rate stay the organism's.
"""

import dataclasses

from configs import common

from jaxsafety.errors import bad
from jaxsafety.methods.safesteer import SafeSteerConfig
from jaxsafety.methods.safesteer_teacher import DirectionConfig, TokenConfig
from jaxsafety.probing.selection import SelectConfig
from jaxsafety.probing.votes import VoteConfig

PRESETS = ("default", "paper")


def get_config(arg=""):
    """`arg`: smoke, seed=N, preset=default|paper, control=N (draw N of the mass-matched sets)."""
    arg = common.parse_arg(arg, smoke=False, seed=0, preset="default", control=-1)
    if arg.preset not in PRESETS:
        raise bad("config argument preset", arg.preset, ", ".join(PRESETS))
    tokens = TokenConfig(VoteConfig(size=12, top=12, samples=8, horizon=7, floor=1e-3))
    if arg.control >= 0:
        tokens = dataclasses.replace(tokens, kind="matched", control_seed=arg.control)
    method = SafeSteerConfig(tokens=tokens)
    if arg.preset == "paper":
        select = SelectConfig(criterion="arditi", coefficients=(1.0,), steers=("all",))
        method = dataclasses.replace(
            method, variant="partial", direction=DirectionConfig(select=select)
        )
    config = common.base("safesteer", seed=arg.seed, method=method)
    config.optim.lr = 3e-4
    config.train.checkpoint_every = 5
    if arg.smoke:
        config.method.update(steps=2, rollouts=2, prompts_per_step=2, max_tokens=12)
        config.method.direction.select.update(screen=2, coherent=0.0, refusal=0.0)
        config.method.direction.max_tokens = 12
        config.method.tokens.votes.update(samples=1, horizon=3)
        config.data.update(train=16, val=8, prompts=8)
        config.eval.update(safety=4, over_refusal=4, capability=4, samples=1, batch_size=16)
    return config
