r"""Self-MOA on SmolLM2-135M-Instruct, which refuses nothing, with phrase lists as its judges.

Hypothesis: three weak lists that know nothing but refusals are enough: after the last stage 20
points more of AdvBench are refused than before, by judges that train nothing, and the loop is ahead
of as many pairs of HH-RLHF's harmless split. It fails if either is not so.
Nobody attacks: seeds are asked as they are. Bring more of them than the 40 of the starter set:

  jaxsafety run --config=configs/selfmoa/smollm2_135m.py --workdir=runs/selfmoa \
      --config.model.path=SmolLM2-135M-Instruct.gguf \
      --config.data.distil=seeds.jsonl --config.data.prompts=256 --config.method.prompts=64 \
      --config.method.stage.pairs=48 --config.eval.sets=safety/advbench=advbench.csv
"""

from configs import common
from jaxsafety.methods.selfmoa import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    config = common.base("selfmoa", seed=arg.seed, model="SmolLM2-135M-Instruct")
    recipe.set_small(config)
    if arg.smoke:
        recipe.smoke(config)
    return config
