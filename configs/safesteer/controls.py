"""SafeSteer's ablations and controls on the organism, compared at matched held-out attack success.

Hypothesis (check 10 of docs/published.md): at equal safety the partial loss on S moves the
distribution outside S less than the full-vocabulary loss does, and random token sets leave attacks
alone (no margin was set for that). A claim counted as failed if its paired 95 % interval over
worlds and seeds held zero or had the wrong sign; docs/results/safesteer.md now takes the world as
the unit and calls what holds zero open. One run is one world and one seed; `launch/controls.sh`
does three of each and prints the table. It resumes where it stopped:

  jaxsafety run --config=configs/safesteer/controls.py --workdir=runs/controls/0-0
  bash launch/controls.sh

Arms: full, partial, generalised, tail, renormalised, per-position top-k, random sets, random sets
matched on teacher mass, such sets without words of complying answers or of these alone, S from
base rollouts, S with horizon 1.
"""

from configs import common
from jaxsafety.methods.safesteer import recipe
from jaxsafety.studies import safesteer_controls as study


def get_config(arg=""):
    """`arg`: smoke, seed=N, draws=N (random sets per kind)."""
    arg = common.parse_arg(arg, smoke=False, seed=0, draws=5)
    method = study.ControlsConfig(base=recipe.organism(), draws=arg.draws)
    config = common.base("safesteer_controls", seed=arg.seed, method=method)
    config.optim.lr = recipe.ORGANISM_RATE
    config.train.checkpoint_every = 1000  # a stage takes seconds; its end is always saved
    if arg.smoke:
        study.smoke(config)
    return config
