"""HellaSwag: beginnings of everyday scenes, four endings each, three of them written by a model.

Zellers et al. 2019, arXiv 1905.07830; rowanz/hellaswag, whose data/README.md (read in a public copy
at commit 6774d74) names the columns. Scored as lm-eval 0.4.13 does it
(`lm_eval/tasks/hellaswag/hellaswag.yaml` and `utils.py` of the installed package): the endings
continue "{activity_label}: {ctx_a} {ctx_b}", the first letter of ctx_b a capital and its others
small, with WikiHow's marks in brackets taken out of both; acc and acc_norm.
"""

from __future__ import annotations

import re
from typing import Any

from jaxsafety.benchmarks import options
from jaxsafety.benchmarks.public import PublicSet
from jaxsafety.data.files.columns import Asked, Row

PAPERS = {"1905.07830": ""}

MARK = re.compile(r"\[.*?\]")


def cleaned(words: str) -> str:
    """Text without WikiHow's marks: " [title]" ends a sentence, other brackets go."""
    whole = MARK.sub("", words.strip().replace(" [title]", ". "))
    return whole.replace("  ", " ")


def more(row: Row, asked: Asked) -> dict[str, Any]:
    """The endings of the scene.

    Raises:
      ValueError: a scene that is no text.
    """
    parts = [row[name] for name in ("activity_label", "ctx_a", "ctx_b")]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("texts under `activity_label`, `ctx_a` and `ctx_b`")
    label, first, second = parts
    begun = cleaned(f"{label}: {first} {second.capitalize()}")
    endings = [cleaned(str(one)) for one in row["endings"]]
    return options.continued(begun, endings, "ABCDEFGH".index(asked.gold))


SET = PublicSet(
    name="hellaswag",
    kind="capability",
    licence="MIT",
    source="rowanz/hellaswag, arXiv 1905.07830",
    files=(
        "hellaswag_val.jsonl",
        "hellaswag/*/validation-*.parquet",
        "hellaswag/validation-*.parquet",
    ),
    versions={},
    layout=("HellaSwag",),
    columns=("activity_label", "ctx_a", "ctx_b", "endings", "label"),
    categories=("activity_label",),
    more=more,
    form="choices",
    max_tokens=64,
    header="data/README.md of rowanz/hellaswag; lm-eval 0.4.13's task file",
)
