"""How surprised the frozen base is by an answer, and from where on that is a failure.

Protocol D5 (c) of capability-grounded measurement (ours):

    PPL_base(y | x) = exp(-(1/T) sum_t log p_base(y_t | x, y_<t))

x is the dialogue as the base is asked it, y the answer's T tokens, the end of the turn left out: an
answer that a token limit cut has none. The limit is the 99.5th percentile of the base's own answers
to the same class of prompts, sampled as those that are judged: greedy answers are the base's
likeliest, so their limit is far below one of sampled ones.

Low perplexity does not exclude loops or leaked formats (they are likely), which have triggers of
their own; and fluent text that the base would not say of itself is above the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.tokens import render
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.evaluation import packing, pairs
from jaxsafety.evaluation.likelihoods import Scorer
from jaxsafety.evaluation.pairs import Stem
from jaxsafety.judges import gate, triggers
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.protocols import Encode, Exchange

SHARE = 0.995
NO_TOKENS = "an answer without tokens"
NO_NUMBER = "a log-probability that is no number"


class Surprise(NamedTuple):
    """Of one answer: its perplexity, the mean log-probability of its T `tokens`, or why neither."""

    perplexity: float | None
    logp: float | None
    tokens: int
    cause: str = ""


class Limit(NamedTuple):
    """A percentile of `n` known values, or why there is none."""

    value: float | None
    n: int
    cause: str = ""


def perplexities(
    model: Model,
    params: Any,
    tokenizer: Tokenizer,
    exchanges: Sequence[Exchange],
    *,
    layers: LayerInputs = LayerInputs(),
    steer: str = "all",
    encode: Encode = encode_prompt,
    batch_tokens: int = 0,
    check: Callable[[], None] | None = None,
) -> list[Surprise]:
    """The perplexity of answers under the frozen base; each prompt is read once.

    Args:
      model: the base.
      params: its parameters, before any fine-tuning.
      tokenizer: its tokenizer, with a chat template.
      exchanges: N items with what was answered, by whatever model. Where `answer` is there its
        tokens are scored, else the text is encoded behind its prompt.
      layers: what the base is served with: adapters, steering.
      steer: "all" or "prompt", the positions `layers.add` touches.
      encode: the dialogue as the base's prompt.
      batch_tokens: of the prompts of a batch, about; 0 chooses by the kind of device.
      check: called after every batch; it may raise to stop here.

    Returns:
      [N] of them, in order. No value, with a cause: an answer without tokens, one that does not fit
      into the model's context, a log-probability that is no number.

    Raises:
      UsageError: a template that refuses the dialogue.

    Example:
      >>> import jaxsafety
      >>> from jaxsafety.evaluation.perplexity import perplexities
      >>> model, params, tokenizer = jaxsafety.load()
      >>> item = jaxsafety.Item("0", (jaxsafety.Message("user", "what is 11 plus 10 ?"),), {})
      >>> said = ["the answer is 21 .", "21 answer the . is", ""]
      >>> told = [jaxsafety.Exchange(item, text) for text in said]
      >>> right, shuffled, nothing = perplexities(model, params, tokenizer, told)
      >>> right.perplexity < 1.1, shuffled.perplexity > 100, nothing.cause
      (True, True, 'an answer without tokens')
    """
    found: list[Surprise] = [Surprise(None, None, 0, NO_TOKENS)] * len(exchanges)
    waiting: dict[tuple[int, ...], dict[tuple[int, ...], list[int]]] = {}
    prompts: dict[Any, tuple[list[int], str]] = {}
    for place, exchange in enumerate(exchanges):
        messages = tuple(exchange.item.messages)
        if messages not in prompts:
            prompts[messages] = encode(tokenizer, messages), _rendered(tokenizer, messages)
        prompt, text = prompts[messages]
        said = tuple(_said(tokenizer, exchange, prompt, text))
        if said:
            stem = Stem(tuple(prompt), (said,), (0,))
            cause = pairs.unscorable([stem], model.config.max_length)
            found[place] = Surprise(None, None, len(said), cause)
            if not cause:
                waiting.setdefault(stem.context, {}).setdefault(said, []).append(place)
    if not waiting:
        return found
    whole = (Stem(x, tuple(ys), tuple(range(len(ys)))) for x, ys in waiting.items())
    stems = [part for stem in whole for part in packing.split(stem)]
    work = Scorer(model, params, stems, layers, steer=steer, tokens=batch_tokens)
    for batch in work.batches:
        for index, sums in work.score(batch):
            stem = stems[index]
            for said, total in zip(stem.continuations, sums, strict=True):
                for place in waiting[stem.context][said]:
                    found[place] = _surprise(total, len(said))
        if check is not None:
            check()
    return found


def _rendered(tokenizer: Tokenizer, messages: Sequence[Any]) -> str:
    """The prompt as text; "" where the base is asked otherwise than by its template."""
    try:
        return render.render(tokenizer, messages, generation=True)
    except UsageError:
        return ""


def _said(tokenizer: Tokenizer, exchange: Exchange, prompt: list[int], text: str) -> list[int]:
    """The tokens of an answer: its own, or those of its text behind the prompt."""
    if exchange.answer is not None:
        return list(exchange.answer.ids)
    if not exchange.response:
        return []
    whole = tokenizer.encode(text + exchange.response) if text else []
    if whole[: len(prompt)] == prompt:
        return whole[len(prompt) :]
    return tokenizer.encode(exchange.response)


def _surprise(total: float, tokens: int) -> Surprise:
    mean = total / tokens
    if math.isnan(mean):
        return Surprise(None, None, tokens, NO_NUMBER)
    return Surprise(triggers.perplexity(mean), mean, tokens)


def limit(values: Sequence[float | None], share: float = SHARE) -> Limit:
    """The perplexity that `share` of the base's own answers do not exceed.

    It is the smallest value that at least `share` of the known values are not above: of n sorted
    ones number ceil(share * n). Only from n = 1 / (1 - share) on, 200 for 99.5 %, is that another
    one than the largest; below, the answer is None: a maximum says how many were sampled, not what
    is rare. At most 1 - share of the values themselves are above the limit.

    Args:
      values: perplexities of the base's answers to one class of prompts; None ones are left out.
      share: between 0 and 1.

    Raises:
      UsageError: a share outside.
    """
    if not 0 < share < 1:
        raise bad("perplexity.share", share, "between 0 and 1")
    known = sorted(v for v in values if v is not None and v == v)
    least = math.ceil(1 / (1 - share) - 1e-6)
    if len(known) < least:
        left = len(values) - len(known)
        of = f" ({left} more without a perplexity)" if left else ""
        cause = f"{len(known)} answers of the base{of}; the {100 * share:g}th percentile takes"
        return Limit(None, len(known), f"{cause} {least}")
    return Limit(known[math.ceil(share * len(known) - 1e-9) - 1], len(known))


def by_key(
    exchanges: Sequence[Exchange], found: Sequence[Surprise]
) -> Mapping[gate.Key, float | None]:
    """Mean log-probabilities as `judges.gate.gated` wants them."""
    return {gate.key(e): s.logp for e, s in zip(exchanges, found, strict=True)}
