r"""CommonsenseQA: everyday questions with five choices behind letters.

Talmor et al. 2019, arXiv 1811.00937; tau/commonsense_qa. Scored as lm-eval 0.4.13 does it
(`lm_eval/tasks/commonsense_qa/default.yaml` of the installed package, which names the columns too):
the letters continue "Question: {question}\nA. {first}\n...\nAnswer:"; lm-eval gives acc alone, and
acc_norm is the same, as all letters are one character.

mosaicml/llm-foundry's file has four of the five choices, so its numbers are not those of the set.
"""

from __future__ import annotations

from typing import Any

from jaxsafety.benchmarks import options
from jaxsafety.benchmarks.public import PublicSet
from jaxsafety.data.files.columns import Asked, Row

PAPERS = {"1811.00937": ""}


def more(row: Row, asked: Asked) -> dict[str, Any]:
    """The letters as answers."""
    return options.lettered(row, asked, head="Question: ")


SET = PublicSet(
    name="commonsense_qa",
    kind="capability",
    licence="MIT",
    source="tau/commonsense_qa, arXiv 1811.00937",
    files=(
        "commonsense_qa/*/validation-*.parquet",
        "commonsense_qa/validation-*.parquet",
        "dev_rand_split.jsonl",
        "commonsense_qa.jsonl",
        "csqa_train_docs.jsonl",
    ),
    versions={
        "2771f63f8127c0725b1f6b0ef2cd2ef6469168ae5875fc8d276b25b4f32c8c1a": "llm-foundry, 1221,"
        " four of five choices",
        "caf8d358997e44ca2ce52ac88240eb2a4951542b0ff4407a79fcfa5852a8f0d9": "OLMo, 9741 to train",
    },
    layout=("ARC", "query, choices and gold"),
    more=more,
    form="choices",
    max_tokens=64,
    header="lm-eval 0.4.13's task file; the files themselves",
)
