"""Tokens per second, utilisation and memory in bfloat16 on one accelerator.

  python tests/bench/gpu.py [--models=llama3.2-1b,llama3-8b] [--jobs=lora] [--peak=788]

Random weights of published shapes, nothing is downloaded. Jobs: a LoRA step (rank 16 on all
linears, 8 x 1024 packed tokens, full remat; utilisation by 4N, the work that is needed), the
reverse KL head (8,192 rows, three matmuls of 2 N D V), greedy decoding (64 rows, 1,024 + 512
tokens; utilisation of the bandwidth: weights and cache read once per token). Utilisation is of the
data sheet's rates (`planning/gpu.py`), or of `--peak` TFLOP/s and `--bandwidth` TB/s; of a device
that neither tells there is none. A line each is added to docs/performance_gpu.jsonl, with the date;
earlier ones stay. The page that speed.py makes is written again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from jaxsafety import registry  # noqa: E402
from jaxsafety.core import trees  # noqa: E402
from jaxsafety.data.schema import PromptBatch, TokenBatch  # noqa: E402
from jaxsafety.losses.divergence import divergence  # noqa: E402
from jaxsafety.methods.sft import program as sft  # noqa: E402
from jaxsafety.models.api import build  # noqa: E402
from jaxsafety.planning import gpu as cards  # noqa: E402
from jaxsafety.protocols import OptimConfig, SampleConfig  # noqa: E402
from jaxsafety.sampling import decode  # noqa: E402
from jaxsafety.sampling.prompts import row_keys  # noqa: E402
from jaxsafety.train import state as states  # noqa: E402
from jaxsafety.train.likelihood import answer_loss  # noqa: E402
from jaxsafety.train.optim import make_optimizer  # noqa: E402
from jaxsafety.train.step import make_train_step  # noqa: E402
from tests.bench import speed  # noqa: E402

OUT = ROOT / "docs" / "performance_gpu.jsonl"


def preset(name: str, **changes: Any) -> Any:
    """The model of a published size."""
    known = {}
    for kind in registry.MODELS:
        known.update(registry.resolve(registry.MODELS, kind).presets)
    return build(replace(known[name], dtype="bfloat16", **changes))


def seconds(run: Callable[[int], Any], times: int = 8) -> float:
    """Median of some runs, each with another seed, after one that compiles."""
    jax.block_until_ready(run(0))
    found = []
    for i in range(1, times + 1):
        start = time.perf_counter()
        jax.block_until_ready(run(i))
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def random_params(model: Any) -> Any:
    """Random weights in bfloat16, made on the device."""
    cast = lambda x: x.astype(jnp.bfloat16)  # noqa: E731
    return jax.jit(lambda k: jax.tree.map(cast, model.init(k)))(jax.random.key(0))


def lora(name: str, rows: int = 8, length: int = 1024) -> dict[str, Any]:
    """A step of LoRA fine-tuning."""
    model = preset(name, remat="full")
    cfg = sft.SftConfig(rank=16, alpha=32.0)
    tx = make_optimizer(OptimConfig(lr=1e-4, warmup=0.0, schedule="constant"), 10**6)
    variables = {"base": random_params(model), "adapters": sft.fresh(cfg, model, jax.random.key(1))}
    trained, frozen = trees.partition(variables, ("adapters/experts/.*",))
    step = jax.jit(make_train_step(answer_loss(model, train_head=False), tx), donate_argnums=0)
    held = {"state": states.create(jax.tree.map(jnp.copy, trained), tx, jax.random.key(0))}
    positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (rows, length))
    ones = jnp.ones((rows, length), jnp.int32)
    weight = jnp.full((rows, length), 1.0 / (rows * length))

    def run(seed: int) -> Any:
        tokens = jax.random.randint(jax.random.key(seed), ones.shape, 0, model.config.vocab_size)
        batch = TokenBatch(tokens, positions, ones, weight)
        held["state"], metrics = step(held["state"], frozen, batch)
        return metrics

    took = seconds(run)
    table = 0 if model.config.tie_embeddings else model.config.vocab_size * model.config.embed_dim
    parameters = trees.count(variables["base"]) - table  # looking a token up multiplies nothing
    flops = 4 * parameters * rows * length
    return dict(job="LoRA step", tokens=rows * length, seconds=took, flops=flops, rule="4N")


def head(name: str, rows: int = 8192) -> dict[str, Any]:
    """The reverse KL over a frozen head, value and gradient by the hidden states."""
    c = preset(name).config
    table = jax.random.normal(jax.random.key(0), (c.embed_dim, c.vocab_size), jnp.bfloat16) * 0.05
    weight = jnp.full((rows,), 1.0 / rows)

    @jax.jit
    def step(student: jax.Array, teacher: jax.Array) -> Any:
        def loss(hidden: jax.Array) -> jax.Array:
            kind = dict(variant="full", train_head=False)
            return divergence(hidden, teacher, table, None, weight, **kind)[0]

        return jax.value_and_grad(loss)(student)

    def run(seed: int) -> Any:
        both = jax.random.normal(jax.random.key(seed), (2, rows, c.embed_dim), jnp.bfloat16)
        return step(both[0], both[1])

    flops = 3 * 2 * rows * c.embed_dim * c.vocab_size
    return dict(job="reverse KL head", tokens=rows, seconds=seconds(run), flops=flops, rule="3NDV")


def sample(name: str, rows: int = 64, prompt: int = 1024, new: int = 512) -> dict[str, Any]:
    """Greedy decoding."""
    model = preset(name)
    params, c = random_params(model), model.config
    keys = row_keys(0, 0, range(rows), [0] * rows)
    cfg, mask = SampleConfig(new, 0.0, stop=()), jnp.ones((rows, prompt), bool)

    def run(seed: int) -> Any:
        tokens = jax.random.randint(jax.random.key(seed), mask.shape, 0, c.vocab_size)
        return decode.sample(model, params, PromptBatch(tokens, mask), keys, cfg).tokens

    slots = rows * (prompt + new)
    cache = 2 * 2 * c.num_layers * c.num_kv_heads * c.head_dim * slots
    reads = new * (2 * trees.count(params) + cache)
    return dict(job="decode", tokens=rows * new, seconds=seconds(run, 3), reads=reads, rule="bytes")


JOBS = {"lora": lora, "head": head, "sample": sample}


def rates(kind: str) -> tuple[float | None, float | None]:
    """(FLOP/s, bytes/s) of the data sheet of a device, None where there is none."""
    name = next((name for name in cards.CARDS if name in kind.lower()), None)
    return (cards.FLOPS[name], float(cards.CARDS[name].bandwidth)) if name else (None, None)


def utilisation(row: dict[str, Any], flops: float | None, read: float | None) -> float | None:
    """Share of a rate that a row's work reaches; None where the rate is unknown."""
    work, rate = (row["flops"], flops) if "flops" in row else (row["reads"], read)
    return work / rate / row["seconds"] if rate else None


