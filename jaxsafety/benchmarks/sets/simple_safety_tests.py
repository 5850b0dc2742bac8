"""SimpleSafetyTests: 100 plain requests in five areas of harm.

Vidgen et al. 2023, arXiv 2311.08370; "SimpleSafetyTests - test cases.csv" of
bertiev/SimpleSafetyTests. No file was at hand. Its header (id, harm_area, counter, category,
prompts_final) and sha256 are stated by a public project's record of its sources, which pins the
file at commit d7aee9a; two public loaders of a course's copy read the same columns. The hub's copy
(sst_test_cases.csv) calls the column `prompt`, as two public notes say. The licence is that of the
repository's LICENSE file as one of them quotes it (the hub's tag is CC-BY-2.0).
"""

from __future__ import annotations

from jaxsafety.benchmarks.public import PublicSet

PAPERS = {"2311.08370": ""}

SET = PublicSet(
    name="simple_safety_tests",
    kind="safety",
    licence="CC-BY-4.0",
    source="bertiev/SimpleSafetyTests, arXiv 2311.08370",
    files=(
        "simplesafetytests - test cases.csv",
        "simple_safety_tests.csv",
        "sst_test_cases.csv",
        "simplesafetytests*.csv",
    ),
    versions={
        "6d95a1301e0d0f3a3c4cf5392f4afff11ad6e3066f95d23aaa138d44aedf986c": "d7aee9a, 100 rows"
    },
    layout=("SimpleSafetyTests", "prompt"),
    columns=("harm_area",),
    categories=("harm_area", "category"),
    max_tokens=256,
    header="a public record of sources that states it",
    note="the sha256 is stated by one project",
)
