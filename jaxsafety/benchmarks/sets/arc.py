r"""ARC: school science questions with mostly four choices, an easy and a challenge set.

Clark et al. 2018, arXiv 1803.05457; allenai/ai2_arc. Scored as lm-eval 0.4.13 does it
(`lm_eval/tasks/arc/arc_easy.yaml` and `arc_challenge.yaml` of the installed package, which name the
columns too): each choice continues "Question: {question}\nAnswer:"; acc and acc_norm.

The files whose sha256 are known are mosaicml/llm-foundry's (`query`, `choices`, `gold`) and
allenai/OLMo's of the training questions, in whose query the choices are shown behind letters; the
same question and choices are read from all of them.
"""

from __future__ import annotations

from jaxsafety.benchmarks import options
from jaxsafety.benchmarks.public import PublicSet

PAPERS = {"1803.05457": ""}

LAYOUT = ("ARC", "query, choices and gold")
LICENCE = "CC BY-SA 4.0"
SOURCE = "allenai/ai2_arc, arXiv 1803.05457"
HEADER = "lm-eval 0.4.13's task file; the files themselves"

EASY = PublicSet(
    name="arc_easy",
    kind="capability",
    licence=LICENCE,
    source=SOURCE,
    files=(
        "arc-easy-test.jsonl",
        "arc-easy/test-*.parquet",
        "arc_easy.jsonl",
        "arc_easy_train_docs.jsonl",
    ),
    versions={
        "5ee070d959cfb37fd15eee292f0f1916841915abee7f411ab62ba70e0313c5c3": "llm-foundry, 2376",
        "d88118df8a4663775b552944147c5983fcb88f46d573a3840878d748574bd986": "OLMo, 2251 to train",
    },
    layout=LAYOUT,
    more=options.answered,
    form="choices",
    max_tokens=64,
    header=HEADER,
)

CHALLENGE = PublicSet(
    name="arc_challenge",
    kind="capability",
    licence=LICENCE,
    source=SOURCE,
    files=(
        "arc-challenge-test.jsonl",
        "arc-challenge/test-*.parquet",
        "arc_challenge.jsonl",
        "arc_challenge_train_docs.jsonl",
    ),
    versions={
        "1ae3aeedf1951d881cbd5c2e3a31e78a1993d251479afbe4cb413b6707244636": "llm-foundry, 1172",
        "2d4d3f186c1eac9dfaffd5681061d5f764c89ac7df7437c55ca8b7ddb1bde795": "OLMo, 1119 to train",
    },
    layout=LAYOUT,
    more=options.answered,
    form="choices",
    max_tokens=64,
    header=HEADER,
)
