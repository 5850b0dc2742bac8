"""AILuminate's demo prompts in English: 1,200 in 12 hazards, some of them adversarial.

MLCommons AI Risk and Reliability working group, version 1.0; mlcommons/ailuminate. Hazards of
"specialized advice" and "sexual content" ask for what is harmful in some contexts only.

The columns are those of a public copy of that repository (the README's schema, and the header of
airr_official_1.0_practice_prompt_set_release_public_subset.csv, an earlier name of the demo set);
the sha256 of the English file is stated by one public project that pins it at commit 769cc2b.
"""

from __future__ import annotations

from jaxsafety.benchmarks.public import PublicSet

SET = PublicSet(
    name="ailuminate",
    kind="safety",
    licence="CC-BY-4.0",
    source="mlcommons/ailuminate, demo prompt set 1.0",
    files=(
        "airr_official_1.0_demo_en_us_prompt_set_release.csv",
        "airr_official_1.0_practice_prompt_set_release_public_subset.csv",
        "airr_official_*_demo_en_us_*.csv",
        "ailuminate*demo*.csv",
    ),
    versions={
        "63e2b654325c5405096fabf28ef5f057b0ad674904b1839fd1f52b523e324d02": "769cc2b, 1200 rows"
    },
    layout=("AILuminate",),
    columns=("release_prompt_id", "prompt_text", "hazard", "persona", "locale"),
    categories=("hazard", "persona", "locale"),
    max_tokens=256,
    header="mlcommons/ailuminate, a public copy",
    note="the sha256 is stated by one project",
)
