"""What a run has read: places of rows, how many of them it uses, the commit of the hub's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from jaxsafety.data.files.located import locate
from jaxsafety.data.preferences import Preferred
from jaxsafety.data.schema import Example
from jaxsafety.experiment import domains
from jaxsafety.experiment.sections import DataConfig
from jaxsafety.protocols import Item, Setting


def facts(setting: Setting, data: DataConfig) -> list[dict[str, Any]]:
    """Every place that rows were read from.

    Args:
      setting: what was made of them.
      data: the section that it was made of.

    Returns:
      "setting", "place" as it is written, "rows" that are used (of a set those that are measured),
      "files" by name and, of the hub, "commit".
    """
    used: Counter[tuple[str, str]] = Counter()
    for field, things in _things(setting, data):
        used.update((field, str(thing.meta["file"])) for thing in things if "file" in thing.meta)
    for name, told in setting.sets.items():
        if "path" in told:
            used[f"eval.sets {name}", str(told["path"])] += int(told["used"])
    found = []
    for (field, place), rows in used.items():
        where = locate(place, field)
        row = {"setting": field, "place": place, "rows": rows}
        row["files"] = [file.name for file in where.files]
        found.append(row | ({"commit": where.commit} if where.commit else {}))
    return found


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the log says of places that are more than a file."""
    found = []
    for row in rows:
        files = row["files"]
        if "commit" not in row and len(files) == 1 and row["place"].endswith(files[0]):
            continue
        count = files[0] if len(files) == 1 else f"{len(files)} files"
        of = f", commit {row['commit'][:12]}" if row.get("commit") else ""
        found.append(f"{row['setting']}: {row['rows']} rows of {row['place']} ({count}{of})")
    return found


def _things(
    setting: Setting, data: DataConfig
) -> Iterator[tuple[str, Sequence[Item | Example | Preferred]]]:
    """(setting, what was made of its rows)."""
    for name in ("harmful", "harmless", "distil"):
        for split in (name, f"{name}_train", f"{name}_val"):
            if data.source == "files" and (items := setting.prompts.get(split)):
                yield f"data.{name}", items
    if setting.given:
        yield "data.mix" if data.mix else "data.chats", setting.examples
        held = "data.chats_val" if data.chats_val else "data.mix" if data.mix else "data.chats"
        yield held, setting.held_out
    if data.pairs:
        yield "data.pairs", (*setting.pairs, *setting.held_pairs)
    if isinstance(setting.domains, domains.FileDomains):
        for examples in setting.domains.examples.values():
            yield "data.domains", examples
