"""Arms of the study as strings: which mitigations, with which settings, at which grid points.

    plain                               fine-tuning alone
    anchor:strength=0.01|0.1            an arm of two grid points
    ema:decay=0.9+anchor                two mitigations, chained in this order

Names and settings are those of `registry.MITIGATIONS`. Arms that train alike share one training:
what is only repaired ("repair"), edited ("after") or served ("serve") afterwards is no other run of
the task, and repairs that are alike are shared likewise.
Pinned by tests/studies/test_anchored_arms.py.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxsafety import registry
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.mitigations.means import WHEN, check_pairs
from jaxsafety.studies.anchored.texts import read

PLAIN = "plain"
LONGEST = 80  # of a name; files have its steps and sets behind it
_UNNAMED = re.compile(r"[eE=][-+]|[^\w:=.,+\s|-]|--")
TRAINING, REPAIR = ("align", "train"), "repair"


@dataclass(frozen=True)
class Point:
    """One grid point of an arm.

    `name` is its text as a file name; `named` are its mitigations' settings by name, in order;
    `rate` multiplies the learning rate.
    """

    arm: str
    name: str
    named: Mapping[str, Any]
    rate: float = 1.0
    training: str = PLAIN  # names what is trained for it; equal for points that train alike
    repair: str = ""  # names that and what repairs it; equal likewise, "" without a repair

    def of(self, *when: str) -> dict[str, Any]:
        """Its mitigations that hook in there."""
        return {name: x for name, x in self.named.items() if moment(x) in when}


def moment(settings: Any) -> str:
    """Where a mitigation hooks in: of `WHEN`, "train" where its class does not say."""
    return getattr(settings, "when", "train")


def points(
    arms: Sequence[str], rates: Sequence[float] = (1.0,), known: Mapping[str, Any] | None = None
) -> list[Point]:
    """The grid points of arms, in order.

    Args:
      arms: as in the docstring above.
      rates: each arm is trained at each of them.
      known: name -> settings class; None is `registry.MITIGATIONS`.

    Raises:
      UsageError: an unknown mitigation or setting, a value that it refuses, two mitigations that
        cannot be chained, one twice in an arm, an arm twice, none.
    """
    if known is None:
        table = registry.MITIGATIONS
        known = {name: registry.resolve(table, name) for name in table}
    if not arms:
        raise bad("method.arms", arms, f"one or more of {', '.join((PLAIN, *known))}")
    found: list[Point] = []
    for arm in arms:
        for text, rate in itertools.product(_spread(arm), rates):
            named = _named(text, known)
            name = _file_name(text, rate, rates)
            if name in {point.name for point in found}:
                raise bad("method.arms", arm, "arms and grid points that differ")
            training = _file_name(_some(text, named, TRAINING) or PLAIN, rate, rates)
            repaired = _some(text, named, (REPAIR,)) and _some(text, named, (*TRAINING, REPAIR))
            repair = _file_name(repaired, rate, rates) if repaired else ""
            found.append(Point(arm, name, named, rate, training, repair))
    return found


def _parts(text: str) -> list[str]:
    """The mitigations of an arm; the plus of a number (1e+3) joins nothing."""
    return [part.strip() for part in re.split(r"\+(?![0-9])", text)]


def _named(text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    if text.strip() == PLAIN:
        return named
    for part in _parts(text):
        if part == PLAIN:
            raise bad("method.arms", text, f"{PLAIN} alone: it is fine-tuning without mitigations")
        if part.partition(":")[0] not in known:
            read("method.arms", part, {PLAIN: None, **known})  # says what is known
        name, settings = read("method.arms", part, known)
        if name in named:
            raise bad("method.arms", text, "each mitigation of an arm once")
        if moment(settings) not in WHEN:
            raise bad(f"mitigations.{name}.when", moment(settings), ", ".join(WHEN))
        named[name] = settings
    try:
        check_pairs(named)
    except UsageError as error:
        raise UsageError(f"method.arms, {text!r}: {error}") from None
    return named


def _some(text: str, named: Mapping[str, Any], when: Sequence[str]) -> str:
    """The arm's mitigations that hook in there, as an arm; "" without any."""
    parts = zip(_parts(text), named, strict=False)
    return "+".join(part for part, key in parts if moment(named[key]) in when)


def _spread(arm: str) -> list[str]:
    """An arm's text once for every choice among its values: "s=0.1|0.2" is two."""
    pieces = re.split(r"(=[^,+=]*(?:\+[0-9][^,+=]*)*)", arm)
    choices = [p[1:].split("|") if p.startswith("=") else [p] for p in pieces]
    marks = ["=" if p.startswith("=") else "" for p in pieces]
    chosen = itertools.product(*choices)
    return ["".join(m + c for m, c in zip(marks, each, strict=True)) for each in chosen]


def _file_name(text: str, rate: float, rates: Sequence[float]) -> str:
    """The text with letters, digits and "-" alone: names of artifacts and stages have dots.

    With a checksum of it where that says less, as of signs of numbers, and where it is long.
    """
    whole = text if len(rates) == 1 else f"{text} rate {rate:g}"
    name = re.sub(r"[^A-Za-z0-9_]+", "-", whole).strip("-")
    if len(name) <= LONGEST and not _UNNAMED.search(whole):
        return name
    return f"{name[:LONGEST].rstrip('-')}-{zlib.crc32(whole.encode()):08x}"
