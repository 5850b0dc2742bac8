r"""SafeSteer on Qwen3-4B-Instruct-2507 as published (arXiv 2606.02530).

Hypothesis (tables 1-2 there): mean ASR over direct harmful prompts falls from 2.9 to 0.9 %, at a
cost of 0.29 points of capability, greedy. Settings are those of the paper's text and of its code; a
run's log and docs/published.md say what differs all the same. Bring your own prompt files (jsonl,
json, csv or txt; see README):

  jaxsafety run --config=configs/safesteer/qwen3_4b.py \
      --config.model.path=Qwen3-4B-Instruct-2507 \
      --config.data.harmful=harmful.jsonl --config.data.harmless=harmless.jsonl \
      --config.data.distil=distil.jsonl --config.eval.sets=safety/direct=direct.jsonl

`:smoke` runs the same program with these settings' shape on the shipped organism in seconds;
`jaxsafety plan --config=configs/safesteer/qwen3_4b.py --topology=v5p:2x2x4` needs no weights.
"""

from configs import common
from jaxsafety.methods.safesteer import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N (the published code's is 42)."""
    arg = common.parse_arg(arg, smoke=False, seed=42)
    config = common.base("safesteer", seed=arg.seed, model="Qwen3-4B-Instruct-2507")
    recipe.set_published(config, "qwen3-4b")
    if arg.smoke:
        recipe.smoke(config)
    return config
