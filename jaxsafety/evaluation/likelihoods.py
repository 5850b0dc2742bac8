"""Log-probabilities of continuations given their contexts, each context read once.

    score(choice) = sum_t log p(continuation[t] | context, continuation[<t])

A batch is one forward pass of one compiled function over rows of trees (`packing`): a context is
the trunk, its continuations are branches that do not see each other. Unembedded is only what
predicts a token that is asked for, and once, however many choices ask something of it. What all
contexts of a set begin with (a system's turn, examples) is read once for the set, into a cache,
where it is long. Where a token lies changes no score by more than rounding.
Letters: B rows, T their tokens, U hidden states that predict something, M predicted tokens,
S tokens that all begin with, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.adapters.routing import POOLED
from jaxsafety.core import sharding, trees
from jaxsafety.evaluation import packing
from jaxsafety.evaluation.packing import Batch, Laid
from jaxsafety.evaluation.pairs import Stem
from jaxsafety.losses import chunks
from jaxsafety.losses.logprobs import token_logp
from jaxsafety.models.api import Cache, LayerInputs, Model
from jaxsafety.sampling import heads
from jaxsafety.sampling.engine import phases

PyTree = Any
TOKENS = {"cpu": 1024}  # of a batch; a CPU is busy with that many
TOKENS_ELSEWHERE = 16384


class Scorer:
    """Scores the batches of one set; the head's S tokens are read once, at the first batch."""

    def __init__(
        self,
        model: Model,
        params: PyTree,
        stems: Sequence[Stem],
        layers: LayerInputs = LayerInputs(),
        *,
        steer: str = "all",
        tokens: int = 0,
    ) -> None:
        """Plans; nothing is computed yet.

        Args:
          model: the model; static.
          params: its parameters.
          stems: contexts with their continuations, none of which is empty.
          layers: adapters, steering, ablation, as for the sampler.
          steer: "all" or "prompt", the positions `layers.add` touches.
          tokens: of a batch, about; 0 chooses by the kind of device.
        """
        self.model, self.params, self.stems = model, params, stems
        self.layers, self.steer = layers, steer
        # what a router decides once per prompt needs the whole prompt in one pass, and a row of
        # its own
        routed = layers.adapters is not None and "router" in layers.adapters
        alone = routed and layers.routing.level in POOLED
        self.skip = 0 if alone else packing.head(stems)
        self.trees = [packing.grow(stem, self.skip) for stem in stems]
        size = tokens or TOKENS.get(jax.default_backend(), TOKENS_ELSEWHERE)
        ways = sharding.rows(sharding.mesh_of(params))
        self.batches = packing.plan(self.trees, tokens=size, ways=ways, alone=alone)
        self._head: Cache | None = None

    def score(self, batch: Batch) -> Iterator[tuple[int, list[float]]]:
        """Yields (stem, sum of the log-probabilities per continuation), summed in float64."""
        if self.skip and self._head is None:
            ids = self.stems[0].context[: self.skip]
            self._head = heads.read(self.model, self.params, ids, self.layers, self.steer)
        laid = packing.lay(batch, self.stems, self.trees, self.skip)
        # rows are split over devices, the lists of what is asked are not
        given = Laid(*sharding.beside(self.params, laid[:5]), *map(jnp.asarray, laid[5:]))
        logp = _score(self.model, self.params, self._head, self.layers, given, steer=self.steer)
        values = np.asarray(trees.host(logp), np.float64)
        yield from zip(batch.stems, packing.sums(batch, self.trees, values), strict=True)


@partial(jax.jit, static_argnames=("model", "steer"))
def _score(model, params, head, layers, laid, *, steer) -> jax.Array:
    """[M] float32: the log-probability of each target."""
    count, width = laid.tokens.shape
    first, _ = phases(layers, laid.context, steer)
    out = model.apply(
        params,
        laid.tokens,
        laid.places,
        segments=laid.segments,
        branches=laid.branches,
        cache=None if head is None else heads.spread(head, count, width),
        layers=first,
    )
    picked = out.hidden.reshape(count * width, -1)[laid.asked]
    kernel = model.head(params)
    # one sequence whose token t + 1 is one that row t predicts, in even chunks
    rows = len(laid.asked) + 1
    chunk = -(-rows // -(-rows // chunks.rows_per_chunk(None, kernel.shape[1])))
    sequence = jnp.pad(picked, ((0, 1), (0, 0)))[None]
    said = jnp.pad(laid.first, (1, 0))[None]
    cap = model.config.logit_cap
    known = token_logp(sequence, kernel, said, chunk=chunk, cap=cap)[0, 1:]

    # log p(b) = log p(a) + logit(b) - logit(a) for all else that the same row predicts
    def logit(tokens: jax.Array) -> jax.Array:
        columns = kernel[:, tokens].astype(picked.dtype)
        x = jnp.einsum("md,dm->m", picked[laid.which], columns, preferred_element_type=jnp.float32)
        return cap * jnp.tanh(x / cap) if cap else x

    other = laid.first[laid.which]
    more = jnp.where(laid.targets == other, 0.0, logit(laid.targets) - logit(other))
    return known[laid.which] + more
