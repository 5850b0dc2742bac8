r"""Mitigations on Qwen3-8B, fine-tuned by LoRA to a goal of a file.

One of the four models of arXiv 2606.03648, of which only abstract and opening are public: the
settings are ours. Hypothesis (C8 of docs/results/capability_grounded.md): at the same capability
mitigations are ranked in another order than after the same number of updates (Kendall's tau below
1). It counts as failed if the orders agree. Bring a task and safety sets (docs/anchored.md):

  jaxsafety run --config=configs/anchored/qwen3_8b.py:goal=arc \
      --config.model.path=Qwen3-8B --config.method.tasks=arc=arc.jsonl \
      --config.method.scored=piqa=piqa.jsonl --config.eval.sets=safety/advbench=advbench.csv

`jaxsafety plan --config=configs/anchored/qwen3_8b.py --topology=v5e:4x4` needs no weights.
"""

from configs import common
from jaxsafety.studies.anchored import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N, goal=NAME of `method.tasks`."""
    arg = common.parse_arg(arg, smoke=False, seed=0, goal="")
    config = common.base("anchored", seed=arg.seed, model="Qwen3-8B")
    recipe.set_chat(config, arg.goal, "qwen3-8b")
    if arg.smoke:
        recipe.smoke(config)
    return config
