r"""SafeSteer on Meta-Llama-3-8B-Instruct with the paper's hyperparameters (arXiv 2606.02530).

Hypothesis (tables 1-2 there): mean ASR over direct harmful prompts falls from 3.8 to 3.5 %, at a
cost of 0.46 points of capability, greedy. What differs from the published run is in
docs/published.md (float32 masters, for one). Bring your own prompt files (jsonl, json, csv or txt;
see README):

  jaxsafety run --config=configs/safesteer/llama3_8b.py \
      --config.model.path=Meta-Llama-3-8B-Instruct \
      --config.data.harmful=harmful.jsonl --config.data.harmless=harmless.jsonl \
      --config.data.distil=distil.jsonl --config.eval.sets=safety/direct=direct.jsonl

`:smoke` runs the same program with these settings' shape on the shipped organism in seconds;
`jaxsafety plan --config=configs/safesteer/llama3_8b.py --topology=v5p:2x2x4` needs no weights.
"""

from configs import common
from jaxsafety.methods.safesteer import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N (the published code's is 42)."""
    arg = common.parse_arg(arg, smoke=False, seed=42)
    config = common.base("safesteer", seed=arg.seed, model="Meta-Llama-3-8B-Instruct")
    recipe.set_published(config, "llama3-8b", horizon=5, floor=1e-7, lr=1e-6)
    if arg.smoke:
        recipe.smoke(config)
    return config
