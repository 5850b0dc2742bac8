r"""GSM8K: arithmetic in words, with worked answers that end in "#### number".

Cobbe et al. 2021, arXiv 2110.14168; openai/grade-school-math. The model answers in words; beside
our own reading of the answer stand lm-eval's two (`evaluation/filters.py`). meta["context"] is the
prompt of lm-eval 0.4.13's task file (`lm_eval/tasks/gsm8k/gsm8k.yaml`) without examples; lm-eval's
own default is five of them.
"""

from __future__ import annotations

from typing import Any

from jaxsafety.benchmarks.public import PublicSet
from jaxsafety.data.files.columns import Asked, Row

PAPERS = {"2110.14168": ""}


def more(row: Row, asked: Asked) -> dict[str, Any]:
    """The prompt as lm-eval writes it."""
    del asked
    return {"context": f"Question: {row['question']}\nAnswer:"}


SET = PublicSet(
    name="gsm8k",
    kind="capability",
    licence="MIT",
    source="openai/grade-school-math, arXiv 2110.14168",
    files=(
        "gsm8k/test.jsonl",
        "gsm8k_test.jsonl",
        "gsm8k/main/test-*.parquet",
        "gsm8k/train.jsonl",
    ),
    versions={
        "a8df3fbbe2e2c003bce980d68e16fb03ff69fc92c306c4029d126b967c5ec53b": "train, 7473 rows",
    },
    layout=("GSM8K",),
    columns=("question", "answer"),
    more=more,
    max_tokens=256,
    header="the file itself",
)
