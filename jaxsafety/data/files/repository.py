"""Which files of a data set are a configuration and a split: by its card, else by their names.

The card is the YAML head of README.md: `configs` with `data_files` and `data_dir`, as the hub reads
it. Without it a split is told by names, as `datasets` tells it (`train-00000-of-00003.parquet`,
`dev.jsonl`, `test/0000.parquet`), and a configuration by the folder above. Nothing is opened here.
Functions raise ValueError with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

PACKED = (".gz", ".zst")
TEXT = (".jsonl", ".json", ".csv", ".txt")  # the last only where it is named: LICENSE.txt
TABLES = (".parquet", ".arrow")
DEFAULT = "default"
KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
# They describe a data set.
ABOUT = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}
# What a card may ask of a reader of csv or JSON, and is not done here.
READERS = ("sep", "delimiter", "names", "column_names", "header", "skiprows", "field", "quotechar")
_SHARD = re.compile(r"(?P<split>\w+(?:\.\w+)*?)-(?P<at>[0-9]{5})-of-(?P<of>[0-9]{5})")
Splits = dict[str, list[str]]


def suffix(name: str) -> str:
    """What a file is by its name, `.jsonl` of "a.jsonl.gz"; "" of what is not read."""
    ends = PurePosixPath(name).suffixes
    inner = ends[-2] if len(ends) > 1 and ends[-1] in PACKED else ends[-1] if ends else ""
    known = TEXT if ends and ends[-1] in PACKED else (*TEXT, *TABLES)
    return inner if inner in known else ""


def files(
    names: Iterable[str], card: Mapping[str, Any], config: str = "", split: str = ""
) -> list[str]:
    """The files of one split, in the order in which `datasets` puts them together.

    Args:
      names: of all files, relative, with "/".
      card: what stands in the head of README.md.
      config: a configuration, or one file; "" is the only one or the default.
      split: "" is the only one.

    Raises:
      ValueError: several to choose from, none of this name, another layout.
    """
    names = sorted(name for name in names if suffix(name))
    if config in names:
        if split:
            raise ValueError(f"the file {config} without a split")
        return [config]
    known, preferred = _by_card(names, card)
    if not known:
        known, preferred = _by_folders(names), DEFAULT
    if not known:
        raise ValueError(f"files of rows ({', '.join((*TABLES, *TEXT[:-1]))}); it has none")
    splits = known[_one("configuration", config, known, preferred)]()
    if not splits:
        raise ValueError("files for that configuration; those of its card are not there")
    also = next((s for s, words in KEYWORDS.items() if split in words), split)
    found = splits[_one("split", split if split in splits else also, splits)]
    _check(found)
    return found


def _one(what: str, given: str, known: Mapping[str, Any], preferred: str = "") -> str:
    """The name that is meant."""
    if given in known:
        return given
    if not given and preferred in known:
        return preferred
    if not given and len(known) == 1:
        return next(iter(known))
    listed = ", ".join(list(known)[:20]) + (", ..." if len(known) > 20 else "")
    several = len(known) > 1
    raise ValueError(f"{f'one {what} of' if several else f'the {what}'} {listed}")


def _by_card(names: Sequence[str], card: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Configuration -> a function of its splits, and the default one."""
    given = card.get("configs")
    if not isinstance(given, list) or not given:
        return {}, ""
    found, preferred = {}, DEFAULT
    for one in given:
        if not isinstance(one, dict) or not isinstance(one.get("config_name"), str | int):
            raise ValueError("a card whose `configs` have a config_name each")
        name = str(one["config_name"])
        preferred = name if one.get("default") is True else preferred
        found[name] = lambda one=one: _declared(names, one)
    return found, preferred


