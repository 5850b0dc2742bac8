"""TDC 2023, red teaming track: behaviours of the development phase (50), or of the test phase.

Trojan Detection Challenge 2023; red_teaming/data/{dev,test}/behaviors.json of
centerforaisafety/tdc2023-starter-kit, lists of texts. The development file was read
under the name that andyrdt/refusal_direction gives it (dataset/raw). Both names and paths are those
of public copies of that repository's loader.
"""

from __future__ import annotations

from jaxsafety.benchmarks.public import PublicSet

SET = PublicSet(
    name="tdc2023",
    kind="safety",
    licence="MIT",
    source="centerforaisafety/tdc2023-starter-kit",
    files=(
        "tdc2023_test_behaviors.json",
        "tdc2023_dev_behaviors.json",
        "tdc2023*/test/behaviors.json",
        "tdc2023*/dev/behaviors.json",
    ),
    versions={"9392c63ad0193f0510f33812593f0dc71d13ae8b2ad93f64d670e9795deee1b0": "dev, 50 rows"},
    layout=("plain text",),
    max_tokens=256,
    header="the development file itself: texts, no columns",
    note="the test phase is preferred where both files are there",
)
