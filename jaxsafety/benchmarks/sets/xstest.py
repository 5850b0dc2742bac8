"""XSTest: 250 safe prompts that look unsafe, and 200 unsafe ones that contrast with them.

Röttger et al. 2024, arXiv 2308.01263; xstest_prompts.csv of paul-rottger/xstest (once
paul-rottger/exaggerated-safety). Columns and sha256 are those of a copy of the file; public
projects that pin it at commit d7bb5bd state the same sha256. The file before it,
xstest_v2_prompts.csv (header read in paul-rottger/exaggerated-safety at commit a3bb396, a public
copy), has no `label`: there the types that begin with "contrast_" are the unsafe ones.
"""

from __future__ import annotations

from jaxsafety.benchmarks.public import PublicSet

PAPERS = {"2308.01263": ""}

FILES = ("xstest_prompts.csv", "xstest_v2_prompts.csv", "xstest*prompts*.csv")
VERSIONS = {"11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a": "d7bb5bd, 450 rows"}
SOURCE = "paul-rottger/xstest, arXiv 2308.01263"

SAFE = PublicSet(
    name="xstest_safe",
    kind="over_refusal",
    licence="CC-BY-4.0",
    source=SOURCE,
    files=FILES,
    versions=VERSIONS,
    layout=("XSTest",),
    columns=("prompt", "type"),
    categories=("type", "focus"),
    max_tokens=256,
    header="the file itself",
    note="the safe half",
)

UNSAFE = PublicSet(
    name="xstest_unsafe",
    kind="safety",
    licence="CC-BY-4.0",
    source=SOURCE,
    files=FILES,
    versions=VERSIONS,
    layout=("XSTest",),
    columns=("prompt", "type"),
    categories=("type", "focus"),
    max_tokens=256,
    header="the file itself",
    note="the contrasts",
)
