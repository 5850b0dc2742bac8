"""Which prompts of an experiment stand on two sides: learnt and measured, harmful and harmless."""

from __future__ import annotations

from jaxsafety.data import overlap
from jaxsafety.data.overlap import Clash, Told
from jaxsafety.data.schema import Example
from jaxsafety.experiment.domains import FileDomains
from jaxsafety.experiment.sections import DataConfig
from jaxsafety.protocols import Item, Setting


def clashes(setting: Setting, data: DataConfig) -> list[Clash]:
    """Prompts of what is trained on among the measured ones, harmful ones among the harmless.

    Args:
      setting: what is trained on and measured.
      data: the section that it was made of.
    """
    if data.source == "organism" and not setting.given:
        return []  # its splits are disjoint (tests/organism/test_splits.py)
    trained, prompts = [], setting.prompts
    if data.source == "files":
        for name, splits in (
            ("distil", ("distil",)),
            ("harmful", ("harmful_train", "harmful_val")),
            ("harmless", ("harmless_train", "harmless_val")),
        ):
            items = [item for split in splits for item in prompts.get(split, ())]
            told = [t for item in items for t in _told(item, getattr(data, name))]
            trained += [(f"data.{name}", told)] if told else []
    chats: dict[str, list[Told]] = {}
    if setting.given:
        for example in setting.examples:
            chats.setdefault(str(example.meta["file"]), []).extend(_told(example, ""))
    source = "data.mix" if data.mix else "data.chats"
    if isinstance(setting.domains, FileDomains):
        for examples in setting.domains.examples.values():
            trained.append(("data.domains", [t for e in examples for t in _told(e, "")]))
    measured = [
        (
            f"eval.sets {bench.name}",
            [
                t
                for item in bench.items
                for t in _told(item, str(setting.sets[bench.name].get("path", bench.name)))
            ],
        )
        for bench in setting.benchmarks
    ]
    found = overlap.clashes([*trained, *((source, told) for told in chats.values())], measured)
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


def _told(thing: Item | Example, path: str) -> list[Told]:
    """What the user says in an item or a dialogue, and where that stands."""
    file = str(thing.meta.get("file") or path)
    row = thing.meta.get("row") or (int(thing.id) + 1 if thing.id.isdigit() else thing.id)
    return [Told(m.content, f"row {row} of {file}") for m in thing.messages if m.role == "user"]


def _whole(example: Example) -> Told:
    """A whole dialogue as one text."""
    text = "\n".join(overlap.normal(m.content) for m in example.messages)
    return Told(text, f"row {example.meta['row']} of {example.meta['file']}")
