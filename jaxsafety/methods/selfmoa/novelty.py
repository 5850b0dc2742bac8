"""Which rewritten prompts are new: the filter of red-teaming by expansion.

Self-MOA (arXiv 2603.07017, section 4) keeps an expansion that was never seen before and whose BLEU
with its seed is below 0.25. The code of APRT, on which it builds, also asks that it be as long as
the seed and at most 1.5 times that, and passes the weights (1, 1, 0, 0), which do not sum to 1:
so its score is p1 * p2 and not their geometric mean. `weights` has both readings.
Pinned by tests/methods/test_selfmoa_novelty.py and tests/parity/test_bleu.py (nltk).
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from jaxsafety.core.errors import bad

# Of 1-grams and 2-grams: as they stand in the code, and normalised.
WEIGHTS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"product": (1.0, 1.0), "mean": (0.5, 0.5)}
)
REASONS = ("empty", "short", "long", "seen", "alike")


@dataclass(frozen=True)
class Novelty:
    """Settings.

    Attributes:
      most: BLEU with the seed is at most this.
      weights: "product" or "mean", see `WEIGHTS`.
      shortest: times the seed's characters; 0 is no limit.
      longest: likewise; 0 is no limit.
    """

    most: float = 0.25
    weights: str = "product"
    shortest: float = 1.0
    longest: float = 1.5

    def __post_init__(self) -> None:
        """Rejects a filter that nothing passes, and an unknown reading."""
        if not 0 <= self.most <= 1:
            raise bad("method.novelty.most", self.most, "a BLEU in [0, 1]")
        if self.weights not in WEIGHTS:
            raise bad("method.novelty.weights", self.weights, " | ".join(WEIGHTS))
        for name in ("shortest", "longest"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                allowed = "a finite number, 0 (no limit) or more"
                raise bad(f"method.novelty.{name}", getattr(self, name), allowed)
        if self.longest and self.longest < self.shortest:
            given = f"{self.shortest} to {self.longest}"
            raise bad("method.novelty.shortest, longest", given, "a range that is not empty")


def bleu(reference: Sequence[str], said: Sequence[str], weights: Sequence[float]) -> float:
    """BLEU of one sentence with one reference, without smoothing (Papineni et al. 2002).

        BP exp(sum_n w_n log p_n),   BP = min(1, exp(1 - |reference| / |said|))

    p_n: the share of n-grams of `said` that the reference has, each counted at most as often as
    there. Without any word in common it is 0; another p_n of 0 counts as the smallest number, as in
    nltk. An n-gram order that `said` is too short for has p_n = 0.

    Args:
      reference: words.
      said: words.
      weights: w_1, w_2, ...

    Example:
      >>> from jaxsafety.methods.selfmoa.novelty import bleu
      >>> bleu("how is it made".split(), "how is it done".split(), (0.5, 0.5)).__round__(3)
      0.707
    """
    found = [_precision(reference, said, n) for n in range(1, len(weights) + 1)]
    if not found or not found[0][0]:
        return 0.0
    logs = [math.log(hit / of if hit else sys.float_info.min) for hit, of in found]
    short = min(0.0, 1 - len(reference) / len(said))
    return math.exp(short) * math.exp(math.fsum(w * x for w, x in zip(weights, logs, strict=True)))


def _precision(reference: Sequence[str], said: Sequence[str], n: int) -> tuple[int, int]:
    """How many n-grams are in the reference, and of how many; at least of one."""
    ours, theirs = _grams(said, n), _grams(reference, n)
    hit = sum(min(count, theirs[gram]) for gram, count in ours.items())
    return hit, max(1, sum(ours.values()))


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def why_not(seed: str, said: str, seen: Collection[str], settings: Novelty) -> str:
    """Why an expansion is not kept, one of `REASONS`; "" where it is.

    Args:
      seed: the prompt.
      said: what was made of it.
      seen: all prompts that were there before.
      settings: the filter.
    """
    if not said.strip():
        return "empty"
    if settings.shortest and len(said) < settings.shortest * len(seed):
        return "short"
    if settings.longest and len(said) > settings.longest * len(seed):
        return "long"
    if said in seen:
        return "seen"
    alike = bleu(seed.split(), said.split(), WEIGHTS[settings.weights])
    return "alike" if alike > settings.most else ""
