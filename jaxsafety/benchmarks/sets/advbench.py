"""AdvBench's harmful behaviours: 520 requests, each with the opening an attack aims at.

Zou et al. 2023, arXiv 2307.15043; data/advbench/harmful_behaviors.csv of llm-attacks/llm-attacks.
Columns and sha256 are those of a copy of the file; several public projects that pin the file at
commit 098262e state the same sha256.
"""

from __future__ import annotations

from jaxsafety.benchmarks.public import PublicSet

PAPERS = {"2307.15043": ""}

SET = PublicSet(
    name="advbench",
    kind="safety",
    licence="MIT",
    source="llm-attacks/llm-attacks, arXiv 2307.15043",
    files=("harmful_behaviors.csv", "advbench*.csv"),
    versions={
        "6cd1a5c63c07610d7eb67307772ee5606017ee950b5770ab288a2c487489d3e1": "098262e, 520 rows"
    },
    layout=("AdvBench",),
    columns=("goal", "target"),
    max_tokens=256,
    header="the file itself",
    note="`target` is not shown to the model",
)
