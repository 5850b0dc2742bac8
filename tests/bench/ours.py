"""Our side of a benchmark: `ours.py JOB MODEL_DIR [float32|bfloat16|int8]`; see `jobs.py`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jaxsafety.adapters import lora as lora_experts
from jaxsafety.adapters import routing
from jaxsafety.core import trees
from jaxsafety.data.schema import Encoded, PromptBatch, TokenBatch
from jaxsafety.losses.divergence import divergence
from jaxsafety.losses.preference import Preference
from jaxsafety.methods.dpo import pairs
from jaxsafety.methods.sft import program as sft
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.models.formats import hf
from jaxsafety.protocols import OptimConfig, SampleConfig
from jaxsafety.sampling import decode
from jaxsafety.sampling.prompts import row_keys
from jaxsafety.train import state as states
from jaxsafety.train.likelihood import answer_loss
from jaxsafety.train.optim import make_optimizer
from jaxsafety.train.step import make_train_step
from tests.bench import floors, jobs

STORED = (*sys.argv[3:], "float32")[0]  # what parameters are loaded as
DTYPE = "bfloat16" if STORED == "bfloat16" else "float32"  # what is computed in


def lora(folder: Path, remat: str = "none") -> None:
    """A step of LoRA fine-tuning on every linear, AdamW."""
    model, params = hf.load(folder, dtype=DTYPE, param_dtype=STORED, remat=remat)
    size = (jobs.LORA["batch"], jobs.LORA["length"])
    cfg = sft.SftConfig(rank=int(jobs.LORA["rank"]), alpha=jobs.LORA["alpha"])
    optim = OptimConfig(lr=jobs.LORA["lr"], clip=0.0, warmup=0.0, schedule="constant")
    tx = make_optimizer(optim, 10**6)
    variables = {"base": params, "adapters": sft.fresh(cfg, model, jax.random.key(0))}
    trained, frozen = trees.partition(variables, ("adapters/experts/.*",))
    step = jax.jit(make_train_step(answer_loss(model, train_head=False), tx), donate_argnums=0)
    state = states.create(jax.tree.map(jnp.copy, trained), tx, jax.random.key(0))
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, size).astype(np.int32)
    positions = np.broadcast_to(np.arange(size[1], dtype=np.int32), size)
    weight = np.full(size, 1.0 / (size[0] * (size[1] - 1)), np.float32)
    weight[:, 0] = 0.0
    batch = TokenBatch(*map(jnp.asarray, (tokens, positions, np.ones(size, np.int32), weight)))
    held = {"state": state}

    def run() -> float:
        held["state"], metrics = step(held["state"], frozen, batch)
        return float(metrics["loss"])

    jobs.serve(run, run())


def dpo(folder: Path) -> None:
    """A step of DPO through the same LoRA; the reference was computed before."""
    model, params = hf.load(folder, dtype=DTYPE, param_dtype=STORED)
    count, length = int(jobs.DPO["pairs"]), int(jobs.DPO["length"])
    cfg = sft.SftConfig(rank=int(jobs.LORA["rank"]), alpha=jobs.LORA["alpha"])
    optim = OptimConfig(lr=jobs.LORA["lr"], clip=0.0, warmup=0.0, schedule="constant")
    tx = make_optimizer(optim, 10**6)
    variables = {"base": params, "adapters": sft.fresh(cfg, model, jax.random.key(0))}
    trained, frozen = trees.partition(variables, ("adapters/experts/.*",))
    said = np.arange(length) >= jobs.DPO["prompt"]
    one, other = (
        [Encoded(row.tolist(), said.tolist()) for row in side]
        for side in jobs.answers(model.config.vocab_size).transpose(1, 0, 2)
    )
    made = pairs.assemble(one, other, 0)
    told = pairs.referred(model, {"base": params}, made, count)
    weight = np.full(count, 1 / count, np.float32)
    batch = jax.tree.map(jnp.asarray, replace(made, reference=told, weight=weight))
    loss = pairs.pair_loss(model, Preference(beta=jobs.DPO["beta"]))
    step = jax.jit(make_train_step(loss, tx), donate_argnums=0)
    held = {"state": states.create(jax.tree.map(jnp.copy, trained), tx, jax.random.key(0))}

    def run() -> float:
        held["state"], metrics = step(held["state"], frozen, batch)
        return float(metrics["loss"])

    # Log 2 on both sides, as adapters begin with nothing; after a step their random halves, which
    # differ, tell. That losses and gradients are equal is tests/parity/test_dpo_trl.py.
    jobs.serve(run, run())


def head(folder: Path, share: float) -> None:
    """Reverse KL of a frozen head, value and gradient of the student's hidden states."""
    del folder
    n, d, v = (int(jobs.HEAD[k]) for k in ("rows", "width", "vocab"))
    rng = np.random.default_rng(0)
    student, teacher, table = (
        jnp.asarray(rng.normal(size=s).astype(np.float32), DTYPE) for s in ((n, d), (n, d), (d, v))
    )
    table = table * jnp.asarray(0.05, DTYPE)
    chosen = (np.arange(n) < n * share).astype(np.float32)
    weight = jnp.asarray(chosen / chosen.sum())

    @jax.jit
    def step(student, teacher, table, weight):
        def loss(hidden):
            return divergence(
                hidden, teacher, table, None, weight, variant="full", train_head=False
            )[0]

        return jax.value_and_grad(loss)(student)

    def run() -> float:
        value, gradient = step(student, teacher, table, weight)
        jax.block_until_ready(gradient)
        return float(value)

    jobs.serve(run, run())


