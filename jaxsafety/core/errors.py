"""The one exception for mistakes in what a user gave us: one line, no traceback, exit code 2."""

from __future__ import annotations

from typing import Any


class UsageError(ValueError):
    """Bad input. The command line prints its single line and exits with code 2.

    Example:
      >>> import jaxsafety
      >>> try:
      ...     jaxsafety.load("no/such/directory")
      ... except jaxsafety.UsageError as error:
      ...     print(str(error).split(":")[0])
      model.path
    """


def bad(field: str, given: Any, allowed: Any) -> UsageError:
    """Builds the one-line error: which field, what was given, what is allowed."""
    line = f"{field}: got {given!r}; allowed: {allowed}"
    return UsageError(" ".join(line.split()))
