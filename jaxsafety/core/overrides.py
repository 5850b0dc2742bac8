"""Settings given on the command line: `--config.section.key=VALUE`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxsafety.core.errors import bad


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Takes `--config.a.b=c` and `--config.a.b c` out of the arguments, as `a.b=c`."""
    rest, overrides, pending = [], [], ""
    for arg in argv:
        if pending:
            overrides.append(f"{pending}={arg}")
            pending = ""
        elif arg.startswith("--config."):
            name = arg.removeprefix("--config.")
            if "=" in name:
                overrides.append(name)
            else:
                pending = name
        else:
            rest.append(arg)
    if pending:
        raise bad(f"--config.{pending}", "no value", f"--config.{pending}=VALUE")
    return rest, overrides