def main() -> int:
    """Runs every job on every model; a line each, kept as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="qwen2.5-0.5b,llama3.2-1b,llama3.2-3b,llama3-8b")
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--sizes", default="{}", help="JSON: arguments of each job, for a trial")
    parser.add_argument("--peak", type=float, help="TFLOP/s of a bf16 matmul")
    parser.add_argument("--bandwidth", type=float, help="TB/s")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    sizes, device = json.loads(args.sizes), jax.devices()[0]
    flops, read = rates(device.device_kind)
    flops = args.peak * 1e12 if args.peak else flops
    read = args.bandwidth * 1e12 if args.bandwidth else read
    for name in args.models.split(","):
        for job in args.jobs.split(","):
            row = JOBS[job](name, **sizes.get(job, {}))
            row |= dict(
                model=name,
                device=device.device_kind,
                jax=jax.__version__,
                date=datetime.date.today().isoformat(),
                tokens_per_second=row["tokens"] / row["seconds"],
                utilisation=utilisation(row, flops, read),
                rates=[flops, read],
                peak_bytes=(device.memory_stats() or {}).get("peak_bytes_in_use"),
            )
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{name} {job}: {row['tokens_per_second']:.0f} tokens/s", flush=True)
    if args.out == OUT:
        speed.write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
