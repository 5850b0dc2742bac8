"""Settings of the study: on the organism, and small for a smoke test."""

from __future__ import annotations

from typing import Any

FORMS = ("modpo", "paper_eq1", "paper_eq2", "no_w0")
ACCURACIES = (0.55, 0.65, 0.75, 0.85, 1.0)
# What a judge of helpfulness prefers: the worth of compliance, of a warning, of a refusal.
PREFERENCES = {
    "compliance": "unsafe=0.75,informative=0.65,refusal=0.3",
    "informative": "unsafe=0.3,informative=0.75,refusal=0.5",
    "refusal": "unsafe=0.3,informative=0.5,refusal=0.75",
}


def _arms() -> tuple[str, ...]:
    """Every arm of the study, a family a line."""
    found = [f"order=safe,accuracy={a}" for a in ACCURACIES]
    found += [f"form={form},accuracy={a}" for form in FORMS for a in ACCURACIES]
    found += [f"order=safe,label=soft,accuracy={a}" for a in ACCURACIES[:-1]]
    losses = ("order=safe", "form=modpo")
    found += [f"{x},accuracy=0.85,coverage={c}" for x in losses for c in (0.1, 0.3)]
    found += [f"{x},accuracy=0.75,bias={b}" for x in losses for b in (-1.0, 1.0)]
    found += [f"{x},label=soft,accuracy=0.65,sources={n}" for x in losses for n in (3, 7)]
    found += [f"{x},label=soft,accuracy=0.65,sources=7,copies=3" for x in losses]
    worths = [w for name, w in PREFERENCES.items() if name != "compliance"]
    found += [f"form={form},{worth}" for form in FORMS for worth in worths]
    found += ["form=dpo", "form=dpo,unsafe=0.3,informative=0.5,refusal=0.75"]
    found += ["form=paper_eq2,safety=0.0", "form=modpo,orientation=low", "order=safe,pairs=64"]
    return tuple(found)


ARMS = _arms()


def set_organism(config: Any, seeds: int) -> None:
    """Sets the study on the organism: 128 pairs a stage, of answers to wrapped attacks."""
    method = config.method
    method.update(seeds=seeds, prompts=192, samples=8, tokens=40, probe=64)
    method.stage.update(pairs=128, epochs=1, rows=8, val=0.0)
    config.data.update(prompts=192 * seeds, wrapped=1.0, val=64)
    config.optim.update(lr=6e-4, schedule="constant", warmup=0.0)
    config.train.checkpoint_every = 1000  # a stage takes seconds; its end is always saved
    config.eval.update(safety=8, over_refusal=8, capability=8, samples=0)


def smoke(config: Any) -> None:
    """Makes the study a smoke test: four prompts, two updates, three arms."""
    method = config.method
    method.update(seeds=1, prompts=4, samples=4, tokens=12, probe=2, answers=1)
    method.arms = ("", "order=safe,accuracy=0.7,label=soft", "order=safe,sources=3,accuracy=0.8")
    method.stage.update(pairs=4, rows=2)
    config.data.update(prompts=4, val=4)
    config.eval.update(safety=4, over_refusal=4, capability=4, samples=0, batch_size=16)
