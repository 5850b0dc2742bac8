"""OpenBookQA: beginnings of sentences about everyday science, four endings each.

Mihaylov et al. 2018, arXiv 1809.02789; allenai/openbookqa. Scored as lm-eval 0.4.13 does it
(`lm_eval/tasks/openbookqa/openbookqa.yaml` of the installed package, which names the columns too):
each choice continues the bare stem; acc and acc_norm.
"""

from __future__ import annotations

from typing import Any

from jaxsafety.benchmarks import options
from jaxsafety.benchmarks.public import PublicSet
from jaxsafety.data.files.columns import Asked, Row

PAPERS = {"1809.02789": ""}


def more(row: Row, asked: Asked) -> dict[str, Any]:
    """The choices as endings of the stem."""
    return options.continued(*options.read(row, asked))


SET = PublicSet(
    name="openbookqa",
    kind="capability",
    licence="Apache-2.0",
    source="allenai/openbookqa, arXiv 1809.02789",
    files=(
        "openbookqa/main/test-*.parquet",
        "openbookqa/test*.jsonl",
        "openbook_qa.jsonl",
        "openbookqa_train_docs.jsonl",
    ),
    versions={
        "adb2e5c7f8db810ddad4d6b2bf53dcc86dcc545499f7aafcaf42a8e179476c09": "llm-foundry, 500",
        "293bfb12ccfcfb371c2ab349b915a64c31a1145ec310b9005b41814c3e0b1688": "OLMo, 4957 to train",
    },
    layout=("ARC", "OpenBookQA", "query, choices and gold"),
    more=more,
    form="choices",
    max_tokens=64,
    header="lm-eval 0.4.13's task file; the files themselves",
)
