"""What SafeSteer did to the distribution: the mass on S, and the drift on harmless answers.

For the report, once the model is exported (arXiv 2606.02530 has neither). All passes run in batches
of one size, each device its own rows. Pinned by tests/methods/test_safesteer_inspect.py.
Letters: B rows of a batch, T slots, N rows x positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import sharding, trees
from jaxsafety.losses import profile
from jaxsafety.methods.safesteer.teacher import answers, encode_items, pieces
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.probing import forward
from jaxsafety.probing.pieces import Piece
from jaxsafety.protocols import Context, SampleConfig, Variables

PyTree = Any
DRIFT_TOKENS = 24  # of the base's answers on which the drift is measured; then the end of turn
ROWS = 32  # answers whose drift is measured at once


def least_at(variant: str, divergence: str, teacher_mass: float) -> float | None:
    """Student-to-teacher ratio of the mass on S at which a loss is least; None where it is free.

    With p of the student, q of the teacher, and Q the teacher's mass on S:

    - partial reverse, sum_S p log(p / q): the derivative log(p / q) + 1 is 0 at p = q / e, so 1/e;
    - partial forward, sum_S q log(q / p): falls with every p, so all mass goes to S; 1 / Q;
    - renormalised: compares p and q given S, whose own mass is free;
    - partial_topk: acts on other tokens at each position, which S shares with it or not; free;
    - k1, k3: the reverse KL by samples; their mean gradients vanish at p = q, so 1;
    - the others are divergences, least at p = q; 1.

    Args:
      variant: of `losses.divergence.VARIANTS`, or of `losses.sampled.ESTIMATORS`.
      divergence: "reverse_kl" or "forward_kl".
      teacher_mass: Q, 0 to 1.
    """
    if variant in ("renormalised", "partial_topk"):
        return None
    if variant != "partial":
        return 1.0
    if divergence == "reverse_kl":
        return math.exp(-1)
    return 1.0 / teacher_mass if teacher_mass > 0 else None


def mass_on(
    ctx: Context,
    trained: Variables,
    subset: Sequence[int],
    teacher: LayerInputs,
    variant: str,
    divergence: str = "reverse_kl",
) -> dict[str, Any]:
    """Mean probability of S as the first answer token: base, teacher, student; plain and wrapped.

    `predicted` and `wrapped_predicted` are `least_at`. Without wrapped prompts there is no key that
    begins with "wrapped_".
    """
    result: dict[str, Any] = {"predicted": None}
    ids, check = list(subset), pieces(ctx).check
    for name, split in (("", "harmful_val"), ("wrapped_", "wrapped_val")):
        items = ctx.setting.prompts.get(split)
        if not items:
            continue
        prompts = encode_items(ctx, items)
        arms = (
            ("base", ctx.variables["base"], LayerInputs()),
            ("teacher", ctx.variables["base"], teacher),
            ("student", trained["base"], LayerInputs()),
        )
        for arm, params, layers in arms:  # in the prompt both steering modes are the same
            logits = forward.last_logits(ctx.model, params, prompts, layers, check=check)
            mass = np.exp(forward.log_softmax(logits)[:, ids]).sum(axis=1)
            result[name + arm] = float(mass.mean())
        result[name + "ratio"] = result[name + "student"] / max(result[name + "teacher"], 1e-12)
        result[name + "predicted"] = least_at(variant, divergence, result[name + "teacher"])
    return result


def position_kl(ctx: Context, trained: Variables, subset: Sequence[int] | None) -> dict[str, Any]:
    """KL(base || student) by answer position on the base's own answers to harmless prompts.

    `kl_off_subset` conditions both on the tokens outside S: what a localised method leaves alone;
    without an S it is the whole KL.
    """
    prompts = encode_items(ctx, ctx.setting.prompts["harmless_val"])
    decoding = SampleConfig(DRIFT_TOKENS, 1.0, stop=ctx.tokenizer.eos_ids)
    said = answers(ctx, prompts, decoding, step=10**6)
    width, columns = max(map(len, prompts)), DRIFT_TOKENS + 1
    end = list(ctx.tokenizer.eos_ids[:1])  # counts as a position; which token it is does not matter
    rows = [(p, [*a, *end]) for p, a in zip(prompts, said, strict=True)]
    tokens = np.full((len(rows), width + columns), ctx.tokenizer.pad_id, np.int32)
    mask = np.zeros(tokens.shape, bool)
    for i, (p, a) in enumerate(rows):
        tokens[i, width - len(p) : width + len(a)] = [*p, *a]
        mask[i, width - len(p) : width + len(a)] = True
    both = (trained["base"], ctx.variables["base"])
    ids = None if subset is None else jnp.asarray(list(subset))
    ways = sharding.rows(sharding.mesh_of(both[1]))
    size = -(-min(ROWS, len(rows)) // ways) * ways

    def measured(start: int) -> tuple[np.ndarray, ...]:
        """(kl, kl_off_subset) [B, columns] of the rows from `start` on."""
        part = np.arange(start, start + size).clip(max=len(rows) - 1)  # filled up with the last
        given = tokens[part], mask[part]
        states = (
            _unsteered(ctx.model, params, *sharding.beside(params, given))[:, width - 1 : -1]
            for params in both
        )
        ours, theirs = (x.reshape(-1, x.shape[-1]) for x in states)
        heads = map(ctx.model.head, both)
        cap = ctx.model.config.logit_cap
        found = profile.token_kl_profile(ours, theirs, *heads, subset=ids, cap=cap)
        return tuple(trees.host(x).reshape(size, columns)[: len(rows) - start] for x in found)

    starts = range(0, len(rows), size)
    work = [Piece("", min(size, len(rows) - start), partial(measured, start)) for start in starts]
    parts = pieces(ctx, kept=False).run("drift on harmless answers", "answers", work)
    whole, outside = (np.concatenate(x) for x in zip(*parts, strict=True))
    total, off, count = (np.zeros(columns) for _ in range(3))
    valid = mask[:, width:]
    for column in range(columns):
        use = valid[:, column]
        count[column] = use.sum()
        total[column], off[column] = whole[use, column].sum(), outside[use, column].sum()
    seen = count > 0
    return {
        "positions": np.flatnonzero(seen).tolist(),
        "kl": (total[seen] / count[seen]).tolist(),
        "kl_off_subset": (off[seen] / count[seen]).tolist(),
        "mean_kl": float(total.sum() / count.sum()),
        "mean_kl_off_subset": float(off.sum() / count.sum()),
        "n": len(rows),
    }


@partial(jax.jit, static_argnames=("model",))
def _unsteered(model: Model, params: PyTree, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """[B,T,D] of a teacher-forced pass over left-padded rows."""
    return forward.hidden(model, params, tokens, mask, LayerInputs()).hidden
