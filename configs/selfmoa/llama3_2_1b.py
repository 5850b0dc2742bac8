r"""Self-MOA on Llama-3.2-1B-Instruct, of the paper's four models, with its tables' settings.

Hypothesis: after the last stage fewer held-out harmful requests are carried out than before the
loop, by a judge that trains nothing, and as few harmless ones are refused. It fails if the interval
of the difference holds 0, or if refusals of harmless requests rise by more than 5 points.
Bring seeds, both attackers' lessons and a safety judge, and say that attacks may be generated; they
stay in the workdir:

  jaxsafety run --config=configs/selfmoa/llama3_2_1b.py --config.model.path=Llama-3.2-1B-Instruct \
      --config.data.distil=seeds.jsonl --config.data.harmful=harmful.jsonl \
      --config.data.harmless=harmless.jsonl --config.method.attack.generate=True \
      --config.method.attack.expand=expand.jsonl --config.method.attack.hide=hide.jsonl \
      --config.method.scores.safety=llama_guard3=Llama-Guard-3-8B \
      --config.method.scores.helpful=reward=UltraRM-13b \
      --config.eval.sets=safety/direct=direct.jsonl

`--config.method.attack.kind=none` asks the seeds as they are.
"""

from configs import common
from jaxsafety.methods.selfmoa import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N."""
    arg = common.parse_arg(arg, smoke=False, seed=0)
    config = common.base("selfmoa", seed=arg.seed, model="Llama-3.2-1B-Instruct")
    recipe.set_published(config, "llama3.2-1b")
    if arg.smoke:
        recipe.smoke(config)
    return config
