"""Rewrites the tables of docs/benchmarks.md from `registry.SETS`."""

from __future__ import annotations

from pathlib import Path

from jaxsafety import registry
from jaxsafety.benchmarks.public import PublicSet

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
START, END = "<!-- sets: python tools/benchmarks.py -->\n", "<!-- end of sets -->\n"
HEAD = (
    "| set | kind | licence | published as | its file | columns | sha256 known | columns read in |"
    " note |\n|---|---|---|---|---|---|---|---|---|\n"
)


def updated(text: str) -> str:
    """The page with the part between its two markers made anew."""
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    sets = [registry.resolve("sets", name) for name in registry.SETS]
    return before + START + HEAD + "".join(map(_row, sets)) + END + after


def _row(one: PublicSet) -> str:
    cells = (
        f"`{one.name}`",
        one.kind + ("" if one.form == "text" else f", {one.form}"),
        one.licence,
        one.source,
        ", ".join(f"`{pattern}`" for pattern in one.files),
        ", ".join(one.columns) or "texts",
        "; ".join(one.versions.values()) or "no",
        one.header,
        one.note,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text("utf-8")), "utf-8")
