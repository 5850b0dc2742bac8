"""WinoGrande: sentences with a gap that one of two words fits.

Sakaguchi et al. 2020, arXiv 1907.10641; allenai/winogrande, whose README.md (read in a public copy
at commit 26e82cc) names the files and the licence. Scored as lm-eval 0.4.13 does it
(`lm_eval/tasks/winogrande/default.yaml` and `preprocess_winogrande.py` of the installed package,
which name the columns): each word fills the gap of a context of its own, and what is compared is
the probability of the same rest of the sentence after it; acc alone.
"""

from __future__ import annotations

from typing import Any

from jaxsafety.benchmarks.public import PublicSet
from jaxsafety.data.files.columns import Asked, Row, text

PAPERS = {"1907.10641": ""}

GAP = "_"


def more(row: Row, asked: Asked) -> dict[str, Any]:
    """Two contexts with one continuation.

    Raises:
      ValueError: a sentence without a gap, or with nothing behind it.
    """
    before, gap, after = str(row["sentence"]).partition(GAP)
    if not gap or not after.strip():
        raise ValueError("a `sentence` with _ and more behind it")
    words = [text(row, "option1"), text(row, "option2")]
    contexts = [before + word for word in words]
    return {
        "context": contexts,
        "continuations": [after.strip()],
        "target": "AB".index(asked.gold),
    }


SET = PublicSet(
    name="winogrande",
    kind="capability",
    licence="CC-BY",
    source="allenai/winogrande, arXiv 1907.10641",
    files=(
        "winogrande*/*/validation-*.parquet",
        "winogrande_xl/validation-*.parquet",
        "winogrande*/dev.jsonl",
        "winogrande_dev.jsonl",
    ),
    versions={},
    layout=("WinoGrande",),
    columns=("sentence", "option1", "option2", "answer"),
    more=more,
    form="choices",
    max_tokens=64,
    header="lm-eval 0.4.13's task file",
)
