"""The starter set: harmful requests, their harmless twins, short questions, everyday prompts.

Written for this library, one JSON line each (docs/starter.md says how, and what they are too few
for): 64, 64, 64 and 100. Of the requests and their twins five of each category are for training,
with an answer, and three are held back.
"""

from __future__ import annotations

from pathlib import Path

from jaxsafety.core.errors import bad

FOLDER = Path(__file__).parent


def file(name: str) -> str:
    """Path of a part: harmful_train, harmful_test, twins_train, twins_test, capability, everyday.

    Raises:
      UsageError: there is no such part.
    """
    path = FOLDER / f"{name}.jsonl"
    if not path.is_file():
        raise bad("starter", name, ", ".join(sorted(p.stem for p in FOLDER.glob("*.jsonl"))))
    return str(path)
