"""SORRY-Bench's base prompts: 440 unsafe instructions in 44 categories of equal size.

Xie et al. 2025, arXiv 2406.14598; question.jsonl of sorry-bench/sorry-bench-202503, which asks for
an agreement before it lets one in. Only prompts of the style "base" are used: the twenty others are
the same requests, misspelt, translated, encoded or with persuasion around them.

No file was at hand. The files and the categories are those of the data set's card (a public copy of
it); the fields question_id, category, turns and prompt_style are read by four public loaders found
by `prompt_style"] == "base"`, and another says that some prompts are null, which are left out here.
"""

from __future__ import annotations

from jaxsafety.benchmarks.public import PublicSet
from jaxsafety.data.files.columns import Row, text

PAPERS = {"2406.14598": ""}


def keep(row: Row) -> str:
    """Why a row is left out: another style than "base", or no text.

    Raises:
      ValueError: `prompt_style` that is no text.
    """
    if text(row, "prompt_style").strip() != "base":
        return "of other prompt styles"
    turns = row["turns"]
    empty = isinstance(turns, list) and len(turns) == 1 and turns[0] in (None, "")
    return "without a prompt" if empty else ""


SET = PublicSet(
    name="sorry_bench",
    kind="safety",
    licence="SORRY-Bench Dataset License Agreement (not to be passed on)",
    source="sorry-bench/sorry-bench-202503, arXiv 2406.14598",
    files=("sorry*/question.jsonl", "sorry*/*/question.jsonl", "sorry*bench*.jsonl"),
    versions={},
    layout=("SORRY-Bench",),
    columns=("category", "turns", "prompt_style"),
    categories=("category", "prompt_style"),
    keep=keep,
    max_tokens=256,
    header="a copy of the data set's card, and public loaders",
    note="the style `base` alone; the card lets one leave out categories from 25 on",
)
