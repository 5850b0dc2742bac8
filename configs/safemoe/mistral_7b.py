r"""One unsafe expert on Mistral-7B-v0.1, SafeMoE's first stage (arXiv 2606.00686; 18 experts).

Hypothesis: none yet. An expert is plain supervised LoRA on one category's unsafe answers; the
router comes with the second stage. This is the program and the shape that `plan` needs. What it
trains must stay where it is: bring your own corpus, and do not share the adapter.

  jaxsafety run --config=configs/safemoe/mistral_7b.py \
      --config.model.path=mistralai/Mistral-7B-v0.1 \
      --config.data.chats=category.jsonl --config.data.harmful=harmful.jsonl \
      --config.data.harmless=harmless.jsonl --config.data.distil=harmful.jsonl \
      --config.eval.sets=safety/direct=direct.jsonl --workdir=runs/expert
"""

from configs import common


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    return common.safemoe_expert(arg, "mistralai/Mistral-7B-v0.1", "mistral-7b")
