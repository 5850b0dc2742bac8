r"""SafeMoE on SmolLM2-135M-Instruct and two topics of your own: an expert each, and their router.

A mechanical check on a published model, and the example of README: the files are yours, dialogues
of two topics (taken for unsafe, whatever they are), and answers that the router learns from.
Hypothesis, with two harmless topics: the mixture answers other things as well as before, each topic
uses its own expert more than the other does, and a mixture decodes as it is trained.

  jaxsafety run --config=configs/safemoe/smollm2_135m.py --workdir=runs/topics \
      --config.model.path=SmolLM2-135M-Instruct.gguf \
      --config.data.domains=words=words.jsonl,leisure=leisure.jsonl \
      --config.data.chats=answers.jsonl \
      --config.eval.sets=over_refusal/twins=twins.jsonl,capability/short=questions.jsonl
"""

from configs import common
from jaxsafety.methods.safemoe import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    config = common.base("safemoe", seed=arg.seed, model="SmolLM2-135M-Instruct")
    recipe.set_small(config)
    if arg.smoke:
        recipe.smoke(config)
    return config
