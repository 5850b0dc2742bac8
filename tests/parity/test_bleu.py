"""Our BLEU is nltk's, smallest numbers included."""

from __future__ import annotations

import math
import random
import warnings

import pytest

from jaxsafety.methods.selfmoa.novelty import WEIGHTS, bleu

score = pytest.importorskip("nltk.translate.bleu_score", reason="nltk is not installed")

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("weights", [*WEIGHTS.values(), (1.0,), (0.25,) * 4])
def test_sentence_bleu(weights):
    rng = random.Random(0)
    warnings.simplefilter("ignore")  # it warns of every order without a match
    for _ in range(300):
        seed, said = (rng.choices("a b c d e".split(), k=rng.randint(1, 9)) for _ in range(2))
        theirs = score.sentence_bleu([seed], said, weights=weights)
        assert math.isclose(bleu(seed, said, weights), theirs, rel_tol=1e-9, abs_tol=1e-300)
