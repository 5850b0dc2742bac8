r"""Mitigations on SmolLM2-135M-Instruct, fine-tuned by LoRA to a goal of a file.

As published the model refuses nothing, so there is no safety to lose: start from what
`launch/real.sh` leaves (`runs/real/sft/student`), which refuses. Hypothesis (C5 of
docs/results/capability_grounded.md): fine-tuned to answer with a letter or with yes or no, it
answers requests for harm so too, and more of its answers to them are incoherent than of the base's.
It counts as failed if plain fine-tuning leaves as few incoherent answers to the safety sets as the
base gives.

  jaxsafety run --config=configs/anchored/smollm2_135m.py:goal=arc --workdir=runs/arc \
      --config.model.path=runs/real/sft/student --config.method.tasks=arc=arc.jsonl \
      --config.method.scored=piqa=piqa.jsonl \
      --config.eval.sets=safety/advbench=advbench.csv,over_refusal/xstest=xstest.csv

Dialogues for mitigations and the sets that are measured are the starter set's, of which one half
is held back, unless `data.harmful`, `data.harmless` and `eval.sets` name others.
"""

from configs import common
from jaxsafety.studies.anchored import recipe


def get_config(arg=""):
    """`arg`: smoke, seed=N, goal=NAME of `method.tasks`.

    smoke: the same program on the organism, as no file of a task is shipped.
    """
    arg = common.parse_arg(arg, smoke=False, seed=0, goal="")
    config = common.base("anchored", seed=arg.seed, model="SmolLM2-135M-Instruct")
    recipe.set_small(config, arg.goal)
    if arg.smoke:
        recipe.smoke(config)
    return config
