"""Labelling functions: what looks at exchanges and votes, or abstains, by its name.

A function of a registered judge's flag, of a list of phrases, of a limit of perplexity, or one of
your own: anything `(exchanges) -> [N] of classes or ABSTAIN` (Ratner et al. 2016, Data programming,
arXiv 1605.07723, section 2, where an abstention is written 0).

Letters: N items, J functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data.items import FLAGS
from jaxsafety.judges import gate, judging, thoughts, triggers
from jaxsafety.protocols import Exchange, Judge
from jaxsafety.weak.votes import ABSTAIN, SAFETY, Votes

Vote = Callable[[Sequence[Exchange]], Sequence[int] | np.ndarray]


@dataclass(frozen=True)
class Function:
    """A labelling function.

    Attributes:
      name: of the source.
      vote: exchanges -> [N] of a class or `ABSTAIN`.
    """

    name: str
    vote: Vote

    def __call__(self, exchanges: Sequence[Exchange]) -> np.ndarray:
        """[N] votes.

        Raises:
          UsageError: not one vote per exchange.
        """
        given = self.vote(exchanges)
        if len(given) != len(exchanges):
            raise bad(f"source {self.name}", f"{len(given)} votes", f"{len(exchanges)}, one each")
        return np.asarray(given, np.int32)


def ask(
    functions: Sequence[Function],
    exchanges: Sequence[Exchange],
    classes: Sequence[str] = SAFETY,
) -> Votes:
    """The votes of J functions on N exchanges, whose ids are those of their items.

    Raises:
      UsageError: two functions of a name, a vote that is no class.
    """
    if not functions:
        raise bad("votes.sources", "none", "one source or more")
    columns = [function(exchanges) for function in functions]
    names, ids = [f.name for f in functions], [e.item.id for e in exchanges]
    return Votes(names, np.stack(columns, axis=1), classes, ids)


def of_verdicts(
    verdicts: Sequence[Mapping[str, Any]], flag: str = "unsafe", sure: np.ndarray | None = None
) -> np.ndarray:
    """[N] votes by a flag of verdicts: True 1, False 0, None and NaN abstain.

    Args:
      verdicts: N of them.
      flag: one of `FLAGS`.
      sure: [N] whether the flag counts; None: it always does.
    """
    flags = [v.get(flag) for v in verdicts]
    found = np.array([ABSTAIN if f is None or f != f else int(bool(f)) for f in flags], np.int32)
    return found if sure is None else np.where(sure, found, ABSTAIN).astype(np.int32)


def of_judge(name: str, judge: Judge, *, flag: str = "unsafe", margin: float = 0.0) -> Function:
    """A judge as a labelling function.

    Args:
      name: of the source.
      judge: any; it judges every exchange.
      flag: True votes 1, False votes 0, None and NaN abstain.
      margin: how far a score must be from the judge's threshold, as a share of the way from there
        to the end of its range; what is nearer abstains, and so is a verdict without a score. For a
        probability with threshold 0.5 it is |2p - 1|. 0 asks no score.

    Raises:
      UsageError: an unknown flag; a margin outside of 0 to 1; one above 0 for a judge without
        `low`, `high` and `threshold`, of which no confidence is known.
    """
    if flag not in FLAGS:
        raise bad("source.flag", flag, ", ".join(FLAGS))
    if not 0 <= margin < 1:
        raise bad("source.margin", margin, "0 or more, below 1")
    ends = [getattr(judge, end, None) for end in ("low", "threshold", "high")]
    if margin and not all(isinstance(e, int | float) and np.isfinite(e) for e in ends):
        raise bad("source.margin", margin, f"0 for {name}: it has no score with a finite range")

    def vote(exchanges: Sequence[Exchange]) -> np.ndarray:
        verdicts = judging.judged(judge, exchanges)
        if not margin:
            return of_verdicts(verdicts, flag)
        low, middle, high = (float(e) for e in ends if e is not None)
        scores = [v.get("score") for v in verdicts]
        s = np.array([np.nan if x is None else float(x) for x in scores])
        way = np.where(s >= middle, high - middle, middle - low)
        with np.errstate(invalid="ignore", divide="ignore"):
            sure = np.abs(s - middle) >= margin * way
        return of_verdicts(verdicts, flag, sure)

    return Function(name, vote)


def of_phrases(
    name: str, phrases: Sequence[str], *, found: int, absent: int = ABSTAIN, regex: bool = False
) -> Function:
    """A list of phrases, or of regular expressions, looked for in answers without their thoughts.

    Args:
      name: of the source.
      phrases: what is looked for, in any case.
      found: the vote where one of them is there.
      absent: the vote where none is.
      regex: whether they are regular expressions rather than texts.

    Raises:
      UsageError: no phrase, or a pattern that is no regular expression.
    """
    if not phrases:
        raise bad(f"source {name}", "no phrases", "one or more")
    try:
        patterns = [re.compile(p if regex else re.escape(p), re.IGNORECASE) for p in phrases]
    except re.error as error:
        given = f"{error.pattern!r} ({error})"
        raise bad(f"source {name}", given, "regular expressions") from None

    def vote(exchanges: Sequence[Exchange]) -> list[int]:
        votes = []
        for exchange in exchanges:
            text = thoughts.spoken(exchange.response)
            if text is None:  # the thought never ended: nothing was said
                votes.append(ABSTAIN)
            else:
                votes.append(found if any(p.search(text) for p in patterns) else absent)
        return votes

    return Function(name, vote)


def of_perplexity(
    name: str,
    logps: Mapping[gate.Key, float | None],
    limit: float,
    *,
    above: int,
    below: int = ABSTAIN,
) -> Function:
    """A limit of an answer's perplexity under a frozen base; what was not measured abstains.

    Args:
      name: of the source.
      logps: by `judges.gate.key`, mean log-probabilities (`evaluation.perplexity.by_key`).
      limit: perplexity exp(-logp) above which the vote is `above`.
      above: a class or `ABSTAIN`.
      below: the vote at the limit and below.

    Raises:
      UsageError: a limit that is not above 0.
    """
    if not limit > 0:
        raise bad(f"source {name}, limit", limit, "above 0")

    def vote(exchanges: Sequence[Exchange]) -> list[int]:
        found = []
        for exchange in exchanges:
            logp = logps.get(gate.key(exchange))
            if logp is None or logp != logp:
                found.append(ABSTAIN)
            else:
                found.append(above if triggers.perplexity(float(logp)) > limit else below)
        return found

    return Function(name, vote)
