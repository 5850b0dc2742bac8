"""Settings of Self-MOA: on the organism, as published, and small for a smoke test."""

from __future__ import annotations

from typing import Any

from jaxsafety.data.starter import file

# Of all parameters on the organism.
ORGANISM_RATE = 3e-4
LISTS = "weak=arditi+gcg+harmbench_list"


def set_organism(config: Any) -> None:
    """Sets the loop on the organism: 5 rounds, adaptive attackers, a stage per 96 pairs.

    Its prompts have six to twelve words, so an expansion is another wording of the same length, and
    many of them share more words with their seed than the paper allows: see `novelty`.
    """
    method = config.method
    method.update(rounds=5, prompts=64, samples=8, tokens=40, temperature=1.0, top_p=1.0)
    method.update(length=96, rank=0, probe=64)
    method.novelty.update(most=0.6, weights="mean", shortest=0.5, longest=3.0)
    method.attack.update(
        kind="adaptive", rank=8, alpha=16.0, steps=150, rows=32, lr=3e-3, retrain=96, tokens=32
    )
    method.stage.update(pairs=96, epochs=3, rows=16, form="modpo", helpful=0.1, safety=0.9)
    config.data.update(prompts=192, wrapped=0.0, val=64)
    config.optim.update(lr=ORGANISM_RATE, schedule="constant", warmup=0.0)
    config.train.checkpoint_every = 1000  # a stage takes a minute; its end is always saved


def set_published(config: Any, shape: str) -> None:
    """Sets the loop of the paper's tables, as far as they say: see docs/selfmoa.md.

    Rounds, prompts, thresholds, weights, LoRA, learning rate, epochs and lengths are its own; eight
    answers at temperature 0.7 and top-p 0.9 are APRT's, beta 0.1 that of MODPO's code. Prompts,
    attackers' lessons and judges are yours: none are shipped.

    Args:
      config: a ConfigDict of the program "selfmoa", on a model that you bring.
      shape: that model's preset, for `plan`.
    """
    method = config.method
    method.stage.update(pairs=1000, epochs=10, rows=4, form="paper_eq2")
    method.attack.update(kind="adaptive", lr=3e-5, steps=625, rows=16, tokens=300)
    config.model.update(shape=shape, dtype="bfloat16", remat="full")
    config.optim.update(lr=3e-5, schedule="cosine", warmup=0.01)
    config.data.update(source="files", prompts=12400)
    config.mesh.fsdp = -1


def set_small(config: Any) -> None:
    """Sets the loop for a chat model of 135 M parameters on two CPU cores: half an hour.

    Phrase lists are the judges, joined by a label model; the table prefers refusals, as a list says
    nothing of help. Nothing is attacked: prompts are asked as they are. A LoRA is trained at the
    rate of DPO's `set_small`; none of this was tuned.

    Args:
      config: a ConfigDict of the program "selfmoa", on a model that you bring.
    """
    # A process that learns eight pairs of 256 tokens holds 12.7 GB without it, 2.3 with it.
    config.model.remat = "full"
    method = config.method
    method.update(rounds=4, prompts=10, samples=8, tokens=64, temperature=1.0, top_p=1.0)
    method.update(length=256, rank=16, alpha=32.0, probe=24)
    method.scores.update(safety=LISTS, helpful=f"outcomes={LISTS}", refusal=0.75, unsafe=0.3)
    method.stage.update(pairs=16, epochs=4, rows=8, form="modpo", helpful=0.1, safety=0.9, val=0.0)
    config.optim.update(lr=1e-4, schedule="constant", warmup=0.1)
    config.train.checkpoint_every = 1000
    # Of 64 requests the first 40 are asked in rounds, the others are the probe's.
    config.data.update(source="files", prompts=40, train=40, val=24, distil=file("harmful_train"))
    config.data.update(harmful=file("harmful_train"), harmless=file("twins_train"))
    config.eval.update(safety=64, over_refusal=64, capability=64, samples=0, max_tokens=64)
    config.eval.sets = (
        f"safety/held_back={file('harmful_test')}",
        f"over_refusal/twins={file('twins_test')}",
        f"capability/starter={file('capability')}",
    )


def smoke(config: Any) -> None:
    """Makes an experiment a smoke test on the shipped organism, whatever it was made for."""
    config.model.update(path="", dtype="float32", remat="none")
    config.data.update(source="organism", prompts=24, val=4, wrapped=0.5)
    config.data.update(distil="", harmful="", harmless="")
    config.eval.sets = ()
    method = config.method
    method.update(rounds=2, prompts=4, samples=2, tokens=12, length=64, probe=2)
    method.pairs.update(std_min=0.0, diff_min=0.0)
    method.scores.update(noise=0.2, safety="", helpful="outcomes")
    method.rank = min(method.rank, 2)
    method.attack.update(rank=2, alpha=4.0, steps=2, rows=4, examples=8, retrain=1, tokens=12)
    method.attack.update(tries=1, expand="", hide="", generate=False)
    method.reset.update(steps=min(method.reset.steps, 2), rows=4, examples=8, path="")
    method.stage.update(pairs=2, rows=2, val=0.0)
    config.eval.update(safety=4, over_refusal=4, capability=4, samples=0, batch_size=16)
    config.eval.max_tokens = 512
    config.mesh.fsdp = 1
