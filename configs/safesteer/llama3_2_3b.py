r"""SafeSteer on Llama-3.2-3B-Instruct as published (arXiv 2606.02530).

Hypothesis (tables 1-2 there): mean ASR over direct harmful prompts falls from 5.3 to 4.1 %, at a
cost of 0.75 points of capability, greedy (4.5 at temperature 1). Settings are those of the paper's
text and of its code; a run's log and docs/published.md say what differs all the same. Bring your
own prompt files (jsonl, json, csv or txt; see README):

  jaxsafety run --config=configs/safesteer/llama3_2_3b.py \
      --config.model.path=Llama-3.2-3B-Instruct \
      --config.data.harmful=harmful.jsonl --config.data.harmless=harmless.jsonl \
      --config.data.distil=distil.jsonl --config.eval.sets=safety/direct=direct.jsonl

`:smoke` runs the same program with these settings' shape on the shipped organism in seconds;
`jaxsafety plan --config=configs/safesteer/llama3_2_3b.py --topology=v5p:2x2x4` needs no weights.
"""

from configs import common
from jaxsafety.methods.safesteer import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N (the published code's is 42)."""
    arg = common.parse_arg(arg, smoke=False, seed=42)
    config = common.base("safesteer", seed=arg.seed, model="Llama-3.2-3B-Instruct")
    recipe.set_published(config, "llama3.2-3b")
    if arg.smoke:
        recipe.smoke(config)
    return config
