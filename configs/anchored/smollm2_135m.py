r"""Mitigations on SmolLM2-135M-Instruct, fine-tuned by LoRA to a goal of a file.

As published the model refuses nothing, so there is no safety to lose: start from what
`launch/real.sh` leaves (`runs/real/sft/student`), which refuses. Hypothesis (C5 of our notes):
fine-tuned to answer with a letter or with yes or no, it answers requests for harm so too, and more
of its answers to them are incoherent than of the base's. It counts as failed if plain fine-tuning
leaves as few incoherent answers to the safety sets as the base gives.

  jaxsafety run --config=configs/anchored/smollm2_135m.py:goal=arc --workdir=runs/arc \
      --config.model.path=runs/real/sft/student --config.method.tasks=arc=arc.jsonl \
      --config.method.scored=piqa=piqa.jsonl \
      --config.eval.sets=safety/advbench=advbench.csv,over_refusal/xstest=xstest.csv

Dialogues for mitigations and the sets that are measured are the starter set's, of which one half
is held back, unless `data.harmful`, `data.harmless` and `eval.sets` name others.
"""

from configs import common
from jaxsafety.studies.anchored import config as study
from jaxsafety.studies.anchored import files

# ptst and interpolation are made of plain's training, and cost none of their own; safesteer repairs
# what that left.
ARMS = (
    "plain",
    "mixing",
    "kl",
    "constrained",
    "ptst",
    "interpolation:s=0.5|0.8",
    "ema:decay=0.9",
    "safesteer",
)


def get_config(arg=""):
    """`arg`: smoke, seed=N, goal=NAME of `method.tasks`.

    smoke: the same program on the organism, as no file of a task is shipped.
    """
    arg = common.parse_arg(arg, smoke=False, seed=0, goal="arc")
    config = common.base("anchored", seed=arg.seed, model="SmolLM2-135M-Instruct")
    config.method.update(
        goals=(f"{arg.goal}:margin=0.05",), arms=ARMS, train=512, dev=96, test=96, every=12
    )
    config.method.update(general=32, floor=0.1, guard=40, align=12, repair=8)
    config.method.sft.update(steps=48, rows=4, length=192, long="drop", rank=16, alpha=32.0)
    config.optim.update(lr=4e-4, schedule="constant", warmup=0.1)
    config.train.checkpoint_every = 1000
    config.eval.update(safety=64, over_refusal=64, capability=64, samples=0)
    if arg.smoke:
        study.smoke(config)
        return config
    files.set_starter(config)
    config.eval.max_tokens = 48
    return config
