"""Trackers by name: looked for before a run does anything, opened by its first row."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxsafety import registry
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.train.trackers.api import Tracked
from jaxsafety.train.trackers.aside import Aside, Several

SECRET = re.compile(r"(?i)(^|[_-])(key|token|secret|password)$")  # names of settings


def check(names: Sequence[str]) -> None:
    """Makes sure that trackers are there and can be imported.

    Raises:
      UsageError: an unknown name, or the extra of one is not installed.
    """
    for name in names:
        try:
            module = getattr(registry.resolve(registry.TRACKERS, name), "NEEDS", "")
            if module:
                _find(name, module)
        except UsageError as error:  # the setting is called otherwise than the table
            raise UsageError(f"train.trackers, a {error}") from None


def _find(name: str, module: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        if module in registry.EXTRAS:
            raise registry.lacks("tracker", name, module) from None
        raise bad("tracker", name, f"an installation with {module}") from None
    except Exception:  # a broken installation costs no run: the tracker says so, and is left out
        return


def begin(names: Sequence[str], about: Tracked) -> Several:
    """Trackers that the first row opens; one that cannot be opened says so in a line.

    Args:
      names: in `registry.TRACKERS`; twice the same is once.
      about: settings that are called like a secret are left out of its config.

    Raises:
      UsageError: see `check`.
    """
    check(names)
    about = about._replace(config=shown(about.config))
    makes = {name: registry.resolve(registry.TRACKERS, name) for name in names}
    return Several([Aside(name, make, about) for name, make in makes.items()])


def shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that leave the machine: all but those that are called like a secret."""
    kept = {key: value for key, value in config.items() if not SECRET.search(key)}
    return {k: shown(v) if isinstance(v, Mapping) else v for k, v in kept.items()}