def _declared(names: Sequence[str], config: Mapping[str, Any]) -> Splits:
    """The splits of one entry of a card's `configs`."""
    asked = [name for name in READERS if config.get(name) not in (None, ",")]
    if asked:
        raise ValueError(f"files as they are; the card asks for {asked[0]}={config[asked[0]]!r}")
    folder = str(config.get("data_dir") or "").strip("./")
    inside = [n for n in names if not folder or n.startswith(f"{folder}/")]
    given = config.get("data_files")
    if given is None:
        return _by_names(inside)
    rows = given if isinstance(given, list) else [given]
    if isinstance(given, dict):
        rows = [{"split": split, "path": path} for split, path in given.items()]
    elif not any(isinstance(row, dict) for row in rows):
        rows = [{"split": "train", "path": rows}]
    found: Splits = {}
    for row in rows:
        paths = row.get("path") if isinstance(row, dict) else None
        paths = [paths] if isinstance(paths, str) else paths
        if not (isinstance(paths, list) and all(isinstance(path, str) for path in paths)):
            raise ValueError("a card whose `data_files` have a split and a path each")
        split = str(row.get("split", "train"))
        mine = found.setdefault(split, [])
        for path in paths:
            if "://" in path:
                raise ValueError(f"files of its own; its card names {path}")
            whole = f"{folder}/{path}" if folder else path
            pattern = _pattern(whole.removeprefix("./"))
            mine += [n for n in inside if pattern.fullmatch(n) and n not in mine]
    return {split: some for split, some in found.items() if some}


def _pattern(text: str) -> re.Pattern[str]:
    """A glob of a card: `*` stays in a folder, `**` does not."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", text)
    turned = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    made = ""
    for part in parts:
        if part.startswith("[") and part.endswith("]") and len(part) > 2:
            inner = part[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
            made += f"[^{inner[1:]}]" if inner[0] == "!" and len(inner) > 1 else f"[{inner}]"
        else:
            made += turned.get(part) or re.escape(part)
    try:
        return re.compile(made)
    except re.error:
        raise ValueError(f"patterns of files; its card has {text!r}") from None


def _by_folders(names: Sequence[str]) -> dict[str, Any]:
    """Configurations by the folders that are no split and not called data."""
    found: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        hidden = any(part.startswith((".", "__")) for part in path.parts)
        if hidden or path.name in ABOUT or suffix(name) == ".txt":  # a licence, requirements
            continue
        folder = _split(name)[1]
        parts = [part for part in path.parts[:-1] if part not in ("data", folder)]
        found.setdefault("/".join(parts) or DEFAULT, []).append(name)
    return {config: lambda some=some: _by_names(some) for config, some in found.items()}


def _by_names(names: Sequence[str]) -> Splits:
    """Splits by the names of files and of the folders they lie in."""
    found: Splits = {}
    for name in names:
        found.setdefault(_split(name)[0], []).append(name)
    rest = found.pop("", [])
    if found or not rest:  # beside splits other files are no rows
        order = [*KEYWORDS, *sorted(found)]
        return {split: found[split] for split in dict.fromkeys(order) if split in found}
    families = {re.sub(r"[0-9]+", "", PurePosixPath(name).name) for name in rest}
    if len(families) > 1 and {suffix(name) for name in rest} != {".parquet"}:
        some = ", ".join(rest[:6]) + (", ..." if len(rest) > 6 else "")
        raise ValueError(f"one of its files, which do not say their splits: {some}")
    return {"train": rest}


def _split(name: str) -> tuple[str, str]:
    """The split of a file and the folder that says so; "" where nothing does."""
    path = PurePosixPath(name)
    folder = path.parent.name
    exact = next((split for split, words in KEYWORDS.items() if folder in words), "")
    if shard := _SHARD.match(path.name):
        return shard["split"], folder if exact else ""
    if not exact and (own := _word(path.stem)):
        return own, ""
    return (said, folder) if (said := exact or _word(folder)) else ("", "")


def _word(text: str) -> str:
    """The split that a name speaks of; "" for none, or for two."""
    words = re.split(r"[-._ 0-9]", text)
    said = {split for split, some in KEYWORDS.items() if set(some) & set(words)}
    return said.pop() if len(said) == 1 else ""


def _check(names: Sequence[str]) -> None:
    """Refuses a split in two formats, and one of which a part is missing."""
    kinds = sorted({suffix(name) for name in names})
    if len(kinds) > 1:
        some = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise ValueError(f"a split in one format, not {' and '.join(kinds)}: name one of {some}")
    parts: dict[tuple[str, int], set[int]] = {}
    for name in names:
        shard = _SHARD.match(PurePosixPath(name).name)
        if shard:
            key = (name[: name.rfind("/") + 1] + shard["split"], int(shard["of"]))
            parts.setdefault(key, set()).add(int(shard["at"]))
    for (split, count), there in parts.items():
        lacking = [at for at in range(count) if at not in there]
        if lacking:
            raise ValueError(f"all {count} parts of {split}; number {lacking[0]} is not there")
