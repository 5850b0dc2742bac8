"""Writes tables of docs/results/safesteer.md, safemoe.md and smollm2.md from their kept lines.

  python tools/pages.py              these pages, and the pictures on top of them
  python tools/pages.py --check      changes nothing; exit code 1 where a page is stale

A table stands between `<!-- table: NAME -->` and `<!-- end of NAME -->`. Tables and verdicts come
from tools/study.py, controls.py, safesteer_claims.py, safesteer_attacked.py, safesteer_words.py,
safesteer_fresh.py, safesteer_rates.py, safesteer_real.py, safemoe.py, safemoe_claims.py and
safemoe_worlds.py.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import controls
import safemoe
import safemoe_claims
import safemoe_worlds
import safesteer_attacked
import safesteer_claims
import safesteer_fresh
import safesteer_rates
import safesteer_real
import safesteer_words
import study

DATA = Path(__file__).resolve().parents[1] / "docs" / "results"
Blocks = dict[str, list[str]]
TABLE = re.compile(r"<!-- table: (.+?) -->\n(.*?)<!-- end of \1 -->\n", re.DOTALL)


def safesteer_blocks() -> Blocks:
    """Every table of docs/results/safesteer.md."""
    runs = study.read([str(DATA / "study.jsonl")])

    def of(*kinds: str, world: str = "") -> list[study.Run]:
        found = []
        for name, run in runs.items():
            place, kind, _ = name.split("-")
            if kind.rstrip("0123456789") in kinds and (not world or place == world):
                found.append(run)
        return found

    first = [runs["0-default-0"]]
    tools = (
        safesteer_claims,
        safesteer_attacked,
        safesteer_words,
        safesteer_fresh,
        safesteer_rates,
    )
    made = {name: lines for tool in tools for name, lines in tool.blocks().items()}
    return made | {
        "default": study.listed(of("default")),
        "paper": study.stops(of("paper")),
        "lifted": study.listed(of("lifted")),
        "random sets": study.random_sets(runs),
        "controls": controls.page(controls.read([str(DATA / "controls.jsonl")])),
        "prompts and rollouts": study.listed(first + of("prompts", "rollouts")),
        "bf16": study.listed(of("bf") + first + of("slow_bfloat", "slow_float")),
    }


def safemoe_blocks() -> Blocks:
    """Every table of docs/results/safemoe.md."""
    found = safemoe_claims.blocks() | safemoe_worlds.blocks()
    for world, file in safemoe_claims.FILES.items():
        found[f"world {world}"] = printed(lambda file=file: safemoe.main([str(file)]))
    return found


def printed(call: Callable[[], object]) -> list[str]:
    """What a call prints, as lines."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        call()
    return out.getvalue().rstrip("\n").split("\n")


PAGES = {
    "safesteer.md": safesteer_blocks,
    "safemoe.md": safemoe_blocks,
    "smollm2.md": safesteer_real.blocks,
}


def updated(text: str, blocks: Blocks) -> str:
    """A page with its tables made anew.

    Raises:
      SystemExit: a table that nobody makes, or one that is made and has no place.
    """
    places = [match[1] for match in TABLE.finditer(text)]
    if sorted(places) != sorted(blocks):
        odd = sorted(set(places) ^ set(blocks)) or sorted(places)
        raise SystemExit(f"pages: marked on the page and made by a tool do not agree: {odd}")

    def filled(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- table: {name} -->\n" + "\n".join(blocks[name]) + f"\n<!-- end of {name} -->\n"

    return TABLE.sub(filled, text)


def main(argv: list[str] | None = None) -> None:
    """Writes or checks the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="change nothing, exit code 1 if stale")
    args = parser.parse_args(argv)
    stale = []
    for name, make in PAGES.items():
        text = (DATA / name).read_text()
        new = updated(text, make())
        if new != text:
            stale.append(name)
        if not args.check:
            (DATA / name).write_text(new)
    if args.check:
        if stale:
            raise SystemExit(f"pages: run python tools/pages.py for {', '.join(stale)}")
        return
    import pictures

    pictures.draw()


if __name__ == "__main__":
    main()
