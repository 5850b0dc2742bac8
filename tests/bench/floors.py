"""What a machine could do: the rates of each library's products and memory, and a job's least time.

    floor = FLOPs / (fastest product seen) + bytes / (fastest reading seen)

of what a job must multiply and what it must read once a step because no cache holds it. Rates are
measured in the same run as the pair beside which they stand, by both libraries: `python
tests/bench/ours.py floor DIR`, `peers.py floor DIR`. Attention counts whole squares, as both sides
compute them; what the optimizer, norms and softmax take is left out, so a floor is a floor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.bench import jobs

# Operands of the product [N,D] x [D,V], and of one row times a matrix that no cache holds.
PRODUCT, READ = (1024, 1024, 4096), (1024, 65_536)
TRIES = 12


def told(product: Callable[[], Any], read: Callable[[], Any]) -> dict[str, float]:
    """Rates of one library: FLOP/s of a float32 product, bytes/s of a matrix times a row."""
    rows, width, out = PRODUCT
    return {
        "flops": 2.0 * rows * width * out / _least(product),
        "bytes": 4.0 * READ[0] * READ[1] / _least(read),
    }


def _least(run: Callable[[], Any]) -> float:
    run()
    seconds = []
    for _ in range(TRIES):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def floor(name: str, rates: list[dict[str, float]]) -> float | None:
    """Seconds of a pair's job at the fastest rates of either library; None: nobody counted it."""
    if name not in COSTS:
        return None
    flops, read = COSTS[name]()
    best = {kind: max(rate[kind] for rate in rates) for kind in ("flops", "bytes")}
    return flops / best["flops"] + read / best["bytes"]


def _blocks() -> int:
    """Parameters of the blocks' products."""
    m = jobs.MODEL
    heads = m["head_dim"] * (2 * m["num_heads"] + 2 * m["num_kv_heads"])
    return m["num_layers"] * m["embed_dim"] * (heads + 3 * m["mlp_dim"])


def _head() -> int:
    return jobs.MODEL["embed_dim"] * jobs.MODEL["vocab_size"]


def _attention(rows: int, queries: int, keys: int) -> float:
    """FLOPs of scores and sums, forward."""
    m = jobs.MODEL
    return 4.0 * rows * queries * keys * m["num_heads"] * m["head_dim"] * m["num_layers"]


def _forward(rows: int, length: int) -> tuple[float, float]:
    return 2.0 * rows * length * _blocks() + _attention(rows, length, length), 0.0


def _training(rows: int, length: int, said: int) -> tuple[float, float]:
    """Forward and the gradient of what is between, frozen weights have none; `said` has logits."""
    blocks, attention = 4.0 * rows * length * _blocks(), 3 * _attention(rows, length, length)
    return blocks + attention + 4.0 * rows * said * _head(), 0.0


def _decoding(rows: int, prompt: int, new: int) -> tuple[float, float]:
    """A prompt is read once; every token reads the weights, and its products are multiplied."""
    flops, _ = _forward(rows, prompt)
    flops += 2.0 * rows * new * (_blocks() + _head())
    flops += _attention(rows, 1, prompt + new // 2) * new
    return flops, 4.0 * new * (_blocks() + _head())


def _divergence(share: float) -> tuple[float, float]:
    """Logits of student and teacher, and the gradient of the student's hidden states."""
    h = jobs.HEAD
    return 6.0 * h["rows"] * share * h["width"] * h["vocab"], 4.0 * h["width"] * h["vocab"]


def _pairs() -> tuple[float, float]:
    pairs, length, prompt = (int(jobs.DPO[k]) for k in ("pairs", "length", "prompt"))
    return _training(2 * pairs, length, length - prompt)


COSTS: dict[str, Callable[[], tuple[float, float]]] = {
    **dict.fromkeys(
        ("lora", "lora_dots"),
        lambda: _training(
            int(jobs.LORA["batch"]), int(jobs.LORA["length"]), int(jobs.LORA["length"])
        ),
    ),
    "dpo": _pairs,
    "head_selected": lambda: _divergence(jobs.HEAD["share"]),
    "head_all": lambda: _divergence(1.0),
    "head_chunked": lambda: _divergence(1.0),
    "sample_1": lambda: _decoding(1, jobs.DECODE["prompt"], jobs.DECODE["new"]),
    "sample_8": lambda: _decoding(8, jobs.DECODE["prompt"], jobs.DECODE["new"]),
    "experts": lambda: _forward(int(jobs.LORA["batch"]), int(jobs.LORA["length"])),
    **dict.fromkeys(
        ("gated", "gated_x-lora"),
        lambda: _decoding(
            int(jobs.EXPERTS["rows"]), int(jobs.EXPERTS["prompt"]), int(jobs.EXPERTS["new"])
        ),
    ),
}
