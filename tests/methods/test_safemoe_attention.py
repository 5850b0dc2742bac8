"""All-linear LoRA directories, as PEFT's users have them, as SafeMoE's experts."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.adapters import lora
from jaxsafety.adapters.routing import ATTENDED, ATTENTION, BLOCK, ROUTED, Routing
from jaxsafety.core.errors import UsageError
from jaxsafety.methods.safemoe import experts
from jaxsafety.methods.safemoe import program as safemoe
from jaxsafety.methods.safemoe.config import SafeMoEConfig, check
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.models.api import LayerInputs
from jaxsafety.models.formats import library, peft
from jaxsafety.protocols import OptimConfig, TrainConfig
from jaxsafety.train.loop import run_program
from tests.methods.safemoe_fixtures import ctx as ctx
from tests.methods.safemoe_fixtures import directory as directory

ALL = (*ATTENDED, *ROUTED)
OPTIM = OptimConfig(lr=3e-2, warmup=0.0, schedule="constant")


@pytest.fixture
def cfg(ctx, tmp_path):
    """Two adapters on every linear, on disk."""
    paths = []
    for e in range(2):
        key = jax.random.key(e)
        tree = lora.init_experts(
            key, ctx.model.projections, layers=ctx.model.config.num_layers, rank=2, scale=2.0
        )
        assert set(tree["experts"]) == set(ALL)
        for i, pair in enumerate(tree["experts"].values()):
            pair["b"] = 0.1 * jax.random.normal(jax.random.fold_in(key, i), pair["b"].shape)
        peft.save_adapter(tmp_path / f"lora{e}", ctx.model, tree)
        paths.append(str(tmp_path / f"lora{e}"))
    found = ExpertConfig(rank=2, alpha=4.0, targets=ALL, paths=tuple(paths))
    return SafeMoEConfig(experts=found, samples=4, steps=2, rows=4, routing=Routing(top=0))


@pytest.mark.parametrize("change", [{}, {"places": "linears"}, {"always": 2}])
def test_they_are_routed_trained_kept_and_read_again(ctx, cfg, change):
    cfg = dataclasses.replace(cfg, **change)
    check(cfg)
    final = run_program(safemoe.program(cfg, OPTIM, ctx), ctx, TrainConfig(progress=False))
    router = final["adapters"]["router"]
    assert set(router) == (set(ALL) if cfg.places == "linears" else {BLOCK, ATTENTION})
    begun = safemoe.add_router(
        cfg, ctx.model, experts.load_experts(cfg.experts, ctx.model), ctx.seed
    )
    for name, scorer in router.items():  # each learns
        assert np.abs(scorer["weight"] - begun["router"][name]["weight"]).max() > 1e-3, name
    for a, b in zip(
        jax.tree.leaves(begun["experts"]),
        jax.tree.leaves(final["adapters"]["experts"]),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    ids = jnp.arange(5, 13)[None]
    read, options = library.load(ctx.workdir / "library", ctx.model)
    served = safemoe.serve(cfg, final)
    both = [
        ctx.model.apply(served.params, ids, jnp.arange(8)[None], layers=layers).hidden
        for layers in (served.layers, LayerInputs(adapters=read, routing=options))
    ]
    np.testing.assert_allclose(*both, atol=2e-5)


def test_one_choice_per_sequence_is_refused_for_the_attention(cfg):
    for level in ("first", "last", "sequence"):
        bad = dataclasses.replace(cfg, routing=Routing(top=0, level=level))
        with pytest.raises(UsageError, match="method.routing.level.*token, with experts on k, o"):
            check(bad)
    with pytest.raises(UsageError, match="method.experts.targets: got 'head'"):
        check(dataclasses.replace(cfg, experts=dataclasses.replace(cfg.experts, targets=("head",))))
