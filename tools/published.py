"""Rewrites the tables of docs/published.md: what each preset does otherwise than was published.

python tools/published.py            writes them
python tools/published.py --check    exit code 1 where they are not what the presets do
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsafety.core import config as configs
from jaxsafety.methods.safemoe import published as safemoe
from jaxsafety.methods.safesteer import published as safesteer
from jaxsafety.protocols import Difference

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "published.md"
START, END = "<!-- differences {}: python tools/published.py -->\n", "<!-- end of differences -->\n"
Find = Callable[[Mapping[str, Any]], Sequence[Difference]]
PRESETS: dict[str, tuple[Find, tuple[str, ...]]] = {
    "safesteer": (
        safesteer.differences,
        (
            "safesteer/qwen3_4b.py",
            "safesteer/qwen2_5_7b.py",
            "safesteer/llama3_2_3b.py",
            "safesteer/llama3_8b.py",
            "safesteer/organism.py:preset=adapted",
            "safesteer/organism.py",
            "safesteer/smollm2_135m.py",
        ),
    ),
    "safemoe": (
        safemoe.differences,
        (
            "safemoe/smollm2_135m.py",
            "safemoe/mistral_7b_router.py",
            "safemoe/qwen2_5_3b_router.py",
            "safemoe/organism.py:preset=adapted",
            "safemoe/organism.py",
        ),
    ),
    "experts": (safemoe.of_expert, ("safemoe/mistral_7b.py", "safemoe/qwen2_5_3b.py")),
}


def updated(text: str) -> str:
    """The page with what lies between its markers made anew."""
    for name, (find, presets) in PRESETS.items():
        before, start, rest = text.partition(START.format(name))
        _, end, after = rest.partition(END)
        if not (start and end):
            raise SystemExit(f"{PAGE.name}: no place for the table of {name}")
        text = before + start + table(find, presets) + end + after
    return text


def table(find: Find, presets: Sequence[str]) -> str:
    """Rows of preset, setting, published and here; presets that differ alike share theirs."""
    alike: dict[tuple[Difference, ...], list[str]] = {}
    for preset in presets:
        plain = configs.plain(configs.load_config(str(ROOT / "configs" / preset)))
        alike.setdefault(tuple(find(plain)), []).append(f"`{preset}`")
    lines = ["| preset | setting | published | here |", "|---|---|---|---|"]
    for found, names in alike.items():
        rows = [row for row in found if row.published is not None]
        silent = [f"{row.field} ({row.here})" for row in found if row.published is None]
        who = ", ".join(names)
        for row in rows:
            why = f" ({row.why})" if row.why else ""
            lines.append(f"| {who} | {row.field} | {row.published}{why} | {row.here} |")
            who = ""
        if silent:
            lines.append(f"| {who} | not given | | {', '.join(silent)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes or checks the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args(argv)
    text = PAGE.read_text()
    made = updated(text)
    if not args.check:
        PAGE.write_text(made)
    elif made != text:
        print("docs/published.md is not what the presets do: run python tools/published.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
