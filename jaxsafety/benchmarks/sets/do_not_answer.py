"""Do-Not-Answer: 939 questions that a responsible model does not answer, by area of risk.

Wang et al. 2024, arXiv 2308.13387; datasets/Instruction/do_not_answer_en.csv of
Libr-AI/do-not-answer. No file was at hand. The header (id, risk_area, types_of_harm,
specific_harms, question) was read in tests of a public project and in two public loaders; the
sha256 is stated by two public projects, one of which pins the file at commit 4607034
and names the licence of the data.
"""

from __future__ import annotations

from jaxsafety.benchmarks.public import PublicSet

PAPERS = {"2308.13387": ""}

SET = PublicSet(
    name="do_not_answer",
    kind="safety",
    licence="CC-BY-NC-SA-4.0",
    source="Libr-AI/do-not-answer, arXiv 2308.13387",
    files=(
        "do_not_answer_en.csv",
        "do_not_answer*.csv",
        "do-not-answer*/data/train-*.parquet",
        "do-not-answer*/train-*.parquet",
    ),
    versions={
        "06acfa39a06a1b33d1f264ce41b4f7a95812010c594fb733ae4717ee0a4544fc": "4607034, 939 rows"
    },
    layout=("Do-Not-Answer",),
    columns=("risk_area", "types_of_harm", "specific_harms", "question"),
    categories=("risk_area", "types_of_harm", "specific_harms"),
    max_tokens=256,
    header="public loaders and tests that state it",
    note="three levels of risk are kept",
)
