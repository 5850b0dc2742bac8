"""SafeMoE's controls on the organism, at equal router data, and what its result depends on.

Hypothesis (check 9 of docs/published.md, arXiv 2606.00686): unsafe experts beat, on answers that
are safe and informative, random ones of the same norm, benign-instruction ones, refusal-only ones,
one pooled expert copied, a LoRA on the same answers (as many parameters as the router; and rank
32), and experts of the safe answers themselves. The thesis counts as failed if random or benign
experts or the LoRA of as many parameters reach it: the paired 95 % interval over seeds of the
difference in `seen_held.safe_informative.greedy` holds zero or lies below it. (The first wording
asked it of answers at T = 1; it was changed after trial runs, before the runs of
docs/results/safemoe.md, and the outcome is the same by both.) Knowledge is not equal in these arms:
only unsafe answers tell the facts of `seen_held`, so this criterion could not have been met. Arms
with the same knowledge: "lora_pooled" (a LoRA on a base with the pooled unsafe expert merged in,
whole; "lora_beside" merges the four experts at a quarter of their strength), "warning" (experts of
answers like the safe ones, about all entities) and "facts" (experts of plain questions for hazards
and remedies). "harmless" and its fellows add answered harmless requests to the router's data. One
run is one seed; the tables need five (`launch/safemoe.sh`):

  jaxsafety run --config=configs/safemoe/controls.py:seed=0 --workdir=runs/safemoe-controls/0

All that is of preset=adapted, the method without our additions, at the organism's sizes
(docs/published.md). preset=default asks what keeps harmless requests in the default, and whether a
LoRA on one pooled expert does as well, of equal size, on equal data and at a rate that was searched
for:

  jaxsafety run --config=configs/safemoe/controls.py:preset=default --workdir=runs/default/0
"""

from configs import common
from jaxsafety.methods.safemoe import recipe
from jaxsafety.studies import safemoe_controls as study


def get_config(arg=""):
    """`arg`: smoke, seed=N, preset=adapted|default."""
    arg = common.parse_arg(arg, smoke=False, seed=0, preset="adapted")
    arms = study.DEFAULT if arg.preset == "default" else study.ARMS
    method = study.ControlsConfig(base=recipe.organism(arg.preset), arms=arms)
    config = common.base("safemoe_controls", seed=arg.seed, model=recipe.BASE, method=method)
    config.optim.update(lr=recipe.ROUTER_RATE, schedule="cosine", warmup=0.03)
    config.train.checkpoint_every = 1000  # a stage takes seconds; its end is always saved
    if arg.smoke:
        study.smoke(config)
    return config
