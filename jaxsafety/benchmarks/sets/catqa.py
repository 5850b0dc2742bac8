"""CatQA in English: harmful questions by category and subcategory.

Bhardwaj et al. 2024, arXiv 2402.11746; declare-lab/red-instruct. The file that was read has a
row per question (526), with the columns of the hub's copy, declare-lab/CategoricalHarmfulQA, in
lower case. The repository's own harmful_questions/catqa_english.json (read at commit 515aa9b, a
public copy) is one object: category -> subcategory -> list of questions.
"""

from __future__ import annotations

from typing import Any

from jaxsafety.benchmarks.public import PublicSet

PAPERS = {"2402.11746": ""}


def unpack(whole: dict[str, Any]) -> list[Any]:
    """Rows of the nested form.

    Raises:
      ValueError: another object.
    """
    rows = []
    for category, parts in whole.items():
        if not isinstance(parts, dict):
            raise ValueError(f"subcategories under {category!r}, each with a list of questions")
        for subcategory, questions in parts.items():
            if not isinstance(questions, list):
                raise ValueError(f"a list of questions under {category!r}, {subcategory!r}")
            rows += [
                {"category": category, "subcategory": subcategory, "question": question}
                for question in questions
            ]
    return rows


SET = PublicSet(
    name="catqa",
    kind="safety",
    licence="Apache-2.0",
    source="declare-lab/red-instruct, arXiv 2402.11746",
    files=("catqa_english.jsonl", "catqa_english.json", "catqa*english*.json*"),
    versions={
        "23a642324ff2f5d902376fc24a2b058a967e77f3dd1a388111681338f1444728": "526 rows, a line each"
    },
    layout=("CatQA",),
    columns=("category", "subcategory", "question"),
    categories=("category", "subcategory"),
    unpack=unpack,
    max_tokens=256,
    header="the file itself; the nested form: declare-lab/red-instruct, a public copy",
    note="some questions end in a stray `No`, some are hardly harmful",
)
