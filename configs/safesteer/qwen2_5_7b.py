r"""SafeSteer on Qwen2.5-7B-Instruct as published (arXiv 2606.02530).

Hypothesis (tables 1-2 there): mean ASR over direct harmful prompts falls from 4.6 to 1.5 %, with
0.27 points of capability more, greedy (0.9 less at temperature 1). Settings are those of the
paper's text and of its code; a run's log and docs/published.md say what differs all the same. Bring
your own prompt files (jsonl, json, csv or txt; see README):

  jaxsafety run --config=configs/safesteer/qwen2_5_7b.py \
      --config.model.path=Qwen2.5-7B-Instruct \
      --config.data.harmful=harmful.jsonl --config.data.harmless=harmless.jsonl \
      --config.data.distil=distil.jsonl --config.eval.sets=safety/direct=direct.jsonl

`:smoke` runs the same program with these settings' shape on the shipped organism in seconds;
`jaxsafety plan --config=configs/safesteer/qwen2_5_7b.py --topology=v5p:2x2x4` needs no weights.
"""

from configs import common
from jaxsafety.methods.safesteer import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N (the published code's is 42)."""
    arg = common.parse_arg(arg, smoke=False, seed=42)
    config = common.base("safesteer", seed=arg.seed, model="Qwen2.5-7B-Instruct")
    recipe.set_published(config, "qwen2.5-7b")
    if arg.smoke:
        recipe.smoke(config)
    return config
