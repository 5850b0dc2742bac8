r"""One unsafe expert on Qwen2.5-3B, SafeMoE's first stage (arXiv 2606.00686; 18 experts there).

Hypothesis: none yet. An expert is plain supervised LoRA on one category's unsafe answers; the
router comes with the second stage. The paper says "Qwen-3B"; this one is our guess. Prompts are
raw, without a chat template, as the paper's (`model.template`). This is the program and the shape
that `plan` needs. What it trains must stay where it is: bring your own corpus, and do not share the
adapter.

  jaxsafety run --config=configs/safemoe/qwen2_5_3b.py \
      --config.model.path=Qwen/Qwen2.5-3B --config.data.chats=category.jsonl \
      --workdir=runs/expert

An expert on a harmless topic of your own is the same with `--config.method.unsafe=False`. Experts
are LoRA on gate, up and down, as the paper's; an adapter on all projections, which `configs/sft`
trains, can be one too (`method.experts.targets` of the router's run names them).
"""

from configs import common
from jaxsafety.methods.safemoe import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    config = common.base("sft", seed=arg.seed, model="Qwen/Qwen2.5-3B")
    recipe.published_expert(config, "qwen2.5-3b")
    if arg.smoke:
        recipe.smoke(config)
    return config
