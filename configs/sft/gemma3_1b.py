r"""LoRA fine-tuning of gemma-3-1b-it, one of Self-MOA's four models.

With Self-MOA's LoRA settings. Hypothesis: none; this is the supervised baseline, and the shape that
`plan` needs. Bring dialogues (jsonl with "messages") and sets to measure on:

  jaxsafety run --config=configs/sft/gemma3_1b.py --config.model.path=gemma-3-1b-it \
      --config.data.chats=chats.jsonl --config.data.harmful=harmful.jsonl \
      --config.data.harmless=harmless.jsonl --config.data.distil=harmful.jsonl \
      --config.eval.sets=safety/direct=direct.jsonl
"""

from configs import common


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    return common.selfmoa_sft(arg, "gemma-3-1b-it", "gemma3-1b")
