"""Refusal-recovery: alignment on refusals that begin after an unsafe answer has begun.

Each row of an alignment stage on safe dialogues becomes, with a probability of 1/2,

    [prompt][first k tokens of a harmful answer to it][refusal],   k ~ U{1, ..., min(100, answer)}

of which the refusal alone is learnt, and stays a plain dialogue otherwise. Harmless dialogues
beside them keep what the model can do:

    L = alpha L(rows) + (1 - alpha) L(harmless rows)

Qi et al. 2024 (arXiv 2406.05946), re-made from Unispac/shallow-vs-deep-alignment,
finetuning_buckets/trainer/trainer.py at 170f0ac, `gen_safety_augmentation_batch`; alpha = 0.2 is
that of 4 rows beside 16 harmless ones, as copies of its script have them. What differs: there the
tokens of all rows share one mean, here harmless rows weigh alike, and a row that is replaced keeps
the weight that it had, spread over the refusal's tokens; it is replaced by a pair drawn from all,
not by its own, so the stage's rows hold one dialogue each and are of the same prompts; the last
token of a harmful answer, its end of turn, is never among the k, and k leaves room for the whole
refusal.

A harmful dialogue is paired with a safe one of the same prompt, token by token. Without dialogues
that carry harmful requests out (who has only refusals has none) it is not applicable.

Pinned by tests/mitigations/test_recovery.py.
Letters: N pairs, B rows of a micro-batch, T positions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import bad
from jaxsafety.data.schema import TokenBatch
from jaxsafety.mitigations.anchor import keep
from jaxsafety.mitigations.chain import chain
from jaxsafety.mitigations.drawn import Beside, Carried, learnt, salted
from jaxsafety.mitigations.means import TERMS, Means
from jaxsafety.protocols import EXTRA, Extra, LossFn, Mitigation

PAPERS = {"2406.05946": ""}

PyTree = Any
NAME = "recovery"


@dataclass(frozen=True)
class Recovery:
    """Settings.

    Attributes:
      probability: that a row is replaced.
      most: of the tokens of a harmful answer.
      alpha: weight of the stage's own rows; with 1 there are no harmless ones.
      rows: harmless rows of a step; 0 is as many as the stage's batch has.
    """

    probability: float = 0.5
    most: int = 100
    alpha: float = 0.2
    rows: int = 0

    needs: ClassVar[tuple[str, ...]] = ("safe", "harmful", "harmless")
    when: ClassVar[str] = "align"
    before: ClassVar[tuple[str, ...]] = TERMS

    def __post_init__(self) -> None:
        """Rejects what is no probability, and no share."""
        if not 0 <= self.probability <= 1:
            raise bad("mitigations.recovery.probability", self.probability, "from 0 to 1")
        if self.most < 1:
            raise bad("mitigations.recovery.most", self.most, "1 or more")
        if not 0 < self.alpha <= 1:
            raise bad("mitigations.recovery.alpha", self.alpha, "above 0, at most 1")
        if self.rows < 0:
            raise bad("mitigations.recovery.rows", self.rows, "0 or more")

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks.

        Metrics are `recovery`, the loss of the harmless rows, and `recovery/begun`, the weight of
        the rows that were replaced.

        Args:
          means: `safe`, `harmful` and `harmless` [N,T], `rows`, `seed`.

        Raises:
          UsageError: no harmful answer to any prompt of the safe dialogues.
        """
        assert means.safe is not None and means.harmful is not None  # `means.build` has asked
        found = pairs(means.safe, means.harmful)
        count, rows = found.prompt.shape[0], self.rows or means.rows
        longest = int((found.prompt + found.refusal).max())
        begun = Mitigation(Begun(self.probability, self.most, longest))
        budget = {"safe": means.safe.tokens.shape[0], "harmful": count}
        extra = {NAME: Extra(Paired(means, self.alpha < 1), keep)}
        if self.alpha == 1:
            return begun._replace(extra=extra, budget=budget)
        beside = Beside(NAME, "harmless", self.alpha, 1 - self.alpha, rows)
        budget["gradients"] = rows / means.rows
        # inside, so that harmless rows are not replaced
        return chain(Mitigation(beside, extra=extra, budget=budget), begun)


class Pairs(NamedTuple):
    """Harmful answers with a refusal each.

    Attributes:
      harmful: [N,T] int32 prompt and harmful answer, then zeros.
      said: [N,T] int32 refusal, then zeros.
      prompt: [N] int32 length of the prompt.
      answer: [N] int32 of the answer without its end of turn.
      refusal: [N] int32 of the refusal.
    """

    harmful: Any
    said: Any
    prompt: Any
    answer: Any
    refusal: Any


def pairs(safe: TokenBatch, harmful: TokenBatch) -> Pairs:
    """Pairs by prompt: what stands before the last answer of a dialogue, equal token by token.

    The i-th harmful answer to a prompt gets the i-th refusal of it, which begin anew where they are
    fewer. Dialogues without a partner are left out.

    Args:
      safe: [N,T], one dialogue a row.
      harmful: the same.

    Returns:
      Pairs as numpy arrays.

    Raises:
      UsageError: there are none.
    """
    refusals = defaultdict(list)
    for prompt, answer in split(safe):
        refusals[tuple(prompt)].append(answer)
    found, seen = [], defaultdict(int)
    for prompt, answer in split(harmful):
        same = refusals.get(tuple(prompt))
        if same and len(answer) > 1:
            found.append((prompt, answer[:-1], same[seen[tuple(prompt)] % len(same)]))
            seen[tuple(prompt)] += 1
    if not found:
        given = "no harmful answer to a prompt of the safe dialogues"
        raise bad("mitigations.recovery", given, "harmful and safe answers to the same prompts")
    sizes = [[len(each[i]) for each in found] for i in range(3)]
    return Pairs(
        _padded([[*prompt, *answer] for prompt, answer, _ in found]),
        _padded([refusal for *_, refusal in found]),
        *(np.asarray(size, np.int32) for size in sizes),
    )


