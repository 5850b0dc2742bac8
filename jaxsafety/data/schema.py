"""What flows between data, samplers and losses.

Letters: B sequences, T positions, P prompt length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from flax import struct


class Message(NamedTuple):
    """One turn of a chat; `role` is system, user or assistant.

    Example:
      >>> import jaxsafety
      >>> jaxsafety.Message("user", "Is it safe?")
      Message(role='user', content='Is it safe?')
    """

    role: str
    content: str


class Example(NamedTuple):
    """One training dialogue; the loss covers the assistant turns.

    Attributes:
      id: unlike those of the others.
      messages: the turns, oldest first.
      meta: what is known of it: the "file" and "row" it is from, say.

    Example:
      >>> import jaxsafety
      >>> turns = (jaxsafety.Message("user", "2 + 2?"), jaxsafety.Message("assistant", "4"))
      >>> jaxsafety.Example("sums/0", turns, {}).messages[-1].content
      '4'
    """

    id: str
    messages: tuple[Message, ...]
    meta: Mapping[str, Any]


class Encoded(NamedTuple):
    """A tokenized example: ids [n], and mask [n], True on the tokens to be learnt."""

    ids: Sequence[int]
    mask: Sequence[bool]


@struct.dataclass
class TokenBatch:
    """Token sequences with normalised loss weights (they sum to 1 over the global batch, or less).

    tokens [B,T] int32; positions [B,T] int32 (RoPE positions, restart per segment);
    segments [B,T] int32 (0 = padding, attention stays inside one segment); weight [B,T] float32:
    the weight of *predicting the token at that index* (the shift lives in losses/logprobs.py);
    reference [B,T] float32 or None: log-probability of that token under the model that the stage
    began with, where a mitigation has asked for it; 0 where the weight is; packed: False promises
    that each row is one segment from its first slot on, then padding.
    """

    tokens: jax.Array
    positions: jax.Array
    segments: jax.Array
    weight: jax.Array
    reference: jax.Array | None = None
    packed: bool = struct.field(pytree_node=False, default=True)


@struct.dataclass
class PromptBatch:
    """Left-padded prompts. tokens [B,P] int32; mask [B,P] bool."""

    tokens: jax.Array
    mask: jax.Array


@struct.dataclass
class Completions:
    """Prompts with what the model said. All [B,P+T] but `finished`.

    `mask` is True on prompt and completion tokens up to and including the first stop token;
    `completion` is True on the completion tokens alone; `logp` is the sampled token's
    log-probability under the *sampling* distribution's model at temperature 1 (0 elsewhere);
    `finished` [B] says whether a stop token was reached.
    """

    tokens: jax.Array
    mask: jax.Array
    completion: jax.Array
    logp: jax.Array
    finished: jax.Array


class Answer(NamedTuple):
    """What a model said to one prompt, on the host.

    `ids` without the stop token; `finished`: whether it stopped by itself; `logp`: the
    log-probability of each of `ids`, and of the stop token where it stopped, under the model at
    temperature 1, before bans and top-p.
    """

    ids: list[int]
    finished: bool
    logp: list[float]
