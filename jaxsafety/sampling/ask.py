"""Asking a model: items to prompts, prompts to answers, answers to texts that a judge can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import Exchange, Item, SampleConfig
from jaxsafety.sampling import many


def ask(
    model: Model,
    params: Any,
    tokenizer: Any,
    items: Sequence[Item],
    decoding: SampleConfig,
    *,
    seed: int,
    step: int = 0,
    samples: int = 1,
    layers: LayerInputs = LayerInputs(),
) -> list[Exchange]:
    """What the model says to each item, `samples` times, item after item.

    Args:
      model: static.
      params: its parameters.
      tokenizer: encodes the items by its chat template, and decodes the answers.
      items: what is asked; the index of an item keys its random numbers.
      decoding: with the ids that end a turn, `tokenizer.eos_ids`.
      seed: see `prompts.row_keys`.
      step: see `prompts.row_keys`.
      samples: answers per item.
      layers: adapters, steering, ablation.

    Returns:
      len(items) * samples `Exchange`s.

    Raises:
      UsageError: a prompt that does not fit the model's context beside `decoding.max_tokens`.

    Example:
      >>> import jaxsafety
      >>> model, params, tokenizer = jaxsafety.load()
      >>> chat = (jaxsafety.Message("user", "what is 11 plus 10 ?"),)
      >>> item = jaxsafety.Item("sum", chat, {})
      >>> stop = tuple(tokenizer.eos_ids)
      >>> cfg = jaxsafety.SampleConfig(max_tokens=16, temperature=0.0, stop=stop)
      >>> [exchange] = jaxsafety.ask(model, params, tokenizer, [item], cfg, seed=0)
      >>> exchange.item.id, exchange.response
      ('sum', 'the answer is 21 .')
    """
    said = many.generate(
        model,
        params,
        tokenizer,
        [encode_prompt(tokenizer, item.messages) for item in items],
        decoding,
        seed=seed,
        step=step,
        samples=samples,
        layers=layers,
    )
    return [
        Exchange(item, tokenizer.decode(answer.ids), answer)
        for item, row in zip(items, said, strict=True)
        for answer in row
    ]
