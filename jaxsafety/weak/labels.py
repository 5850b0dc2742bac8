"""What a label model says: a soft label per item, and how good each source is.

`Labels` is the common result of `majority`, `dawid_skene` and `generative`. `Parameters` are what a
fitted model needs to label other items: class priors and P(outcome | class) of every source, where
an outcome is a class or an abstention. `posterior` is Bayes' rule with conditionally independent
sources (Dawid and Skene 1979, Maximum likelihood estimation of observer error-rates using the EM
algorithm, eq. 2.5):

    P(y = c | votes) = prior_c prod_j P(v_j | y = c) / sum over classes of the same

An item on which every source abstains keeps the prior and is `unlabelled`, in every model: nobody
said anything of it. (What silence alone would say by the formula is `Parameters.silence`.)

Letters: N items, J sources, C classes, O = C + 1 outcomes, the last an abstention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxsafety.core import disk
from jaxsafety.core.errors import bad
from jaxsafety.weak.votes import Votes

FORMAT = "jaxsafety weak labels 1"
NO_VOTE = "it never votes"
NO_CLASS = "it votes on no item of this class"
NOT_FITTED = "a vote share says nothing of how good its sources are"


class Estimate(NamedTuple):
    """A number with its interval; None with a cause where it cannot be known."""

    value: float | None
    lo: float | None = None
    hi: float | None = None
    cause: str = ""


@dataclass(frozen=True)
class Source:
    """How good a source is, by a label model.

    Attributes:
      name: of the source.
      votes: how many items it votes on.
      accuracy: P(its vote is right | it votes) = sum_c prior_c P(v = c | c) / P(it votes).
      by_class: by class, P(v = c | y = c, it votes).
    """

    name: str
    votes: int
    accuracy: Estimate
    by_class: Mapping[str, Estimate]


@dataclass(frozen=True, eq=False)
class Parameters:
    """A fitted label model: all that it needs to label other items.

    Attributes:
      model: which one.
      sources: J names.
      classes: C names.
      prior: [C].
      emission: [J,O,C] P(outcome | class). A model that takes an abstention for a missing vote has
        1 there, and the other outcomes add up to 1; otherwise all of them do.
    """

    model: str
    sources: tuple[str, ...]
    classes: tuple[str, ...]
    prior: np.ndarray
    emission: np.ndarray

    @property
    def silence(self) -> np.ndarray:
        """[C] P(y = c | every source abstains), by the formula."""
        return _bayes(self, np.full((1, len(self.sources)), len(self.classes)))[0]

    def posterior(self, votes: Votes) -> np.ndarray:
        """[N,C] P(y | votes); the prior where all abstain.

        A class that no source voted for in an item has what the formula gives: small where the
        sources are good, never exactly 0 unless the model itself has a 0.

        Raises:
          UsageError: other sources, or in another order, or other classes.
        """
        for field, own, given in (
            ("sources", self.sources, votes.sources),
            ("classes", self.classes, votes.classes),
        ):
            if own != given:
                raise bad(f"votes.{field}", ", ".join(given), f"the model's: {', '.join(own)}")
        outcomes = np.where(votes.voted, votes.array, len(self.classes))
        found = _bayes(self, outcomes)
        found[votes.silent] = self.prior
        return found

    def save(self, path: str | Path, **more: Any) -> None:
        """Writes them as JSON, whole or not at all; `more` are fields beside them."""
        fields = {"model": self.model, "sources": self.sources, "classes": self.classes}
        numbers = {"prior": self.prior.tolist(), "emission": self.emission.tolist()}
        disk.write_json(Path(path), {"format": FORMAT, **fields, **numbers, **more})


def load(path: str | Path) -> tuple[Parameters, dict[str, Any]]:
    """What `Parameters.save` wrote.

    Returns:
      The parameters, and the whole of the file.

    Raises:
      UsageError: no such file, another one, or numbers that are no probabilities.
    """
    found = disk.read_json(Path(path))
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise bad("weak", str(path), f"a JSON file of a fitted label model ({FORMAT!r})")
    try:
        names = tuple(map(str, found["sources"])), tuple(map(str, found["classes"]))
        prior = np.array(found["prior"], float)
        emission = np.array(found["emission"], float)
        model = str(found["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise bad("weak", f"{path} ({type(error).__name__})", "a whole file") from None
    j, c = map(len, names)
    shapes = prior.shape == (c,) and emission.shape == (j, c + 1, c)
    if not (c > 1 and j and shapes and _probabilities(prior) and _probabilities(emission)):
        raise bad("weak", f"{path}, prior or emission", "probabilities of its sources and classes")
    return Parameters(model, *names, prior, emission), found


def _probabilities(x: np.ndarray) -> bool:
    return bool(((x >= 0) & (x <= 1 + 1e-9)).all()) and bool((x.sum(axis=-1) > 0).any())


def _bayes(parameters: Parameters, outcomes: np.ndarray) -> np.ndarray:
    """[N,J] outcomes -> [N,C]."""
    with np.errstate(divide="ignore"):
        logs, prior = np.log(parameters.emission), np.log(parameters.prior)
    total = np.tile(prior, (len(outcomes), 1))
    for j in range(outcomes.shape[1]):
        total += logs[j][outcomes[:, j]]
    return normalise(total)[0]


def normalise(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[...,C] log joint -> [...,C] posterior and [...] log of its sum.

    Where every class is impossible (a vote that the model has never seen), all are equal and the
    log is -inf.
    """
    top = logs.max(axis=-1, keepdims=True)
    lost = ~np.isfinite(top)
    shifted = np.exp(np.where(lost, 0.0, logs - np.where(lost, 0.0, top)))
    total = shifted.sum(axis=-1, keepdims=True)
    log = np.where(lost, -np.inf, np.where(lost, 0.0, top) + np.log(total))
    return shifted / total, log[..., 0]


@dataclass(frozen=True, eq=False)
class Labels:
    """What a label model says of N items.

    Attributes:
      model: "majority", "dawid_skene" or "generative".
      votes: what it was made of.
      posterior: [N,C] soft labels; each row adds up to 1.
      unlabelled: [N] where all abstained, so that the row is the prior.
      tied: [N] where the two likeliest classes are equally likely (to 1e-9).
      prior: [C] class shares of the model.
      sources: how good each is, with intervals.
      parameters: to label other items by; None of a majority.
      log_likelihood: of the votes; None of a majority.
      iterations: of EM; 0 of a majority.
      converged: whether EM stopped before its limit; None of a majority.
      interval: what the intervals are, in words.
      warnings: what may be wrong, a line each.
    """

    model: str
    votes: Votes
    posterior: np.ndarray
    prior: np.ndarray
    sources: tuple[Source, ...]
    parameters: Parameters | None = None
    log_likelihood: float | None = None
    iterations: int = 0
    converged: bool | None = None
    interval: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def unlabelled(self) -> np.ndarray:
        """[N] where all abstained."""
        return self.votes.silent

    @property
    def tied(self) -> np.ndarray:
        """[N] where the two likeliest classes are equally likely."""
        two = np.sort(self.posterior, axis=1)[:, -2:]
        return two[:, 1] - two[:, 0] < 1e-9

    def hard(self) -> np.ndarray:
        """[N] the likeliest class; `ABSTAIN` (-1) where it is tied or unlabelled."""
        best = self.posterior.argmax(axis=1)
        return np.where(self.tied | self.unlabelled, -1, best)
