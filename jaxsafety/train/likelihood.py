"""The loss of learning answers: negative log-likelihood, whatever carries the model's change.

    loss = - sum_{b,t} weight[b,t] log p(tokens[b,t] | tokens[b,<t])

with weights that are normalised once on the global batch (`losses/weights.py`). Pretraining, SFT,
adapters and routed experts differ in what of the variables is trained, not in the loss.
Letters: B rows, T positions, E experts, L layers, D width.
"""

from __future__ import annotations

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
from jaxsafety.protocols import PERTURBATION, LossFn, Variables

PyTree = Any


@cache  # equal stages share a compiled step: see `Stage`
def answer_loss(
    model: Model,
    shards: int = 1,
    *,
    train_head: bool | None = None,
    routing: Routing = Routing(),
) -> LossFn:
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
      (trained variables, frozen ones, batch, key) -> (loss, metrics), for `Stage.loss`.

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

    def loss(params: PyTree, frozen: PyTree, batch: TokenBatch, key: jax.Array) -> Any:
        del key
        rest = {name: value for name, value in frozen.items() if name != PERTURBATION}
        return likelihood(
            model,
            trees.combine(params, rest),
            batch,
            shards=shards,
            train_head=train_head,
            routing=routing,
            add=frozen.get(PERTURBATION),
        )

    return loss


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
    pool = routers.pool(prompt_mask(batch), routing)
    out = model.apply(
        every["base"],
        batch.tokens,
        batch.positions,
        segments=batch.segments,
        layers=LayerInputs(adapters=every.get("adapters"), add=add, routing=routing, pool=pool),
        mix=mix,
    )
    return nll(
        out.hidden,
        model.head(every["base"]),
        batch.tokens,
        batch.weight,
        train_head=train_head,
        shards=shards,
        cap=model.config.logit_cap,
    )


def prompt_mask(batch: TokenBatch) -> jax.Array:
    """[B,T] the tokens before a row's first learnt one."""
    return (batch.segments > 0) & (jnp.cumsum(batch.weight > 0, axis=1) == 0)
