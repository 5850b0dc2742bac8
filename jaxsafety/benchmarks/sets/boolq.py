r"""BoolQ: questions that people asked, answered yes or no from a passage.

Clark et al. 2019, arXiv 1905.10044; google/boolq. Scored as lm-eval 0.4.13 does it
(`lm_eval/tasks/super_glue/boolq/default.yaml` of the installed package, which names the columns
too): "no" and "yes" continue "{passage}\nQuestion: {question}?\nAnswer:". lm-eval gives acc alone.
"""

from __future__ import annotations

import re
from typing import Any

from jaxsafety.benchmarks import options
from jaxsafety.benchmarks.public import PublicSet
from jaxsafety.data.files.columns import Asked, Row

PAPERS = {"1905.10044": ""}

QUERY = re.compile(r"Passage: (.*)\nQuestion: (.*?)\??(?:\nAnswer:)?\s*", re.DOTALL)
CHOICES = ("no", "yes")


def more(row: Row, asked: Asked) -> dict[str, Any]:
    """No and yes as answers.

    Raises:
      ValueError: a query that is no passage with a question, or another answer.
    """
    if "passage" in row:
        passage, question = row["passage"], row["question"]
    else:
        found = QUERY.fullmatch(str(row["query"]))
        if found is None:
            raise ValueError('`query` of a passage and a question: "Passage: ...\\nQuestion: ..."')
        passage, question = found.groups()
    if asked.gold not in CHOICES:
        raise ValueError(f"an answer of yes or no, not {asked.gold!r}")
    context = f"{passage}\nQuestion: {question}?\nAnswer:"
    return options.continued(context, CHOICES, CHOICES.index(asked.gold))


SET = PublicSet(
    name="boolq",
    kind="capability",
    licence="CC BY-SA 3.0",
    source="google/boolq, arXiv 1905.10044",
    files=("boolq/validation-*.parquet", "boolq/dev.jsonl", "boolq/val.jsonl", "boolq.jsonl"),
    versions={
        "81df8d8bf08f12eaf220ccb196360d8c9c1916b2990847f0118991c0605d50f8": "llm-foundry, 3270",
    },
    layout=("BoolQ", "query, choices and gold"),
    more=more,
    form="choices",
    max_tokens=64,
    header="lm-eval 0.4.13's task file; the file itself",
)
