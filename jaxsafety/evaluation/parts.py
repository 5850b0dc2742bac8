"""Answers of one set, lot by lot on disk, so that a kill loses what runs and not the set.

The parts lie beside the file that will hold the whole set, in `<benchmark>.<decoding>.parts/`, and
go once that is written. They count only for the very settings, prompts and parameters they were
made with; whatever else is there is ignored.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsafety.core import disk, hosts
from jaxsafety.data.schema import Answer

Row = tuple[int, int, Answer]  # prompt, sample, what was said


class Parts:
    """The finished lots of one set."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        """Reads and writes nothing yet.

        Args:
          path: the file of the whole set.
          about: JSON-able: all that the answers depend on.
        """
        self.directory = path.with_name(f"{path.name.removesuffix('.jsonl')}.parts")
        text = json.dumps(about, sort_keys=True, default=str)
        self.key = hashlib.sha256(text.encode()).hexdigest()

    def known(self) -> dict[tuple[int, int], Answer]:
        """(prompt, sample) -> answer, of the lots that are there; the same on every host."""
        return {(index, sample): Answer(*said) for index, sample, *said in hosts.share(self._read)}

    def keep(self, number: int, rows: Sequence[Row]) -> None:
        """Writes lot `number`, whole or not at all."""
        text = json.dumps({"key": self.key, "rows": [(i, s, *answer) for i, s, answer in rows]})
        disk.write(self.directory / f"{number}.json", text)

    def drop(self) -> None:
        """Removes all of them."""
        if hosts.leader() and self.directory.is_dir():
            shutil.rmtree(self.directory, ignore_errors=True)

    def _read(self) -> list[list[Any]]:
        rows = []
        for file in sorted(self.directory.glob("*.json")):
            try:
                found = json.loads(file.read_text("utf-8"))
                if found["key"] == self.key:
                    rows += [
                        [int(i), int(s), list(map(int, ids)), bool(end), list(map(float, logp))]
                        for i, s, ids, end, logp in found["rows"]
                    ]
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return rows
