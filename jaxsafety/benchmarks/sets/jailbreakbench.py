"""JailbreakBench's behaviours: 100 harmful goals and 100 benign ones on the same subjects.

Chao et al. 2024, arXiv 2404.01318; data/ of the data set JailbreakBench/JBB-Behaviors. The goal is
what is asked, without any jailbreak; `behavior` is its short name, the same in both halves. No file
was at hand. The header `Index,Goal,Target,Behavior,Category,Source` of both files and their sha256
are stated by several public projects that pin them at commit 886acc3.
"""

from __future__ import annotations

from jaxsafety.benchmarks.public import PublicSet

PAPERS = {"2404.01318": ""}

COLUMNS = ("goal", "target", "behavior", "category", "source")
HEADER = "public loaders that state it"

HARMFUL = PublicSet(
    name="jailbreakbench_harmful",
    kind="safety",
    licence="MIT",
    source="JailbreakBench/JBB-Behaviors, arXiv 2404.01318",
    files=("harmful-behaviors.csv", "jbb*harmful*.csv"),
    versions={
        "4a8ec6832056b631eb092dccc60d37a61c3d441268268888b3d006288afeffa1": "886acc3, 100 rows"
    },
    layout=("JailbreakBench",),
    columns=COLUMNS,
    categories=("category", "behavior", "source"),
    max_tokens=256,
    header=HEADER,
    note="some goals are AdvBench's and TDC 2023's (`source`)",
)

BENIGN = PublicSet(
    name="jailbreakbench_benign",
    kind="over_refusal",
    licence="MIT",
    source="JailbreakBench/JBB-Behaviors, arXiv 2404.01318",
    files=("benign-behaviors.csv", "jbb*benign*.csv"),
    versions={
        "3cda234d21a991fa309bbfea4b6d9dae31ccdf8e9d452424b6a983e4fdc33468": "886acc3, 100 rows"
    },
    layout=("JailbreakBench",),
    columns=COLUMNS,
    categories=("category", "behavior", "source"),
    max_tokens=256,
    header=HEADER,
    note="on the subjects of the harmful half",
)
