"""Rewrites the file list of AGENTS.md from the first line of each module's docstring."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- files: python tools/agents.py -->\n", "<!-- end of files -->\n"


def updated(text: str) -> str:
    """AGENTS.md with the part between its two markers made anew."""
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    return before + START + _files() + END + after


def _files() -> str:
    lines = []
    for folder in ("jaxsafety", "configs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            doc = ast.get_docstring(ast.parse(path.read_text()))
            if doc:
                first = " ".join(doc.split("\n\n")[0].split())
                lines.append(f"- `{path.relative_to(ROOT)}`: {first}\n")
    return "".join(lines)


if __name__ == "__main__":
    page = ROOT / "AGENTS.md"
    page.write_text(updated(page.read_text()))