def sample(folder: Path, rows: int) -> None:
    """Greedy decoding with the cache."""
    model, params = hf.load(folder, dtype=DTYPE, param_dtype=STORED)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, model.config.vocab_size, (rows, jobs.DECODE["prompt"]))
    prompts = PromptBatch(jnp.asarray(tokens, jnp.int32), jnp.ones(tokens.shape, bool))
    keys = row_keys(0, 0, range(rows), [0] * rows)
    cfg = SampleConfig(jobs.DECODE["new"], 0.0, stop=())

    def run() -> list:
        said = decode.sample(model, params, prompts, keys, cfg)
        return np.asarray(said.tokens)[:, jobs.DECODE["prompt"] :].tolist()

    jobs.serve(run, run())


def mixture(model: Model, kind: str) -> LayerInputs:
    """Random experts of `jobs.EXPERTS` under a gate: none, "router" (top 2) or "x-lora"."""
    if kind == "base":
        return LayerInputs()
    count, layers = int(jobs.EXPERTS["count"]), model.config.num_layers
    tree = lora_experts.init_experts(
        jax.random.key(0),
        model.projections,
        layers=layers,
        experts=count,
        rank=int(jobs.EXPERTS["rank"]),
        scale=2.0,
        names=routing.ROUTED,
    )
    for pair in tree["experts"].values():
        pair["b"] = 0.02 * jax.random.normal(jax.random.key(1), pair["b"].shape)
    if kind == "router":
        gate = routing.init_router(
            jax.random.key(2), model.projections, layers=layers, experts=count
        )
        return LayerInputs(adapters={**tree, "router": gate}, routing=routing.Routing())
    width = model.config.embed_dim
    gate = routing.init_gate(jax.random.key(2), layers=layers, width=width, experts=count)
    return LayerInputs(adapters={**tree, "router": gate}, routing=routing.Routing(top=0))


def forward(folder: Path, kind: str) -> None:
    """A forward pass of LoRA's rows, without logits."""
    model, params = hf.load(folder, dtype=DTYPE, param_dtype=STORED)
    layers = mixture(model, kind)
    size = (jobs.LORA["batch"], jobs.LORA["length"])
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, model.config.vocab_size, size), jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(size[1]), size)
    step = jax.jit(lambda p, x: model.apply(p, tokens, positions, layers=x).hidden)

    def run() -> float:
        return float(step(params, layers)[0, 0, 0])

    jobs.serve(run, run())


def gated(folder: Path, kind: str) -> None:
    """Greedy decoding through a mixture of experts, with the cache."""
    model, params = hf.load(folder, dtype=DTYPE, param_dtype=STORED)
    layers, rows = mixture(model, kind), int(jobs.EXPERTS["rows"])
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, model.config.vocab_size, (rows, int(jobs.EXPERTS["prompt"])))
    prompts = PromptBatch(jnp.asarray(tokens, jnp.int32), jnp.ones(tokens.shape, bool))
    keys = row_keys(0, 0, range(rows), [0] * rows)
    cfg = SampleConfig(int(jobs.EXPERTS["new"]), 0.0, stop=())

    def run() -> float:
        said = decode.sample(model, params, prompts, keys, cfg, layers)
        return float(np.asarray(said.tokens).shape[1])

    jobs.serve(run, run())


def floor(folder: Path) -> None:
    """The rates of XLA on this machine."""
    del folder
    (rows, width, out), (deep, wide) = floors.PRODUCT, floors.READ
    x, w, big = jnp.ones((rows, width)), jnp.ones((width, out)), jnp.ones((deep, wide))
    row = jnp.ones((1, deep))
    product = jax.jit(jnp.matmul)
    rates = floors.told(
        lambda: product(x, w).block_until_ready(), lambda: product(row, big).block_until_ready()
    )
    jobs.serve(lambda: None, rates)


JOBS = {
    "floor": floor,
    "lora": lora,
    "lora_dots": lambda folder: lora(folder, "dots"),
    "dpo": dpo,
    "head_all": lambda folder: head(folder, 1.0),
    "head_selected": lambda folder: head(folder, jobs.HEAD["share"]),
    "sample_1": lambda folder: sample(folder, 1),
    "sample_8": lambda folder: sample(folder, 8),
    "forward_base": lambda folder: forward(folder, "base"),
    "forward_router": lambda folder: forward(folder, "router"),
    "gated_router": lambda folder: gated(folder, "router"),
    "gated_x-lora": lambda folder: gated(folder, "x-lora"),
}

if __name__ == "__main__":
    JOBS[sys.argv[1]](Path(sys.argv[2]))
