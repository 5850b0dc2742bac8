"""What a method's publication did, setting by setting, and how a config differs from it.

A method has a table of `Published` rows beside its recipe. It is compared with the config of a run
as it is, whatever preset that began as: the log of a run and its report show what differs now, and
docs/published.md has it for each preset (`python tools/published.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.protocols import Difference, Finished, Section

Config = Mapping[str, Any]  # the sections of a config as plain dicts, lists and numbers
MISSING = "no setting of its version"
TEMPLATES = Path(__file__).with_name("templates")


class OneOf(tuple[Any, ...]):
    """Values of which each was published, for one model or another."""


class Published(NamedTuple):
    """One setting of a publication.

    Attributes:
      field: its dotted name in a config ("optim.lr"), or in words what no setting of ours tells.
      value: what was published; `OneOf` several; None: the publication does not say.
      why: what the reader has to know of it; "" is nothing.
      here: what is done here, where `field` is no setting; "" where it is one.
      read: makes the value of a config, where it is not simply what stands at `field`; None where
        the row has no meaning for that config.
    """

    field: str
    value: Any
    why: str = ""
    here: str = ""
    read: Callable[[Config], Any] | None = None


def at(config: Config, field: str) -> Any:
    """What a config has at a dotted name; `MISSING` where it has nothing, as of an older run."""
    value: Any = config
    for name in field.split("."):
        value = value.get(name, MISSING) if isinstance(value, Mapping) else MISSING
    return value


def template(config: Config) -> Any:
    """What prompts are written with: `model.template`, of which "" is the model's own."""
    return at(config, "model.template") or "the model's own"


def differences(rows: Iterable[Published], config: Config) -> list[Difference]:
    """Where a config does otherwise than was published, or does what was not, in the rows' order.

    Args:
      rows: of the publication.
      config: sections as plain values (`core.config.plain`, or a run's config.json).

    Returns:
      A `Difference` each; `published` is None for what the publication does not give.
    """
    found = []
    for row in rows:
        value = row.here or (at(config, row.field) if row.read is None else row.read(config))
        if value is None or (row.value is not None and _same(row.value, value)):
            continue
        published = None if row.value is None else told(row.value)
        found.append(Difference(row.field, published, told(value), row.why))
    return found


def told(value: Any) -> str:
    """A setting in print."""
    if isinstance(value, OneOf):
        return " or ".join(map(told, value))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(told, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if str(value) else "none"


def _same(published: Any, value: Any) -> bool:
    if isinstance(published, OneOf):
        return any(_same(one, value) for one in published)
    if isinstance(published, (list, tuple)) and isinstance(value, (list, tuple)):
        return list(published) == list(value)
    return published == value


def section(program: str, find: Callable[[Config], Sequence[Difference]]) -> Section[Finished]:
    """The section of a report that shows `find` of the config of a run of this program."""

    def make(run: Finished) -> str:
        from jaxsafety.report import page  # a run writes no report

        if run.config.get("program") != program:  # of a config that cannot be read, above all
            return ""
        found = find(run.config)
        return page.fill(
            TEMPLATES,
            "differences.html",
            rows=[row for row in found if row.published is not None],
            silent=[row for row in found if row.published is None],
        )

    return Section("published", "Differences from the publication", make, after="training")
