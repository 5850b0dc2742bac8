"""Settings as one string each: "name:field=value,field=value", read into a frozen dataclass."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, get_type_hints

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
    named = [piece.partition("=")[0].strip() for piece in rest.split(",")]
    given = {*named}
    if len(given) < len(named):
        raise bad(field, text, "each setting once, without commas in its value")
    try:
        # Its defaults may be refused together: a class may want a setting that has none.
        values = parse_arg(rest, **{f.name: _default(cls, f) for f in fields(cls)})
        return name, typed(cls, {key: values[key] for key in values if key in given}, field)
    except UsageError as error:
        raise UsageError(f"{field}, {text!r}: {error}") from None


def _default(cls: Any, field: Field[Any]) -> Any:
    """A field's default; of a field without one, a value of its type."""
    if field.default is not MISSING:
        return field.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    return get_type_hints(cls)[field.name]()
