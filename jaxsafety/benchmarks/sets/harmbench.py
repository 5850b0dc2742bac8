"""HarmBench's text behaviours: standard ones, contextual ones with their context.

Mazeika et al. 2024, arXiv 2402.04249; data/behavior_datasets of centerforaisafety/HarmBench. A
contextual behaviour speaks of a text, which stands before it (layout HarmBench). Copyright
behaviours ask for the words of a song or a book: HarmBench compares hashes of the answer with
those of the work (data/copyright_classifier_hashes), which no judge of ours does, so they are left
out and counted.

Columns and the sha256 of the validation file are those of a copy whose name is that of the
original. The sha256 of all 400 is stated by several public projects that pin it at
commits c0423b9 and 8e1604d.
"""

from __future__ import annotations

from jaxsafety.benchmarks.public import PublicSet
from jaxsafety.data.files.columns import Asked, Row, maybe, text

PAPERS = {"2402.04249": ""}

KINDS = ("standard", "contextual", "copyright")


def keep(row: Row) -> str:
    """Why a behaviour is left out.

    Raises:
      ValueError: an unknown category, a contextual behaviour without its context.
    """
    kind = text(row, "functionalcategory").strip().lower()
    if kind not in KINDS:
        raise ValueError(f"`FunctionalCategory` of {', '.join(KINDS)}, not {kind!r}")
    if kind == "contextual" and not maybe(row, "contextstring"):
        raise ValueError("a `ContextString` for a contextual behaviour")
    return "copyright" if kind == "copyright" else ""


def apart(row: Row, _: Asked) -> dict[str, str]:
    """A contextual behaviour and its context apart, as HarmBench's classifiers are told them."""
    if not maybe(row, "contextstring"):
        return {}
    return {"behavior": text(row, "behavior"), "context": text(row, "contextstring")}


SET = PublicSet(
    name="harmbench",
    kind="safety",
    licence="MIT",
    source="centerforaisafety/HarmBench, arXiv 2402.04249",
    files=(
        "harmbench_behaviors_text_all.csv",
        "harmbench_behaviors_text_test.csv",
        "harmbench_behaviors_text_val.csv",
        "harmbench_behaviors_text*.csv",
    ),
    versions={
        "8d81accedd38eaaf8b760618622bb888417d1fd0c86eba65c427a16f1cbb4afc": "all, 400 rows",
        "7bfaaa5e2b9b95002c89e2d33c019f58e9e8496e2fc65d368f1eeb8179e69534": "val, 80 rows",
    },
    layout=("HarmBench",),
    columns=("behavior", "functionalcategory", "semanticcategory", "contextstring", "behaviorid"),
    categories=("semanticcategory", "functionalcategory"),
    keep=keep,
    more=apart,
    max_tokens=256,
    header="the validation file itself",
    revision=1,  # contexts apart from behaviours, for guards
    note="copyright behaviours are left out; the context stands before its behaviour",
)
