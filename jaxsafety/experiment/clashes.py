"""Which prompts of an experiment stand on two sides: learnt and measured, harmful and harmless."""

from __future__ import annotations

from collections.abc import Sequence

from jaxsafety.data import overlap
from jaxsafety.data.overlap import Clash, Told
from jaxsafety.data.preferences import Preferred
from jaxsafety.data.schema import Example
from jaxsafety.experiment.domains import FileDomains
from jaxsafety.experiment.sections import EVERY, DataConfig
from jaxsafety.protocols import Item, Setting


def clashes(setting: Setting, data: DataConfig, reads: Sequence[str] = EVERY) -> list[Clash]:
    """Prompts of what is trained on among the measured ones, harmful ones among the harmless.

    Args:
      setting: what is trained on and measured.
      data: the section that it was made of.
      reads: what the method reads of it.
    """
    measured_sets = setting.benchmarks
    if data.source == "organism" and not setting.given and not data.pairs:
        # Its own splits are disjoint (tests/organism/test_splits.py).
        measured_sets = tuple(b for b in setting.benchmarks if b not in setting.own)
        if not measured_sets:
            return []
    trained = []
    if data.source == "files" or len(setting.own) < len(setting.benchmarks):
        trained += list_prompts(setting, data, reads)
    trained += list_dialogues(setting, data)
    source = "data.mix" if data.mix else "data.chats"
    measured = [
        (
            f"{_field(setting, bench.name)} {bench.name}",
            [
                t
                for item in bench.items
                for t in list_told(item, str(setting.sets[bench.name].get("path", bench.name)))
            ],
        )
        for bench in measured_sets
    ]
    found = overlap.clashes(trained, measured)
    sides = dict(trained)
    if "data.harmful" in sides and "data.harmless" in sides:
        pair = [(name, sides[name]) for name in ("data.harmful", "data.harmless")]
        found += overlap.clashes(pair[:1], pair[1:])
    if data.chats_val and setting.given:
        whole = [
            (name, [_whole(e) for e in some])
            for name, some in ((source, setting.examples), ("data.chats_val", setting.held_out))
        ]
        found += overlap.clashes(whole[:1], whole[1:])
    return found


def list_prompts(
    setting: Setting, data: DataConfig, reads: Sequence[str] = EVERY
) -> list[tuple[str, list[Told]]]:
    """The prompts that a method reads: (setting, prompts)."""
    found = []
    for name, splits in (
        ("distil", ("distil",)),
        ("harmful", ("harmful_train", "harmful_val")),
        ("harmless", ("harmless_train", "harmless_val")),
    ):
        used = data.source == "files" or "prompts" in reads
        items = [item for split in splits for item in setting.prompts.get(split, ()) if used]
        told = [t for item in items for t in list_told(item, getattr(data, name))]
        found += [(f"data.{name}", told)] if told else []
    return found


def list_dialogues(setting: Setting, data: DataConfig) -> list[tuple[str, list[Told]]]:
    """What users say in the dialogues of files: (setting, prompts) of each domain and each file."""
    found = []
    if isinstance(setting.domains, FileDomains):
        for examples in setting.domains.examples.values():
            found.append(("data.domains", [t for e in examples for t in list_told(e, "")]))
    chats: dict[str, list[Told]] = {}
    if setting.given:
        for example in setting.examples:
            chats.setdefault(str(example.meta["file"]), []).extend(list_told(example, ""))
    source = "data.mix" if data.mix else "data.chats"
    if data.pairs and setting.pairs:
        found.append(("data.pairs", [t for pair in setting.pairs for t in list_told(pair, "")]))
    return found + [(source, told) for told in chats.values()]


def _field(setting: Setting, name: str) -> str:
    """The setting that brought a set."""
    return "eval.benchmarks" if setting.sets[name].get("table") else "eval.sets"


def list_told(thing: Item | Example | Preferred, path: str) -> list[Told]:
    """What the user says in an item or a dialogue, and where that stands."""
    file = str(thing.meta.get("file") or path)
    row = thing.meta.get("row") or (int(thing.id) + 1 if thing.id.isdigit() else thing.id)
    return [Told(m.content, f"row {row} of {file}") for m in thing.messages if m.role == "user"]


def _whole(example: Example) -> Told:
    """A whole dialogue as one text."""
    text = "\n".join(overlap.normal(m.content) for m in example.messages)
    return Told(text, f"row {example.meta['row']} of {example.meta['file']}")
