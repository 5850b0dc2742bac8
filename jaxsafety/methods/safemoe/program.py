"""SafeMoE: LoRA experts that learnt unsafe answers, and a router that learns to use them safely.

Paper: arXiv 2606.00686 ("Dialectics of Alignment"; arXiv 2509.22745 is another method of that name,
which defends native mixtures of experts against fine-tuning). Stage 1 trains one LoRA expert per
domain on unsafe answers (`experts.py`); stage 2 freezes base and experts and trains only
the per-layer, per-token top-k router (`adapters/routing.py`), by cross-entropy on a few answers
that are safe and informative. There is no refusal data, no balance loss and no classifier.

What is our choice, where the paper says nothing: one router per block on the mlp's normed input
(`places="linears"`: one per linear), V ~ N(0, 0.02^2), response tokens only, alpha / rank kept.
Alternatives behind the same interface: X-LoRA's gate, Arrow's prototypes, fixed mixtures, a router
that stays while the experts learn the safe answers, and plain LoRA on the same answers.
Pinned by tests/methods/test_safemoe.py (only the router moves, experts together equal one by one,
prompt and padding bring no loss) and tests/adapters/test_routing.py.
Letters: B rows, T positions, L layers, D width, E experts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxsafety.adapters import lora, routing
from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.methods.safemoe import everyday, experts
from jaxsafety.methods.safemoe.config import STAGED, SafeMoEConfig, check, experts_of
from jaxsafety.methods.safemoe.data import beside, brings, safe_batches, short, suits
from jaxsafety.methods.safemoe.measure import can_measure, make_measure, poll, routes
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.models.formats import library, peft
from jaxsafety.protocols import (
    Context,
    OptimConfig,
    Program,
    Served,
    Setting,
    Stage,
    Variables,
)
from jaxsafety.train.likelihood import answer_loss

PyTree = Any
ALWAYS, EXPERTS = "adapters/always/.*", "adapters/experts/.*"


def fits(
    cfg: SafeMoEConfig, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """Rejects what this model cannot do, before anything is measured."""
    for name, rows in (("rows", cfg.rows), ("experts.rows", cfg.experts.rows)):
        if rows % optim.accum and not (name == "experts.rows" and cfg.experts.paths):
            raise bad("optim.accum", optim.accum, f"a divisor of method.{name}={rows}")
    most = max(model.config.embed_dim, model.config.mlp_dim)
    ranks = {"lora_rank": cfg.lora_rank, "experts.rank": cfg.experts.rank, "always": cfg.always}
    for name, rank in ranks.items():
        if rank > most:
            raise bad(f"method.{name}", rank, f"at most {most}, the model's width")
    known = sorted(model.projections)
    if not cfg.lora_targets or not set(cfg.lora_targets) <= set(known):
        raise bad("method.lora_targets", cfg.lora_targets, f"some of {', '.join(known)}")
    for name, length in (("length", cfg.length), ("experts.length", cfg.experts.length)):
        if length > model.config.max_length:
            allowed = f"at most the context of {model.config.max_length}"
            raise bad(f"method.{name}", length, allowed)
    if cfg.experts.paths:
        experts.load_experts(cfg.experts, model, setting.base)  # raises on what does not fit
    suits(cfg, setting)
    if setting.domains is None or not brings(setting):
        return  # `encode` read the dialogues
    if setting.given:
        raise bad("data.chats", "dialogues", "none, as data.mix: the organism brings its own")
    if not cfg.experts.paths:
        found = experts.dialogues(cfg.experts, setting.domains, setting.seed, cfg.samples)
        found.append(everyday.answers(setting, cfg.experts.everyday))
        short(tokenizer, [d for part in found for d in part], cfg.experts.length, "experts.length")
    said = setting.domains.safe(cfg.samples, setting.seed)
    other = beside(cfg, setting, setting.domains)
    short(tokenizer, [*said, *other], cfg.length, "length")
    experts.choose(cfg.experts, setting.domains)
    for name, kinds in (
        ("safety", "safety"),
        ("harmless", "over_refusal"),
        ("tasks", "capability"),
    ):
        least = min(len(b.items) for b in setting.own if b.kind == kinds)
        if getattr(cfg.measure, name) > least:
            given = getattr(cfg.measure, name)
            raise bad(f"method.measure.{name}", given, f"at most eval.{kinds}={least}")


def program(cfg: SafeMoEConfig, optim: OptimConfig, ctx: Context) -> Program:
    """Stage "experts" (or one per expert), then stage "router"; keeps both in `library/`."""
    check(cfg)
    if cfg.gate == "lora":
        trained = yield lora_stage(cfg, optim, ctx, "lora")
        tree = trained["adapters"]
        peft.save_adapter(
            ctx.workdir / "adapter",
            ctx.model,
            tree,
            base=ctx.base_path,
            fingerprint=ctx.setting.base,
        )
        return {"base": lora.merge(trained["base"], tree, ctx.model.projections)}
    adapters = yield from experts.train(cfg.experts, optim, ctx, cfg.samples)
    variables = {**ctx.variables, "adapters": add_router(cfg, ctx.model, adapters, ctx.seed)}
    if cfg.gate in STAGED:
        variables = yield router_stage(cfg, optim, ctx, variables["adapters"], "router")
    unsafe = cfg.experts.kind in experts.UNSAFE or bool(cfg.experts.paths)
    keep(cfg, ctx, variables, unsafe)
    compare(cfg, ctx, variables)
    return variables


def keep(cfg: SafeMoEConfig, ctx: Context, variables: Variables, unsafe: bool) -> None:
    """Writes experts and router to `library/` of the workdir."""
    library.save(
        ctx.workdir / "library",
        ctx.model,
        variables["adapters"],
        cfg.routing,
        unsafe=unsafe,
        base=ctx.base_path,
        fingerprint=ctx.setting.base,
    )


def compare(cfg: SafeMoEConfig, ctx: Context, variables: Variables) -> None:
    """Artifacts `compared` (the base, the mixture, equal shares, each expert alone) and `routes`.

    And `prompts.<arm>`, what stands behind each rate.

    One expert alone is what anyone can run who holds the files: a property of the method.
    """
    if not can_measure(ctx):  # on files: where their prompts go
        served = serve(cfg, variables)
        ctx.artifact("routes", lambda: routes(cfg.measure, ctx, served.params, served.layers) or {})
        return
    measure = make_measure(cfg.measure, ctx)
    layers, count, served = ctx.model.config.num_layers, experts_of(cfg), serve(cfg, variables)
    shares = {"uniform": np.full(count, 1 / count)}
    shares |= {f"single{e}": np.eye(count)[e] for e in range(count - cfg.null)}
    base = served.params
    adapters = {k: v for k, v in variables["adapters"].items() if k != "always"}
    arms = {"base": LayerInputs(), "safemoe": served.layers}
    for name, mix in shares.items():
        arms[name] = LayerInputs(adapters={**adapters, "router": routing.fixed(mix, layers)})
    points = {}
    for name, inputs in arms.items():  # one artifact each: a kill loses one
        points[name] = ctx.artifact(
            f"compared.{name}", lambda x=inputs, n=name: measure(base, x, n)
        )
        ctx.log(f"measured {name}")
        poll(ctx)
    ctx.artifact("compared", lambda: points)
    ctx.artifact("routes", lambda: routes(cfg.measure, ctx, base, served.layers) or {})


def add_router(cfg: SafeMoEConfig, model: Model, adapters: PyTree, seed: int) -> PyTree:
    """The experts with the router that stage 2 starts from, or that stays."""
    if cfg.null:
        adapters = experts.with_null(adapters)
    layers, count = model.config.num_layers, experts_of(cfg)
    targets = cfg.experts.targets
    places = routing.places_of(targets) if cfg.places == "block" else targets
    key = jax.random.fold_in(jax.random.key(seed), 1)
    if cfg.gate in ("router", "untrained", "frozen"):
        router = routing.init_router(
            key, model.projections, layers=layers, experts=count, places=places, std=cfg.std
        )
    elif cfg.gate == "x-lora":
        router = routing.init_gate(key, layers=layers, width=model.config.embed_dim, experts=count)
    elif cfg.gate == "arrow":
        router = routing.arrow(adapters, places)
    else:
        chosen = np.arange(count) == cfg.single
        mix = chosen if cfg.gate == "single" else np.full(count, 1 / count)
        router = routing.fixed(mix, layers)
    if not cfg.always:
        return {**adapters, "router": router}
    table = always_on(cfg, model, jax.random.fold_in(key, 1))
    return {**adapters, "router": router, "always": table}


def always_on(cfg: SafeMoEConfig, model: Model, key: jax.Array) -> PyTree:
    """The adapter of step 0, an update of zero, on the projections that have experts."""
    like = replace(cfg.experts, rank=cfg.always, alpha=0.0)  # `scale` is the experts'
    return experts.fresh(like, model, key, 1)["experts"]


def router_stage(
    cfg: SafeMoEConfig, optim: OptimConfig, ctx: Context, adapters: PyTree, name: str
) -> Stage:
    """Stage 2: cross-entropy of safe answers, through frozen experts, by the router alone.

    And by what is always on, which learns at `always_lr`. With gate=frozen it is the experts that
    learn, at their own rate, and the router that stays: what a block does with an input's route,
    though a block's input moves with the experts below it. An expert that does nothing stays so,
    as both its factors are zero.
    """
    own = {ALWAYS: cfg.always_lr, EXPERTS: cfg.experts.lr}
    return Stage(
        name,
        answer_loss(ctx.model, sharding.rows(ctx.mesh), routing=cfg.routing),
        learnt(cfg),
        safe_batches(cfg, ctx),
        cfg.steps,
        optim,
        start={**ctx.variables, "adapters": adapters},
        axes={"adapters": axes_of(cfg, ctx.model, adapters)},
        rates=tuple((name, own[name] / optim.lr) for name in learnt(cfg) if name in own)
        if optim.lr
        else (),
    )


def learnt(cfg: SafeMoEConfig) -> tuple[str, ...]:
    """Which variables stage 2 trains."""
    first = EXPERTS if cfg.gate == "frozen" else "adapters/router/.*"
    return (first, *([ALWAYS] if cfg.always else []))


def axes_of(cfg: SafeMoEConfig, model: Model, adapters: PyTree) -> PyTree:
    """Logical axes of experts, router and what is always on."""
    axes = {
        **experts.adapter_axes(cfg.experts, model),
        "router": routing.router_axes(adapters["router"]),
    }
    if cfg.always:
        axes["always"] = lora.adapter_axes(model.projections, cfg.experts.targets)["experts"]
    return axes


def lora_stage(
    cfg: SafeMoEConfig, optim: OptimConfig, ctx: Context, name: str, base: PyTree = None
) -> Stage:
    """The control: a LoRA of `lora_rank` (alpha is twice that) trained on the same safe answers.

    `base`: what it is trained on, if not the base itself.
    """
    adapters = lora.init_experts(
        jax.random.key(ctx.seed),
        ctx.model.projections,
        layers=ctx.model.config.num_layers,
        rank=cfg.lora_rank,
        scale=2.0,
        names=cfg.lora_targets,
    )
    axes = lora.adapter_axes(ctx.model.projections, cfg.lora_targets)
    optim = replace(optim, lr=cfg.lora_lr)
    start = {**ctx.variables, "adapters": adapters}
    return Stage(
        name,
        answer_loss(ctx.model, sharding.rows(ctx.mesh), routing=cfg.routing),
        (EXPERTS,),
        safe_batches(cfg, ctx),
        cfg.steps,
        optim,
        start=start if base is None else {**start, "base": base},
        axes={"adapters": axes},
    )


def serve(cfg: SafeMoEConfig, variables: Variables) -> Served:
    """The untouched base with experts and router; a merged LoRA is parameters alone."""
    layers = LayerInputs(adapters=variables.get("adapters"), routing=cfg.routing)
    return Served(variables["base"], layers)


READS = ("chats", "mix", "limit", "domains")
