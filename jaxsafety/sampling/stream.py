"""One conversation's answers, token by token: `engine.prefill` and `engine.step` as two programs.

What is compiled depends on the shapes alone: the prompt's width and the cache's, which is the width
and the longest answer. A conversation grows with every turn, so widths are few, powers of two, and
the cache of a width is always the same: one pair of programs per width, and half of a prompt at
most is padding, of which steps see nothing but masked slots. `generate` has narrower steps between
its widths, since it fills batches and pays padding in each row.

Letters: B sequences, P prompt slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax

from jaxsafety.core import sharding, trees
from jaxsafety.data.schema import PromptBatch
from jaxsafety.models.api import LayerInputs, Model, unstacked
from jaxsafety.protocols import SampleConfig, Served
from jaxsafety.sampling import engine, processors
from jaxsafety.sampling.engine import Call
from jaxsafety.sampling.prompts import pad_prompts, row_keys

PyTree = Any
LEAST = 64  # tokens: nearly all first messages, and no narrower program is worth compiling


def widths(limit: int) -> tuple[int, ...]:
    """Prompt widths 64, 128, 256, ... below `limit`, and `limit` itself, the longest prompt."""
    found, size = [], LEAST
    while size < limit:
        found.append(size)
        size *= 2
    return (*found, limit)


class Stream:
    """A model that answers one prompt after another, each token as it is chosen.

    Attributes:
      limit: the longest prompt, in tokens, so that an answer fits behind it.
    """

    def __init__(self, model: Model, what: Served, cfg: SampleConfig, *, pad_id: int):
        """Compiles nothing yet.

        Args:
          model: static.
          what: parameters and layer inputs; its template is the caller's.
          cfg: decoding options; `max_tokens` is at least 1 and below the context.
          pad_id: filler id, see `pad_prompts`.

        Raises:
          UsageError: an impossible config.
        """
        processors.check(cfg, model.config.vocab_size)
        self.limit = model.config.max_length - cfg.max_tokens
        self._what, self._cfg, self._pad = what, cfg, pad_id
        self._call = Call(model, cfg.max_tokens, tuple(cfg.stop), tuple(cfg.banned), what.steer)
        self._split: PyTree = None
        self._seen: set[int] = set()

    def fresh(self, length: int) -> bool:
        """Whether no prompt of this many tokens, or of the same width, was answered yet."""
        return self._width(length) not in self._seen

    def _width(self, length: int) -> int:
        return next((w for w in widths(self.limit) if w >= length), self.limit)

    def tokens(self, prompt: Sequence[int], *, seed: int, step: int) -> Iterator[int]:
        """The answer's ids without the stop id: `cfg.max_tokens` of them if it was cut.

        They are those of `many.generate` with the same seed and step, but for rounding, which
        another width changes. The next token is begun before one is given, so that both programs
        are compiled before the first, and the caller's work costs the device nothing.

        Args:
          prompt: token ids, 1 to `limit`.
          seed: of all random numbers, see `row_keys`.
          step: another one gives a fresh answer under the same seed.

        Raises:
          UsageError: a prompt that is empty or too long.
        """
        params, layers, call = self._what.params, self._what.layers, self._call
        count = sharding.rows(sharding.mesh_of(params))  # each device has the row
        batch = pad_prompts([prompt] * count, self._pad, [self._width(len(prompt))])
        self._seen.add(batch.tokens.shape[1])
        keys = row_keys(seed, step, [0] * count, [0] * count)
        batch, keys = sharding.beside(params, (batch, keys))
        knobs = engine.turn(keys, self._cfg.temperature, self._cfg.top_p)
        state = _prefill(params, batch, knobs, layers, call)
        for left in reversed(range(call.room)):
            token = int(trees.host(state.token)[0])
            if token in call.stop:
                return
            if left:
                state = _step(self._unstacked(), batch.mask, state, knobs, layers, call)
            yield token

    def _unstacked(self) -> PyTree:
        """The parameters as steps take them, made once: they are a copy."""
        config = self._call.model.config
        if not config.unroll:
            return self._what.params
        if self._split is None:
            self._split = unstacked(config, self._what.params)
        return self._split


@partial(jax.jit, static_argnames="call")
def _prefill(
    params: PyTree, prompts: PromptBatch, knobs: engine.Knobs, layers: LayerInputs, call: Call
) -> engine.State:
    first, _ = engine.phases(layers, prompts.mask, call.steer)
    return engine.prefill(
        call.model,
        params,
        prompts,
        knobs,
        first,
        room=call.room,
        stop=call.stop,
        banned=call.banned,
    )


@partial(jax.jit, static_argnames="call", donate_argnames="state")
def _step(
    params: PyTree,
    mask: jax.Array,
    state: engine.State,
    knobs: engine.Knobs,
    layers: LayerInputs,
    call: Call,
) -> engine.State:
    _, later = engine.phases(layers, mask, call.steer)
    return engine.step(call.model, params, state, knobs, later, stop=call.stop, banned=call.banned)
