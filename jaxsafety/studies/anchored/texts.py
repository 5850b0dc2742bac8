"""Settings as one string each: "name:field=value,field=value", read into a frozen dataclass."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from jaxsafety.core.config import parse_arg, typed
from jaxsafety.core.errors import UsageError, bad


def read(field: str, text: str, known: Mapping[str, Any]) -> tuple[str, Any]:
    """The name and the settings of "name:field=value,field=value".

    Args:
      field: where the text stands, for the error line.
      text: a name alone takes the defaults.
      known: name -> dataclass.

    Raises:
      UsageError: an unknown name (with the nearest), an unknown field, a value that does not read
        as its default's type, or that the dataclass refuses.
    """
    name, colon, rest = text.strip().partition(":")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"{near[0]!r}? known: " if near else ""
        raise bad(field, text, hint + ", ".join(known))
    if colon and not rest:
        raise bad(field, text, f"{name}, or {name}:FIELD=VALUE")
    cls = known[name]
    defaults = {f.name: getattr(cls(), f.name) for f in fields(cls)}
    try:
        return name, typed(cls, parse_arg(rest, **defaults), field)
    except UsageError as error:
        raise UsageError(f"{field}, {text!r}: {error}") from None
