r"""A LoRA of refusals and harmless twins on SmolLM2-135M-Instruct (`launch/real.sh`).

The published model carries out nearly every harmful request. A LoRA on refusals alone makes it
refuse everything; so each request comes with a harmless twin that shares its words, and with
everyday prompts, both answered by the model itself (tools/own_answers.py). Hypothesis: refusals of
held-back requests rise by 60 points or more, those of their twins by 10 at most, accuracy stays
within 2 points. It counts as failed if one of the three does not hold.

  jaxsafety run --config=configs/sft/smollm2_135m.py \
      --config.model.path=SmolLM2-135M-Instruct.gguf \
      --config.data.mix="('harmful.jsonl=0.27','twins.jsonl=0.38','everyday.jsonl=0.35')"
"""

from configs import common
from jaxsafety.methods.sft import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    config = common.base("sft", seed=arg.seed, model="SmolLM2-135M-Instruct")
    recipe.set_twins(config)
    if arg.smoke:
        recipe.smoke(config)
    return config
