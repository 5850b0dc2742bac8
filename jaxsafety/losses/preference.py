"""Losses on pairs of answers of which one is preferred; whole answers, no [B,T,V].

One family: DPO, and four ways to let scores of further objectives shift what DPO learns. The
original (`modpo`) is the loss of Zhou et al. 2023 (arXiv 2310.03708); `paper_eq1` and `paper_eq2`
are the two formulas of Self-MOA (arXiv 2603.07017, appendix A.3) as they are printed, in which beta
multiplies the scores too; `no_w0` is the original without its division, our reading of what the
second was meant to be. They have different fixed points: see `Preference`.

Pinned by tests/losses/test_preference.py, tests/losses/test_preference_forms.py and
tests/parity/test_dpo_trl.py.
Letters: B pairs, K further objectives; the second axis is (preferred, other).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxsafety.core.errors import bad

FORMS = ("dpo", "modpo", "paper_eq1", "paper_eq2", "no_w0")
DIVIDED = ("modpo", "paper_eq1")  # by w0
ORIENTATIONS = ("high", "low")


@dataclass(frozen=True)
class Preference:
    """Settings of the family; equal ones are equal by `==`, so that equal stages share a step.

    With D the gain of the preferred answer over the other one and s[k] the difference of their
    scores, both as `preference` has them, the logit z and the D at which the expected gradient
    vanishes, if pairs are ordered by Bradley-Terry with a difference r of rewards:

        form        z                            D
        dpo         beta D                       r / beta
        modpo       (beta D - sum w s) / w0      (w0 r + sum w s) / beta
        paper_eq1   beta (D - sum w s) / w0      w0 r / beta + sum w s
        paper_eq2   beta (D - sum w s)           r / beta + sum w s
        no_w0       beta D - sum w s             (r + sum w s) / beta

    Attributes:
      form: one of `FORMS`.
      beta: how strongly the policy is held to the reference, per nat.
      weights: (w0, w1, ..., wK): of the objective that orders the pairs, and of each whose scores
        the pairs bring. w0 divides in two forms and does nothing in the others.
      orientations: K of "high", a higher score is better (a probability of being safe), or "low",
        it is worse (of being unsafe). There is no default.
      smoothing: share of the pairs that are taken to be the wrong way round (conservative DPO,
        Mitchell 2023), 0 or more and below 0.5.
      normalised: mean log-probabilities of an answer's tokens in place of sums, of policy and
        reference alike.

    Raises:
      UsageError: a value outside of these, scores with a form that has none, an objective without
        an orientation.

    Example:
      >>> from jaxsafety.losses.preference import Preference
      >>> Preference("modpo", weights=(0.01, 0.99), orientations=("high",)).objectives
      1
      >>> Preference("modpo", weights=(0.01, 0.99))
      Traceback (most recent call last):
        ...
      jaxsafety.core.errors.UsageError: preference.orientations: got (); allowed: high or low for \