def split(dialogues: TokenBatch) -> Iterator[tuple[list[int], list[int]]]:
    """(tokens before the last answer, that answer) of every dialogue that has one."""
    tokens, weight = trees.host(dialogues.tokens), trees.host(dialogues.weight)
    for ids, marked in zip(tokens, weight > 0, strict=True):
        where = np.flatnonzero(marked)
        if where.size:
            last = int(where[-1])
            others = np.flatnonzero(~marked[:last])
            first = int(others[-1]) + 1 if others.size else 0
            yield ids[:first].tolist(), ids[first : last + 1].tolist()


def _padded(rows: list[list[int]]) -> np.ndarray:
    made = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, ids in zip(made, rows, strict=True):
        row[: len(ids)] = ids
    return made


@dataclass(frozen=True)
class Paired:
    """`Extra.init`: the pairs of the means' dialogues, and the harmless ones."""

    means: Means
    harmless: bool

    def __call__(self, params: PyTree) -> dict[str, Any]:
        """{"pairs": Pairs, "harmless": [N,T], "seed": []}."""
        assert self.means.safe is not None and self.means.harmful is not None
        found = pairs(self.means.safe, self.means.harmful)
        carried = Carried(self.means, ("harmless",) if self.harmless else ())(params)
        return {**carried, "pairs": jax.tree.map(jnp.asarray, found)}


@dataclass(frozen=True)
class Begun:
    """The `loss` hook: rows that begin with a harmful answer.

    Attributes:
      probability: see `Recovery`.
      most: see `Recovery`.
      longest: positions that prompt and refusal of a pair need.
    """

    probability: float
    most: int
    longest: int

    def __call__(self, loss: LossFn, share: float) -> LossFn:
        """The loss of the stage's rows, some of them replaced."""
        del share  # of weighted rows nothing is shared

        def recovering(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
            rows = learnt(batch, NAME)
            width = rows.tokens.shape[1]
            if self.longest >= width:
                given = f"a prompt and its refusal of {self.longest} tokens"
                raise bad(
                    "mitigations.recovery", given, f"at most {width - 1}, for rows of {width}"
                )
            carried = frozen[EXTRA][NAME]
            toss, *keys = jax.random.split(salted(key, carried, "toss"), 3)
            new = self.begun(carried["pairs"], rows, *keys)
            on = jax.random.bernoulli(toss, self.probability, rows.tokens.shape[:1])[:, None]
            mixed = jax.tree.map(lambda a, b: jnp.where(on, a, b), new, rows)
            value, metrics = loss(params, frozen, mixed, key)
            return value, {**metrics, f"{NAME}/begun": jnp.sum(jnp.where(on, rows.weight, 0.0))}

        return recovering

    def begun(
        self, found: Pairs, rows: TokenBatch, key: jax.Array, length: jax.Array
    ) -> TokenBatch:
        """[B,T] pairs by draw, in the shape of `rows` and with the weight of each of them."""
        count, width = rows.tokens.shape
        index = jax.random.randint(key, (count,), 0, found.prompt.shape[0])
        drawn = jax.tree.map(lambda x: _split(jnp.take(x, index, axis=0)), found)
        room = width - drawn.prompt - drawn.refusal
        most = jnp.minimum(jnp.minimum(drawn.answer, self.most), room)
        k = jax.random.randint(length, (count,), 1, most + 1)
        return joined(drawn, k, rows)


def joined(pair: Pairs, k: jax.Array, rows: TokenBatch) -> TokenBatch:
    """[B,T] prompt, the first k tokens of the harmful answer, refusal.

    Args:
      pair: of B.
      k: [B] int.
      rows: [B,T] whose weights, summed by row, the refusals' tokens share.

    Returns:
      One segment a row.
    """
    at = jnp.broadcast_to(jnp.arange(rows.tokens.shape[1], dtype=jnp.int32), rows.tokens.shape)
    start = (pair.prompt + k)[:, None]
    end = start + pair.refusal[:, None]

    def read(table: jax.Array, where: jax.Array) -> jax.Array:
        return jnp.take_along_axis(table, jnp.clip(where, 0, table.shape[1] - 1), axis=1)

    inside, answer = at < end, (at >= start) & (at < end)
    tokens = jnp.where(answer, read(pair.said, at - start), read(pair.harmful, at))
    each = jnp.sum(rows.weight, axis=1, keepdims=True) / pair.refusal[:, None]
    return replace(
        rows,
        tokens=jnp.where(inside, tokens, 0),
        positions=jnp.where(inside, at, 0),
        segments=inside.astype(rows.segments.dtype),
        weight=jnp.where(answer, each, 0.0),
    )


def _split(x: jax.Array) -> jax.Array:
    return sharding.constrain(x, ("batch", *(None,) * (x.ndim - 1)))
