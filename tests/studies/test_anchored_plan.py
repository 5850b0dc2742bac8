"""How many trainings a sweep has, by its plan."""

from __future__ import annotations

from dataclasses import replace

from jaxsafety.core.config import load_config
from jaxsafety.experiment import record
from jaxsafety.models.api import build
from jaxsafety.planning.plan import model_config
from jaxsafety.studies.anchored import plan


def test_a_sweep_trains_once_for_all_that_train_alike():
    exp = record.typed(load_config("configs/anchored/qwen3_8b.py"))
    cfg = replace(exp.method, goals=("letter:target=0.8", "claim:target=0.8"), seeds=3)
    # `ptst` and `interpolation` are made of the training of `plain`; `safesteer` repairs it.
    arms = ("plain", "ptst", "interpolation:s=0.5|0.8", "safesteer", "anchor:strength=0.01|0.1")
    assert plan.trainings(replace(cfg, arms=arms)) == 2 * 3 * (1 + 2)
    assert plan.trainings(replace(cfg, arms=arms[:4])) == 2 * 3
    assert plan.trainings(replace(cfg, arms=arms[:1], rates=(0.5, 1.0))) == 2 * 3 * 2
    stage = plan.planned(replace(cfg, arms=arms), build(model_config(exp.model)), None, 0)
    assert (stage.trainings, stage.steps) == (18, cfg.sft.steps)
