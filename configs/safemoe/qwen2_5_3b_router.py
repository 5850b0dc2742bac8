r"""SafeMoE's router over 18 unsafe experts on Qwen2.5-3B (arXiv 2606.00686).

Hypothesis (the paper's): trained on 4 x 200 safe, informative answers alone, it makes the mixture
safe also where no answer was about. The experts come from `configs/safemoe/qwen2_5_3b.py`, one run
per category; keep them where they are. Nothing is measured here that the paper measured: there are
neither its data nor its judge. Prompts are raw, as the paper's: the texts without a chat template,
so that a base directory without one will do (`model.template`; docs/published.md has what the paper
does not give).

  jaxsafety run --config=configs/safemoe/qwen2_5_3b_router.py \
      --config.model.path=Qwen/Qwen2.5-3B \
      --config.method.experts.paths=runs/expert0/adapter,runs/expert1/adapter \
      --config.data.chats=safe.jsonl --workdir=runs/router

All experts are of one rank and one scale, on the projections of `method.experts.targets`: the
paper's gate, up and down, or all seven of an ordinary all-linear LoRA,
`--config.method.experts.targets=q,k,v,o,gate,up,down`.
`--config.eval.sets=safety/direct=direct.jsonl` measures base and mixture too. Both stages in one
run, on files of your own by domain: `data.domains` (docs/files.md).
"""

from configs import common
from jaxsafety.methods.safemoe import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    config = common.base("safemoe", seed=arg.seed, model="Qwen/Qwen2.5-3B")
    recipe.published_router(config, "qwen2.5-3b")
    if arg.smoke:
        recipe.smoke(config)
    return config
