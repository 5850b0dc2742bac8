"""What models differ by from the one that they were trained on: KL of answers, and weights.

  python tools/compare_models.py --base=DIR --chats=FILE.jsonl DIR [DIR ...]

KL(base || model) per answer token of FILE's dialogues, in nats; its 95 % interval is Student's t
over the dialogues (null of a single one). With the base's own answers (tools/own_answers.py) it is
the drift on what the base would say. `weights` is the share of parameters that differ once both are
rounded to bfloat16, as they are published; `relative` is ||model - base|| / ||base||. A line of
JSON per model.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jaxsafety
from jaxsafety.benchmarks.verdict import t_interval
from jaxsafety.core.errors import UsageError, bad

ROWS = 8  # dialogues at once
WIDTH = 32  # rows are padded to a multiple of it


def main(argv: list[str] | None = None) -> int:
    """Prints a line per model; 2 and one line for bad input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--base", required=True)
    parser.add_argument("--chats", required=True)
    parser.add_argument("models", nargs="+")
    args = parser.parse_args(argv)
    try:
        base = jaxsafety.load(args.base)
        encoded = _answers(base[2], args.chats, base[0].config.max_length)
        before = _states(base, encoded)
        for path in args.models:
            other = jaxsafety.load(path)
            line = {"model": path} | compared(base, other, before, encoded)
            print(json.dumps(line), flush=True)
    except UsageError as error:
        print(f"compare_models: error: {error}", file=sys.stderr)
        return 2
    return 0


def _answers(tokenizer: Any, chats: str, most: int) -> list[tuple[list[int], list[bool]]]:
    """Ids and what was said, per dialogue of at most `most` tokens."""
    from jaxsafety.data.files.sources import read_chats

    found = []
    for messages in read_chats(chats, "--chats"):
        example = jaxsafety.encode_example(tokenizer, messages)
        if len(example.ids) > most:
            given = f"a dialogue of {len(example.ids)} tokens"
            raise bad("--chats", given, f"at most the context of {most}")
        found.append((list(example.ids), [bool(x) for x in example.mask]))
    return found


def _batches(
    encoded: Sequence[tuple[list[int], list[bool]]],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]]:
    """(tokens, real, learnt [B,T], which dialogues), rows of a length side by side."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i][0]))
    for start in range(0, len(order), ROWS):
        part = order[start : start + ROWS]
        longest = max(len(encoded[i][0]) for i in part)
        shape = (ROWS, -(-longest // WIDTH) * WIDTH)
        tokens, real, learnt = (
            np.zeros(shape, np.int32),
            np.zeros(shape, bool),
            np.zeros(shape, bool),
        )
        for row, i in enumerate(part):
            ids, mask = encoded[i]
            tokens[row, : len(ids)], real[row, : len(ids)] = ids, True
            learnt[row, : len(ids)] = mask
        yield tokens, real, learnt, part


@partial(jax.jit, static_argnames=("model",))
def _hidden(model: Any, params: Any, tokens: jax.Array, real: jax.Array) -> jax.Array:
    """[B,T,D]; padding is on the right and seen by nobody."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
    segments = real.astype(jnp.int32)
    return model.apply(params, tokens, positions, segments=segments).hidden


def _states(loaded: Any, encoded: Sequence[tuple[list[int], list[bool]]]) -> list[np.ndarray]:
    """Per batch [N,D]: the states that the answers' tokens are predicted from."""
    model, params, _ = loaded
    found = []
    for tokens, real, learnt, _ in _batches(encoded):
        hidden = np.asarray(_hidden(model, params, tokens, real))
        found.append(hidden[:, :-1][learnt[:, 1:]])
    return found


def compared(
    base: Any, other: Any, before: list[np.ndarray], encoded: Sequence[tuple[list[int], list[bool]]]
) -> dict[str, Any]:
    """KL with its interval over dialogues, and how much of the weights differs.

    Raises:
      UsageError: another architecture or vocabulary than the base's.
    """
    shapes = [jax.tree.map(jnp.shape, params) for _, params, _ in (base, other)]
    vocabularies = [tokenizer.backend.get_vocab() for _, _, tokenizer in (base, other)]
    for what, same in (
        ("shapes of weights", shapes[0] == shapes[1]),
        ("settings", base[0].config == other[0].config),
        ("tokens", vocabularies[0] == vocabularies[1]),
    ):
        if not same:
            raise bad("models", f"other {what} than the base's", "models trained from it")
    means = np.zeros(len(encoded))
    total, heads = [], [model.head(params) for model, params, _ in (other, base)]
    batches = zip(_batches(encoded), before, _states(other, encoded), strict=True)
    for (_, _, learnt, part), theirs, ours in batches:
        pad = -len(ours) % 256  # few shapes, few compilations
        student, teacher = (jnp.pad(x, ((0, pad), (0, 0))) for x in (ours, theirs))
        cap = base[0].config.logit_cap
        found, _ = jaxsafety.token_kl_profile(student, teacher, *heads, cap=cap)
        kl = np.asarray(found)[: len(ours)]
        total.append(kl)
        whose = np.repeat(np.arange(ROWS), learnt[:, 1:].sum(axis=1))
        for row, i in enumerate(part):
            means[i] = kl[whose == row].mean()
    every, spread = np.concatenate(total), t_interval(means.tolist())
    differ = same = 0
    gap = whole = 0.0
    for a, b in zip(jax.tree.leaves(other[1]), jax.tree.leaves(base[1]), strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        halves = [np.asarray(jax.lax.reduce_precision(x, 8, 7)) for x in (a, b)]
        differ += int((halves[0] != halves[1]).sum())
        same += a.size
        gap += float(np.square(a - b, dtype=np.float64).sum())
        whole += float(np.square(b, dtype=np.float64).sum())
    return {
        "kl": float(every.mean()),
        "kl_of_dialogues": spread.mean,
        "kl_interval": None if math.isnan(spread.lo) else [spread.lo, spread.hi],
        "dialogues": len(encoded),
        "tokens": len(every),
        "weights": differ / same,
        "relative": (gap / whole) ** 0.5,
    }


if __name__ == "__main__":
    sys.exit(main())
