r"""LoRA fine-tuning of gemma-2-2b-it, one of Self-MOA's four models.

With Self-MOA's LoRA settings. Hypothesis: none; this is the supervised baseline, and the shape that
`plan` needs. Bring dialogues, a prompt and a response or "messages" per row; nothing else is asked
for, and without `eval.sets` nothing is measured but the training loss:

  jaxsafety run --config=configs/sft/gemma2_2b.py --config.model.path=gemma-2-2b-it \
      --config.data.chats=chats.jsonl

More that may be wanted: the loss of a tenth of the dialogues that is not trained on, rows longer
than 512 tokens left out instead of refused, 64 prompts of a set measured before and after:

      --config.data.holdout=0.1 --config.method.long=drop \
      --config.eval.sets=safety/direct=direct.jsonl --config.eval.safety=64
"""

from configs import common
from jaxsafety.methods.sft import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    config = common.base("sft", seed=arg.seed, model="gemma-2-2b-it")
    recipe.selfmoa(config, "gemma2-2b")
    if arg.smoke:
        recipe.smoke(config)
    return config
