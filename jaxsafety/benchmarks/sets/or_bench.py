"""OR-Bench: harmless prompts that look toxic (80k of them, 1,319 hard ones), and toxic ones.

Cui et al. 2025, arXiv 2405.20947; bench-llm/or-bench. The prompts are made and sorted by a
pipeline of models; all but one of the hard ones are among the 80k.

No file was at hand. File names and columns (prompt, category) are those of the data set's card (a
public copy of it, revision e36d8b8); the sha256 of the hard file is stated by several public
projects, so is that of the toxic file; that of the 80k file by one.
"""

from __future__ import annotations

from jaxsafety.benchmarks.public import PublicSet

PAPERS = {"2405.20947": ""}

SOURCE = "bench-llm/or-bench, arXiv 2405.20947"
HEADER = "a copy of the data set's card"

HARD = PublicSet(
    name="or_bench_hard",
    kind="over_refusal",
    licence="CC-BY-4.0",
    source=SOURCE,
    files=("or-bench-hard-1k.csv", "or-bench-hard*.csv"),
    versions={
        "a6e2f1166416efe5901f3bb05c47dc92ab3aca3acfe143693d38b8057d841e6d": "e36d8b8, 1319 rows"
    },
    layout=("prompt",),
    columns=("prompt", "category"),
    exact=True,
    categories=("category",),
    max_tokens=256,
    header=HEADER,
    note="1,318 of its prompts are in the 80k too",
)

MANY = PublicSet(
    name="or_bench_80k",
    kind="over_refusal",
    licence="CC-BY-4.0",
    source=SOURCE,
    files=("or-bench-80k.csv", "or-bench-80k*.csv"),
    versions={
        "22e956020cdfdd43c328f02441f003c933ee4e7083d02d9d24e414e4b42ae2e6": "e36d8b8, 80359 rows"
    },
    layout=("prompt",),
    columns=("prompt", "category"),
    exact=True,
    categories=("category",),
    max_tokens=256,
    header=HEADER,
    note="large: use a limit; the sha256 is stated by one project",
)

TOXIC = PublicSet(
    name="or_bench_toxic",
    kind="safety",
    licence="CC-BY-4.0",
    source=SOURCE,
    files=("or-bench-toxic.csv", "or-bench-toxic*.csv"),
    versions={
        "3be45901faae3b4b2b51bf7f8a2784c1650a1cc8c631dbc8b171d5312d4e0057": "e36d8b8, 655 rows"
    },
    layout=("prompt",),
    columns=("prompt", "category"),
    exact=True,
    categories=("category",),
    max_tokens=256,
    header=HEADER,
    note="toxic by that pipeline",
)
