"""What the benchmarks run: sizes that both sides share, and the loop of a benchmarked process.

A process prepares its job, prints what it computed (for the comparison) and then, for every line
"go", runs it once and prints the seconds. The other side waits meanwhile, so they take turns.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# A Llama of 40.0 M parameters.
MODEL: dict[str, Any] = dict(
    vocab_size=32_000,
    embed_dim=512,
    num_layers=8,
    num_heads=8,
    num_kv_heads=4,
    head_dim=64,
    mlp_dim=1408,
    max_length=512,
    tie_embeddings=True,
)
LORA = dict(rank=16, alpha=32.0, batch=4, length=256, lr=1e-4)
# Pairs of LoRA's rows: of each side the first quarter is the prompt, which both share.
DPO = dict(pairs=4, length=256, prompt=64, beta=0.1)
HEAD = dict(rows=1024, width=512, vocab=65_536, share=0.25)
DECODE = dict(prompt=64, new=64)
# Four experts on the mlp's linears; forwards of LoRA's rows, decoding of B 8.
EXPERTS = dict(count=4, rank=16, alpha=32.0, rows=8, prompt=64, new=32)


def answers(vocab: int) -> np.ndarray:
    """Token ids [B,2,T] of `DPO`'s pairs, (preferred, other)."""
    rows, length = int(DPO["pairs"]), int(DPO["length"])
    tokens = np.random.default_rng(0).integers(0, vocab, (rows, 2, length))
    tokens[..., -1] = 1  # where a peer writes its end
    tokens[:, 1, : int(DPO["prompt"])] = tokens[:, 0, : int(DPO["prompt"])]
    return tokens


def peak() -> int:
    """Highest resident set since `forget_peak`, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def forget_peak() -> int:
    """Lets the peak start anew; returns the resident set now, bytes.

    What was freed goes back to the system first, or an earlier run's buffers would be in it.
    """
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def serve(run: Callable[[], Any], result: Any) -> None:
    """Answers "go" with a timed run until the input ends; the first line told is `result`."""
    before = forget_peak()
    run()
    print(json.dumps({"result": result, "extra_bytes": peak() - before}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)
