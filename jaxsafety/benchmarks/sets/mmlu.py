r"""MMLU: exam questions of 57 subjects with four choices behind letters.

Hendrycks et al. 2021, arXiv 2009.03300; hendrycks/test, cais/mmlu. Scored as lm-eval 0.4.13 does it
without examples (`lm_eval/tasks/mmlu/default/_default_template_yaml` and `mmlu_<subject>.yaml` of
the installed package, which name the columns too): the letters continue
"{question}\nA. {first}\n...\nAnswer:" behind a line on the subject, which a chat template gets as
the system's turn; lm-eval gives acc alone, and acc_norm is the same, as all letters are one
character. lm-eval's mean is over subjects by their size, so it is the mean over all rows.
"""

from __future__ import annotations

from typing import Any

from jaxsafety.benchmarks import options
from jaxsafety.benchmarks.public import PublicSet
from jaxsafety.data.files.columns import Asked, Row, text

PAPERS = {"2009.03300": ""}

# the wording of lm-eval's task files (MIT), which its numbers depend on
SUBJECT = "The following are multiple choice questions (with answers) about {}.\n\n"


def more(row: Row, asked: Asked) -> dict[str, Any]:
    """The letters as answers, behind the line on the subject."""
    subject = text(row, "subject").replace("_", " ")
    return {**options.lettered(row, asked), "description": SUBJECT.format(subject)}


SET = PublicSet(
    name="mmlu",
    kind="capability",
    licence="MIT",
    source="hendrycks/test, arXiv 2009.03300",
    files=(
        "mmlu/all/test-*.parquet",
        "mmlu/test-*.parquet",
        "mmlu_test.jsonl",
        "mmlu_test*.jsonl",
        "mmlu_dev.jsonl",
    ),
    versions={
        "0412fea94dac70a6d57d824b61410176ae6a3e0ad6da788162c98dbf0f5a7f8a": "1404 of the test rows",
        "9302ec4ac71f92a2480466147831cd7d03e725e322c6f6ebd6b09a9100ba128a": "dev, 285 rows",
    },
    layout=("MMLU",),
    columns=("subject", "question", "choices", "answer"),
    categories=("subject",),
    more=more,
    form="choices",
    max_tokens=64,
    header="lm-eval 0.4.13's task files; the files themselves",
)