each of the 1 weights behind w0
    """

    form: str = "dpo"
    beta: float = 0.1
    weights: tuple[float, ...] = (1.0,)
    orientations: tuple[str, ...] = ()
    smoothing: float = 0.0
    normalised: bool = False

    def __post_init__(self) -> None:
        """Rejects what has no meaning."""
        if self.form not in FORMS:
            raise bad("preference.form", self.form, ", ".join(FORMS))
        if not (math.isfinite(self.beta) and self.beta > 0):
            raise bad("preference.beta", self.beta, "a finite number above 0")
        least = "more than 0" if self.form in DIVIDED else "0 or more"
        if not self.weights or not all(math.isfinite(w) and w >= 0 for w in self.weights):
            raise bad("preference.weights", self.weights, f"(w0, w1, ...): w0 {least}, others 0 up")
        if self.form in DIVIDED and not self.weights[0]:
            raise bad("preference.weights", self.weights, f"w0 {least}: {self.form} divides by it")
        if self.form == "dpo" and len(self.weights) > 1:
            other = ", ".join(FORMS[1:])
            raise bad("preference.weights", self.weights, f"(1.0,) with dpo; {other} read scores")
        known = all(one in ORIENTATIONS for one in self.orientations)
        if not known or len(self.orientations) != self.objectives:
            allowed = f"high or low for each of the {self.objectives} weights behind w0"
            raise bad("preference.orientations", self.orientations, allowed)
        if not 0 <= self.smoothing < 0.5:
            raise bad("preference.smoothing", self.smoothing, "0 or more, below 0.5")

    @property
    def objectives(self) -> int:
        """K, the further objectives."""
        return max(len(self.weights) - 1, 0)


def shift(settings: Preference, scores: jax.Array) -> jax.Array:
    """[B] sum_k w[k] s[k], s[k] how much better the preferred answer is by objective k.

    Args:
      settings: with weights and orientations of K objectives.
      scores: [B,2,K] in [0,1].

    Raises:
      UsageError: another K.
    """
    if scores.shape[-1] != settings.objectives:
        allowed = f"{settings.objectives}, as the weights behind w0"
        raise bad("preference.scores", f"{scores.shape[-1]} objectives", allowed)
    total = jnp.zeros(scores.shape[0], jnp.result_type(float))
    for k, (weight, towards) in enumerate(
        zip(settings.weights[1:], settings.orientations, strict=True)
    ):
        better = scores[:, 0, k] - scores[:, 1, k]
        total = total + weight * (better if towards == "high" else -better)
    return total


def logits(settings: Preference, gain: jax.Array, shifted: jax.Array) -> jax.Array:
    """[B] z of `Preference`, of D [B] in nats and the sum of w s [B]."""
    beta, w0 = settings.beta, settings.weights[0]
    if settings.form == "dpo":
        return beta * gain
    if settings.form == "modpo":
        return (beta * gain - shifted) / w0
    if settings.form == "paper_eq1":
        return beta * (gain - shifted) / w0
    if settings.form == "paper_eq2":
        return beta * (gain - shifted)
    return beta * gain - shifted


def preference(
    settings: Preference,
    policy: jax.Array,
    reference: jax.Array,
    weight: jax.Array,
    *,
    scores: jax.Array | None = None,
    label: jax.Array | None = None,
    sizes: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Minus the log-likelihood of the order of each pair, weighted over pairs.

        D[b]  = (policy[b,0] - reference[b,0]) - (policy[b,1] - reference[b,1])
        p[b]  = label[b] (1 - smoothing) + (1 - label[b]) smoothing
        loss  = - sum_b weight[b] (p[b] log sigma(z[b]) + (1 - p[b]) log sigma(-z[b]))

    z is that of `Preference`. DPO is Rafailov et al. 2023 (arXiv 2305.18290), eq. 7.

    Args:
      settings: form and constants.
      policy: [B,2] log-probability of each whole answer under what is trained, in nats.
      reference: [B,2] likewise under what it is held to; nothing is differentiated through it.
      weight: [B], 1 together over a step's batch.
      scores: [B,2,K] of the further objectives; None where there are none.
      label: [B] how sure the order is, from 0 to 1; None is sure.
      sizes: [B,2] tokens of each answer, which `normalised` divides by.

    Returns:
      (loss, {"margin", "preferred"}): mean of beta D, and the share of pairs with D above 0.

    Raises:
      UsageError: scores of another number of objectives, `normalised` without sizes.
    """
    if settings.normalised:
        if sizes is None:
            raise bad("preference.sizes", None, "tokens of each answer, with normalised")
        count = jnp.maximum(sizes, 1)
        policy, reference = policy / count, reference / count
    gains = policy - jax.lax.stop_gradient(reference)
    gain = gains[:, 0] - gains[:, 1]
    given = jnp.zeros((*policy.shape, 0)) if scores is None else scores
    z = logits(settings, gain, shift(settings, given))
    sure = jnp.ones_like(gain) if label is None else label
    eps = settings.smoothing
    right = sure * (1 - eps) + (1 - sure) * eps
    told = right * jax.nn.log_sigmoid(z) + (1 - right) * jax.nn.log_sigmoid(-z)
    metrics = {
        "margin": jnp.sum(weight * settings.beta * gain),
        "preferred": jnp.sum(weight * (gain > 0)),
    }
    return -jnp.sum(weight * told), jax.lax.stop_gradient(metrics)


def dpo(
    policy: jax.Array, reference: jax.Array, weight: jax.Array, *, beta: float = 0.1
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Direct preference optimisation: -log sigma of the margin, weighted over pairs.

        m[b]  = beta ((policy[b,0] - reference[b,0]) - (policy[b,1] - reference[b,1]))
        loss  = - sum_b weight[b] log sigma(m[b])

    Rafailov et al. 2023 (arXiv 2305.18290), eq. 7; `preference` with the form "dpo". It is log 2
    where policy and reference agree.

    Args:
      policy: [B,2] log-probability of each whole answer under what is trained, in nats.
      reference: [B,2] likewise under what it is held to; nothing is differentiated through it.
      weight: [B], 1 together over a step's batch.
      beta: how strongly it is held, per nat.

    Returns:
      (loss, {"margin", "preferred"}): mean margin m, and the share of pairs with m above 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsafety.losses.preference import dpo
      >>> told = jnp.array([[-3.0, -9.0]])
      >>> loss, metrics = dpo(told, jnp.array([[-5.0, -5.0]]), jnp.ones(1), beta=0.5)
      >>> print(f"{loss:.3f} {metrics['margin']:.1f}")
      0.049 3.0
    """
    return preference(Preference(beta=beta), policy, reference, weight)
