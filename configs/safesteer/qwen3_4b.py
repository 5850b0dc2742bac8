r"""SafeSteer on Qwen3-4B-Instruct-2507 with the paper's hyperparameters (arXiv 2606.02530).

Hypothesis (tables 1-2 there): mean ASR over direct harmful prompts falls from 2.9 to 0.9 %, with
capability unchanged. Bring your own prompt files (jsonl, json, csv or txt; see README):

  jaxsafety run --config=configs/safesteer/qwen3_4b.py \
      --config.model.path=Qwen3-4B-Instruct-2507 \
      --config.data.harmful=harmful.jsonl --config.data.harmless=harmless.jsonl \
      --config.data.distil=distil.jsonl --config.eval.sets=safety/direct=direct.jsonl

`:smoke` runs the same program with these settings' shape on the shipped organism in seconds.
"""

from configs import common
from jaxsafety.methods.safesteer import SafeSteerConfig
from jaxsafety.methods.safesteer_teacher import DirectionConfig, TokenConfig
from jaxsafety.probing.selection import SelectConfig
from jaxsafety.probing.votes import VoteConfig


def get_config(arg=""):
    """`arg`: smoke, seed=N (the paper's is 42)."""
    arg = common.parse_arg(arg, smoke=False, seed=42)
    # First-token ids of refusals as strings; the published ids for Qwen3 "still need verification".
    openers = ("I", "As", "My", "It", "Sorry", "Unfortunately")
    select = SelectConfig(criterion="arditi", coefficients=(1.0,), steers=("all",))
    method = SafeSteerConfig(
        direction=DirectionConfig(select=select, openers=openers, filter="score", fallback="error"),
        tokens=TokenConfig(VoteConfig(size=50, top=200, samples=8, horizon=7, floor=1e-8)),
        variant="partial",
        steps=25,
        prompts_per_step=4,
        rollouts=8,
        max_tokens=512,
    )
    path = "Qwen3-4B-Instruct-2507"  # where you put it; nothing is downloaded
    config = common.base("safesteer", seed=arg.seed, model=path, method=method)
    config.model.update(shape="qwen3-4b", dtype="bfloat16", remat="full")
    config.optim.update(lr=1e-5, schedule="cosine", warmup=0.1, clip=1.0)
    config.data.update(source="files", train=128, val=32, prompts=100)
    config.mesh.update(fsdp=-1)
    if arg.smoke:
        config.model.update(path="", dtype="float32", remat="none")
        config.data.source = "organism"
        common.shrink(config, config.method)
        config.method.direction.update(openers=(), filter="judge", fallback="rank")
        config.method.direction.select.criterion = "generation"
        config.method.tokens.votes.update(size=12, top=12, floor=1e-3)
        config.mesh.fsdp = 1
    return config
