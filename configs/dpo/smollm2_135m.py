r"""DPO with a LoRA on SmolLM2-135M-Instruct, on preference pairs of a file.

HH-RLHF's harmless split, say, whose rows are read as they are published. Hypothesis: on pairs of
held-out prompts the preferred answer is ranked above the other one in 60 % of the cases or more.
It counts as failed if it is not, or if accuracy falls by more than 2 points.

  jaxsafety run --config=configs/dpo/smollm2_135m.py \
      --config.model.path=SmolLM2-135M-Instruct.gguf \
      --config.data.pairs=harmless-base.jsonl.gz --config.data.limit=2000 --workdir=runs/dpo-hh
"""

from configs import common
from jaxsafety.methods.dpo import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    config = common.base("dpo", seed=arg.seed, model="SmolLM2-135M-Instruct")
    recipe.set_small(config)
    if arg.smoke:
        recipe.smoke(config)
    return config
