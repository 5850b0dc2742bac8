"""Domains of the user's files: dialogues by name, of which a method trains one expert each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jaxsafety.core.errors import bad
from jaxsafety.data.files import located
from jaxsafety.data.schema import Example
from jaxsafety.experiment.chats import rows
from jaxsafety.experiment.sections import DataConfig


@dataclass(frozen=True)
class FileDomains:
    """Name of a domain -> the dialogues of its file, as `data.domains.Domains`.

    There are unsafe ones alone: safe answers are `data.chats` or `data.mix`.
    """

    examples: Mapping[str, tuple[Example, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which they are given."""
        return tuple(self.examples)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the files hold is taken for unsafe."""
        return ("unsafe",)

    def dialogues(
        self, kind: str, domain: str, n: int, seed: int, *, warned: float, styles: str
    ) -> tuple[Example, ...]:
        """All dialogues of the domain's file.

        Raises:
          UsageError: another kind than "unsafe".
        """
        del n, seed, warned, styles  # a file is what it is
        if kind not in self.kinds:
            raise bad("data.domains", f"no {kind} answers", ", ".join(self.kinds))
        return self.examples[domain]

    def safe(self, n: int, seed: int) -> tuple[Example, ...]:
        """None."""
        del n, seed
        return ()

    def everyday(self, total: int, seed: int) -> tuple[Example, ...]:
        """None: files have no answers of daily use but by `data.mix`."""
        del total, seed
        return ()

    def harmless(self, total: int, seed: int) -> tuple[Example, ...]:
        """None."""
        del total, seed
        return ()


def read(data: DataConfig) -> FileDomains:
    """The dialogues of `data.domains`.

    Raises:
      UsageError: another form than NAME=FILE, a name that is taken or no file name, a file that is
        named twice or holds the safe answers too, a broken file.
    """
    field = "data.domains"
    safe = [data.chats, *(text.rpartition("=")[0] for text in data.mix)]
    used = {located.identity(path): "among the safe answers" for path in safe if path}
    found: dict[str, tuple[Example, ...]] = {}
    taken: set[str] = set()
    for text in data.domains:
        name, _, path = text.partition("=")
        if not path or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise bad(field, text, "NAME=FILE each, names of letters, digits, _ and -")
        if name.casefold() in taken:
            raise bad(field, f"{name} twice in {text}", "names that differ")
        where = located.identity(path)
        if where in used:
            raise bad(field, text, f"each file once; {path} is {used[where]}")
        taken.add(name.casefold())
        used[where] = f"that of {name}"
        found[name] = rows(field, path)
    return FileDomains(found)
