r"""PIQA: everyday goals, two ways to each, one of which works.

Bisk et al. 2020, arXiv 1911.11641. Scored as lm-eval 0.4.13 does it (`lm_eval/tasks/piqa/piqa.yaml`
of the installed package, which names the columns too): each solution continues
"Question: {goal}\nAnswer:"; acc and acc_norm. The set as first published keeps its labels in a file
of its own and is not read.
"""

from __future__ import annotations

from typing import Any

from jaxsafety.benchmarks import options
from jaxsafety.benchmarks.public import PublicSet
from jaxsafety.data.files.columns import Asked, Row

PAPERS = {"1911.11641": ""}


def more(row: Row, asked: Asked) -> dict[str, Any]:
    """The two solutions as answers to the goal."""
    if "goal" not in row:
        return options.answered(row, asked)
    texts = (str(row["sol1"]), str(row["sol2"]))
    return options.continued(f"Question: {row['goal']}\nAnswer:", texts, "AB".index(asked.gold))


SET = PublicSet(
    name="piqa",
    kind="capability",
    licence="AFL-3.0",
    source="ybisk/piqa, arXiv 1911.11641",
    files=("piqa/validation-*.parquet", "piqa/valid*.jsonl", "piqa.jsonl", "piqa_train_docs.jsonl"),
    versions={
        "3c5e36dc917849ef0f18766053d06fef97fc33321b1955c79e5531070495b3b4": "llm-foundry, 1838",
        "cc6e8cc15946af41e7692b0a07f51c56a83c0a0efec1e834d333d70ade4d8fde": "OLMo, 16113 to train",
    },
    layout=("PIQA", "query, choices and gold"),
    more=more,
    form="choices",
    max_tokens=64,
    header="lm-eval 0.4.13's task file; the files themselves",
)
