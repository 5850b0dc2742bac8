"""StrongREJECT's forbidden prompts: 313 in six categories, or the small file of 60.

Souly et al. 2024, arXiv 2402.10260; strongreject_dataset of alexandrasouly/strongreject. No file
was at hand. The header `category,source,forbidden_prompt` was read in two public loaders and one
source list found by that string; the sha256 of the full file is stated by several public projects
that pin it at commit f7cad6c.
"""

from __future__ import annotations

from jaxsafety.benchmarks.public import PublicSet

PAPERS = {"2402.10260": ""}

SET = PublicSet(
    name="strongreject",
    kind="safety",
    licence="MIT",
    source="alexandrasouly/strongreject, arXiv 2402.10260",
    files=("strongreject_dataset.csv", "strongreject_small_dataset.csv", "strongreject*.csv"),
    versions={
        "4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381": "f7cad6c, 313 rows"
    },
    layout=("StrongREJECT",),
    columns=("category", "source", "forbidden_prompt"),
    categories=("category", "source"),
    max_tokens=256,
    header="public loaders that state it",
    note="some prompts are AdvBench's and others' (`source`)",
)
