"""Constrained learning of first tokens: a token that became likelier than at the start counts less.

Qi et al. 2024 (arXiv 2406.05946), whose loss of an answer y with the start's model pi_0 is

    - sum_t 2 / beta_t log sigma(beta_t (log pi(y_t) - log pi_0(y_t)))

and whose gradient is that of the negative log-likelihood with every token weighed by

    w_t = 2 (1 - sigma(beta_t (log pi(y_t) - log pi_0(y_t))))

with beta_1 = 0.5, beta_2..5 = 2, and 0.1 after; at the start every w_t is 1, plain SFT. As in the
released code (Unispac/shallow-vs-deep-alignment at fb1749e) the loss is w_t, without gradient and
at least 0.001, times - log pi(y_t). t counts from 1 within each answer: the tokens in a row that
are learnt, of one segment, so several dialogues of a row, and several answers of a dialogue, each
begin anew. The first learnt token is whatever the template makes the model say first.

As the paper caches log pi_0 for its data set, it is made once for the stage's rows (`referred.py`),
and w_t comes from the loss's own pass (`protocols.PassLoss`): a step costs plain SFT's, and a
product with the head. What differs: the mean over tokens is the batch's own weights, which are
multiplied by w_t for the method's own loss. So whatever was chained before, and whatever else the
loss does with its rows, stays as it is. A loss that another mitigation wraps offers no pass, so
another one is made of the trained model; where log pi_0 cannot be known before (batches that are
sampled, a mitigation with a `loss` hook after this one in the chain, or a `grad` hook, and
`jaxsafety plan`) it is made in every step, by a frozen pass of a copy of the start. It is for
supervised stages: what the batch's weights do not multiply is left alone. The metrics of the loss
(`nll`) are weighed by w_t too.

Pinned by tests/mitigations/test_constrained.py.
Letters: B rows, T positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data.schema import TokenBatch
from jaxsafety.mitigations import began
from jaxsafety.mitigations.anchor import keep
from jaxsafety.mitigations.drawn import learnt
from jaxsafety.mitigations.means import Means
from jaxsafety.mitigations.referred import Referred, logp
from jaxsafety.models.api import Model
from jaxsafety.protocols import EXTRA, Extra, LossFn, Mitigation, Pass

PAPERS = {"2406.05946": ""}

PyTree = Any
NAME = "constrained"
LEAST = 1e-3  # a weight is at least this, as in the released code


@dataclass(frozen=True)
class Constrained:
    """Settings; all betas 0 is plain SFT.

    Attributes:
      first: beta of an answer's first token; smaller than the next ones, so that it is learnt.
      early: of those after it, up to token `until`.
      late: of the others.
      until: the last early token, counted from 1.
    """

    first: float = 0.5
    early: float = 2.0
    late: float = 0.1
    until: int = 5

    needs: ClassVar[tuple[str, ...]] = ("start",)
    when: ClassVar[str] = "train"

    def __post_init__(self) -> None:
        """Rejects what pushes away from the start."""
        for name in ("first", "early", "late"):
            beta = getattr(self, name)
            if not (np.isfinite(beta) and beta >= 0):
                raise bad(f"mitigations.constrained.{name}", beta, "a finite number, 0 or more")
        if self.until < 1:
            raise bad("mitigations.constrained.until", self.until, "1 or more")

    def mitigation(self, means: Means) -> Mitigation:
        """The hooks; the metric `constrained` is the mean of w_t, weighed as the task's tokens.

        Args:
          means: `model`, `shards`.
        """
        hook = Weighed(means.model, means.shards, self)
        return Mitigation(
            hook,
            extra={NAME: Extra(began.Begun(means), keep)},  # `begin` drops it
            begin=Referred(NAME, hook, means.model, means.shards),
            budget={"forwards": 0, "copies": 0},
        )


@dataclass(frozen=True)
class Weighed:
    """The `loss` hook.

    Attributes:
      model: the model.
      shards: devices that share the rows.
      settings: the betas.
    """

    model: Model
    shards: int
    settings: Constrained

    def __call__(self, loss: LossFn, share: float) -> LossFn:
        """The loss of the batch whose tokens are weighed anew."""
        del share  # a sum over rows

        def weighed(params: PyTree, frozen: PyTree, batch: PyTree, key: jax.Array) -> Any:
            rows = learnt(batch, NAME)
            every = began.trained(jax.lax.stop_gradient(params), frozen, NAME)
            if began.shares(loss, frozen):
                out = loss.forward(params, frozen, rows)
                given = self.given(out, frozen, rows)
                value, metrics = loss.score(out, given)
            else:
                given = self.given(began.passed(self.model, every, rows), frozen, rows)
                value, metrics = loss(params, frozen, given, key)
            return value, {**metrics, NAME: jnp.sum(given.weight)}

        return weighed

    def given(self, out: Pass, frozen: PyTree, rows: TokenBatch) -> TokenBatch:
        """The rows [B,T] with weights times w_t, by what the trained model made of them."""
        start = rows.reference
        if start is None:
            every = {"base": began.beginning(frozen, frozen[EXTRA][NAME])}
            start = self.logp(began.passed(self.model, every, rows), rows)
        factor = weights(self.logp(out, rows) - start, betas(rows, self.settings))
        # Without the reference, or rows of other mitigations would not go with them.
        return replace(rows, weight=rows.weight * factor, reference=None)

    def logp(self, out: Pass, rows: TokenBatch) -> jax.Array:
        """[B,T] log-probabilities of the rows' learnt tokens."""
        return logp(self.model, out, rows, self.shards)


def weights(gap: jax.Array, beta: jax.Array, least: float = LEAST) -> jax.Array:
    """w_t = max(least, 2 (1 - sigma(beta_t gap_t))), without gradient.

    Args:
      gap: [B,T] log pi(y_t) - log pi_0(y_t).
      beta: [B,T].
      least: 0 leaves them as they are.
    """
    return jax.lax.stop_gradient(jnp.maximum(2 * jax.nn.sigmoid(-beta * gap), least))


def betas(rows: TokenBatch, settings: Constrained) -> jax.Array:
    """[B,T] beta of every token, by its place in its answer; `late` for what is not learnt."""
    place = places(rows)
    early = jnp.where(place <= settings.until, settings.early, settings.late)
    found = jnp.where(place == 1, settings.first, early)
    return jnp.where(place == 0, settings.late, found).astype(jnp.float32)


def places(rows: TokenBatch) -> jax.Array:
    """[B,T] which token of its answer each is, from 1; 0 for what is not learnt."""
    on = rows.weight > 0
    before = jnp.pad(on[:, :-1], ((0, 0), (1, 0)))
    same = rows.segments == jnp.pad(rows.segments[:, :-1], ((0, 0), (1, 0)))
    t = jnp.arange(on.shape[1])
    first = jax.lax.cummax(jnp.where(on & ~(before & same), t, 0), axis=1)
    return jnp.where(on, t - first + 1, 0)
