r"""SafeSteer on SmolLM2-135M-Instruct, once it has been taught to refuse (`launch/real.sh`).

As published it does not refuse at all, and SafeSteer has nothing to steer with: first
configs/sft/smollm2_135m.py, then this on what that leaves. Hypothesis: refusals of held-back
requests rise or stay, and their harmless twins are refused no more often than before.

  jaxsafety run --config=configs/safesteer/smollm2_135m.py \
      --config.model.path=runs/real/sft/student --config.data.harmful=harmful.jsonl \
      --config.data.harmless=twins.jsonl --config.data.distil=harmful.jsonl \
      --config.eval.sets=safety/held_back=FILE,over_refusal/twins=FILE
"""

from configs import common
from jaxsafety.methods.safesteer import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    config = common.base("safesteer", seed=arg.seed, model="SmolLM2-135M-Instruct")
    recipe.set_small(config)
    if arg.smoke:
        recipe.smoke(config)
    return config
