"""A judge's rate, corrected by labels of some of its answers.

A judge that errs alike on every arm leaves their difference alone; one that misses more of one
arm's refusals than of another's does not, and no number of answers mends that. A few labels do:

    rate = mean over all N of judge + mean over the n labelled of (label - judge)

which is unbiased whatever the judge is, and the more precise the better it is (the difference
estimator of survey sampling; Angelopoulos et al. 2023, arXiv 2301.09633, "prediction-powered
inference"). What is added is missed - false: the shares of the labelled that the label alone, and
the judge alone, calls positive. Their textbook interval has no width where the judge made no error
among the labelled, so the three parts have Wilson's (the first one, with several answers to a
prompt, `intervals.interval`'s), put together as squares of their distances (MOVER; Zou and Donner
2008), and what the last two have in common beside them: they are shares of the same n answers, so
the variance of missed - false has a term of 2 missed false / n. Pinned by
tests/benchmarks/test_corrected.py, which also counts its coverage.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from jaxsafety.benchmarks.intervals import interval, wilson
from jaxsafety.core.errors import bad


class Corrected(NamedTuple):
    """A rate by labels and judge, with its 95 % interval, and what the judge did.

    `rate` may lie outside 0 to 1 where labels are few; `lo` and `hi` are cut there. `judged` is the
    judge's rate over `n` answers; of the `labelled` ones the judge `missed` and gave `false` alarm
    in these shares.
    """

    rate: float
    lo: float
    hi: float
    judged: float
    missed: float
    false: float
    labelled: int
    n: int


def correct(
    judged: Sequence[bool | None],
    labels: Sequence[bool | None],
    clusters: Sequence[Hashable] | None = None,
) -> Corrected:
    """The rate of what labels call positive, from a judge of all and labels of some.

    Args:
      judged: [N] the judge's verdicts; answers it cannot tell (None) are left out.
      labels: [N] what people say, None where nobody was asked. Those asked are a random sample, and
        are asked about different prompts. A label of an answer that the judge cannot tell is left
        out with it.
      clusters: [N] prompts, where several answers belong to one.

    Raises:
      UsageError: lists of different lengths, no answer that has both, or two labelled answers to
        one prompt, which are not two draws.

    Example:
      >>> from jaxsafety.benchmarks.corrected import correct
      >>> judged = [True] * 40 + [False] * 60
      >>> labels = [True] * 10 + [None] * 30 + [True] * 2 + [False] * 8 + [None] * 50
      >>> found = correct(judged, labels)  # it misses two refusals of twenty
      >>> f"{found.judged:.2f} {found.rate:.2f} [{found.lo:.2f}, {found.hi:.2f}]"
      '0.40 0.50 [0.30, 0.72]'
    """
    counts = {len(judged), len(labels), len(judged if clusters is None else clusters)}
    if len(counts) > 1:
        raise bad("labels", f"{len(labels)} of {len(judged)} answers", "one, or None, for each")
    told = [i for i, verdict in enumerate(judged) if verdict is not None]
    both = [(bool(judged[i]), bool(labels[i])) for i in told if labels[i] is not None]
    if not both:
        raise bad("labels", "none", "one or more of an answer that the judge can tell")
    read = [clusters[i] for i in told if labels[i] is not None] if clusters else []
    if len(set(read)) < len(read):
        twice = next(prompt for prompt in read if read.count(prompt) > 1)
        raise bad("labels", f"two of the prompt {twice!r}", "one of each prompt")
    values = np.array([float(bool(judged[i])) for i in told])
    first = float(values.mean())
    ends = interval(values, None if clusters is None else [clusters[i] for i in told])
    size = len(both)
    missed = sum(label and not verdict for verdict, label in both) / size
    false = sum(verdict and not label for verdict, label in both) / size
    lost, alarm = wilson(missed * size, size), wilson(false * size, size)
    rate = first + missed - false
    shared = NormalDist().inv_cdf(0.975) * math.sqrt(2 * missed * false / size)
    down = math.hypot(first - ends[0], missed - lost[0], alarm[1] - false, shared)
    up = math.hypot(ends[1] - first, lost[1] - missed, false - alarm[0], shared)
    low, high = max(0.0, rate - down), min(1.0, rate + up)
    return Corrected(rate, min(low, 1.0), max(high, 0.0), first, missed, false, size, len(told))
