"""Speed of decoding against the length of the cache: `python tests/bench/cache.py`.

jaxlib 0.11.1 wrote a whole buffer anew on CPUs where a loop updated a few hundred bytes of it (jax
issue 40101), and a KV cache is such a buffer. Run it under two versions on one quiet machine;
figures are in docs/compatibility.md.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp

from jaxsafety.data.schema import PromptBatch
from jaxsafety.models.api import ModelConfig, build
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import decode
from jaxsafety.sampling.prompts import row_keys

PROMPT = 16
# Name: width, kv heads, head width. Bytes of one layer's new keys, of a row, in float32: 256 (the
# organism's shape), 512 (Qwen2.5-0.5B's heads), 128.
SHAPES = {"organism": (128, 2, 32), "wider": (256, 2, 64), "one head": (128, 1, 32)}


def config(name: str, slots: int) -> ModelConfig:
    """A model of the organism's depth and vocabulary."""
    width, kv_heads, head = SHAPES[name]
    return ModelConfig("llama", 1077, width, 6, 4, kv_heads, head, 3 * width, max_length=slots)


def rate(name: str, rows: int, slots: int, times: int) -> float:
    """Tokens per second, all rows together, of answers that fill `slots`: the best of `times`."""
    model = build(config(name, slots))
    params = jax.jit(model.init)(jax.random.key(0))
    mask = jnp.ones((rows, PROMPT), bool)
    prompts = PromptBatch(tokens=jnp.ones((rows, PROMPT), jnp.int32), mask=mask)
    keys = row_keys(0, 0, range(rows), [0] * rows)
    cfg = SampleConfig(max_tokens=slots - PROMPT, temperature=0.0, stop=())

    def run() -> float:
        start = time.perf_counter()
        jax.block_until_ready(decode.sample(model, params, prompts, keys, cfg).tokens)
        return time.perf_counter() - start

    run()  # compiles
    return rows * cfg.max_tokens / min(run() for _ in range(times))


def main() -> None:
    """Prints one line per shape and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, nargs="+", default=[128, 512, 2048])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--times", type=int, default=3)
    args = parser.parse_args()
    print(f"jax {jax.__version__}, {platform.machine()}; tokens/s at cache lengths {args.slots}")
    for name in args.shapes:
        for rows in args.rows:
            rates = (rate(name, rows, slots, args.times) for slots in args.slots)
            print(f"{name}, {rows} rows:", *(f"{value:.0f}" for value in rates), flush=True)


if __name__ == "__main__":
    main()
