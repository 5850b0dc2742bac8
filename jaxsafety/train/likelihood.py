"""The loss of learning answers: negative log-likelihood, whatever carries the model's change.

    loss = - sum_{b,t} weight[b,t] log p(tokens[b,t] | tokens[b,<t])

with weights that are normalised once on the global batch (`losses/weights.py`). Pretraining, SFT,
adapters and routed experts differ in what of the variables is trained, not in the loss.
Letters: B rows, T positions, E experts, L layers, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.adapters import routing as routers
from jaxsafety.adapters.routing import Routing
from jaxsafety.core import trees
from jaxsafety.data.schema import TokenBatch
from jaxsafety.losses.logprobs import nll
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import PERTURBATION, Pass, Variables

PyTree = Any


@cache  # equal stages share a compiled step: see `Stage`
def answer_loss(
    model: Model,
    shards: int = 1,
    *,
    train_head: bool | None = None,
    routing: Routing = Routing(),
) -> AnswerLoss:
    """The loss of a stage whose batches are `TokenBatch`es; metrics nll and accuracy.

        loss = - sum_{b,t} weight[b,t] log p(tokens[b,t] | tokens[b,<t])

    Goes through `adapters` where the variables have some, and through their router. Where the
    frozen variables have a `PERTURBATION` [L,B,T,D], it is added to the inputs of the blocks.

    Args:
      model: the model.
      shards: how many devices share the rows, see `losses.logprobs.nll`.
      train_head: whether the unembedding is trained; a frozen one costs a product less. None asks
        the differentiation itself.
      routing: static options of the router.

    Returns:
      (trained variables, frozen ones, batch, key) -> (loss, metrics), for `Stage.loss`; in two
      parts, `protocols.PassLoss`, so that mitigations can use its pass.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jaxsafety
      >>> from jaxsafety.core import trees
      >>> from jaxsafety.data.schema import TokenBatch
      >>> model, params, tokenizer = jaxsafety.load()
      >>> tokens = jnp.array([tokenizer.encode("the answer is 21 .")])  # [B,T]
      >>> weight = jaxsafety.token_weights(jnp.arange(5)[None] > 2)  # the last two tokens
      >>> batch = TokenBatch(tokens, jnp.arange(5)[None], jnp.ones_like(tokens), weight)
      >>> trained, frozen = trees.partition({"base": params}, ("base/blocks/mlp/.*",))
      >>> loss = jaxsafety.answer_loss(model)
      >>> value, metrics = jax.jit(loss)(trained, frozen, batch, jax.random.key(0))
      >>> value.shape, bool(value > 0), sorted(metrics)
      ((), True, ['accuracy', 'nll'])
    """
    return AnswerLoss(model, shards, train_head, routing)


@dataclass(frozen=True)
class AnswerLoss:
    """What `answer_loss` makes, which tells its attributes; a `protocols.PassLoss`."""

    model: Model
    shards: int
    train_head: bool | None
    routing: Routing

    def __call__(
        self, params: PyTree, frozen: PyTree, batch: TokenBatch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Loss and metrics."""
        del key
        return self.score(self.forward(params, frozen, batch), batch)

    def forward(self, params: PyTree, frozen: PyTree, batch: TokenBatch) -> Pass:
        """The pass through all variables, and what is added to it."""
        every = trees.combine(params, trees.without(frozen, PERTURBATION))
        add = frozen.get(PERTURBATION)
        return passed(self.model, every, batch, routing=self.routing, add=add)

    def score(self, out: Pass, batch: TokenBatch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted likelihood of the batch's tokens."""
        return nll(
            out.hidden,
            out.head,
            batch.tokens,
            batch.weight,
            train_head=self.train_head,
            shards=self.shards,
            cap=self.model.config.logit_cap,
        )


def likelihood(
    model: Model,
    every: Variables,
    batch: TokenBatch,
    *,
    shards: int = 1,
    train_head: bool | None = None,
    routing: Routing = Routing(),
    mix: jax.Array | None = None,
    add: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of a batch and its metrics.

    Args:
      model: the model.
      every: all variables: "base", perhaps "adapters".
      batch: [B,T].
      shards: see `answer_loss`.
      train_head: see `answer_loss`.
      routing: see `answer_loss`.
      mix: [B,E] weights of the experts, given instead of a router's.
      add: [L,B,T,D] what is added to the inputs of the blocks.
    """
    out = passed(model, every, batch, routing=routing, mix=mix, add=add)
    return AnswerLoss(model, shards, train_head, routing).score(out, batch)


def passed(
    model: Model,
    every: Variables,
    batch: TokenBatch,
    *,
    routing: Routing = Routing(),
    mix: jax.Array | None = None,
    add: jax.Array | None = None,
) -> Pass:
    """The pass of a batch [B,T]; see `likelihood` for the arguments."""
    pool = routers.pool(prompt_mask(batch), routing)
    out = model.apply(
        every["base"],
        batch.tokens,
        batch.positions,
        segments=batch.segments,
        packed=batch.packed,
        layers=LayerInputs(adapters=every.get("adapters"), add=add, routing=routing, pool=pool),
        mix=mix,
    )
    return Pass(out.hidden, model.head(every["base"]))


def prompt_mask(batch: TokenBatch) -> jax.Array:
    """[B,T] the tokens before a row's first learnt one."""
    return (batch.segments > 0) & (jnp.cumsum(batch.weight > 0, axis=1) == 0)
