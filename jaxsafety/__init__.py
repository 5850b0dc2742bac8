"""Safety alignment of chat models in JAX: train, sample, measure.

`load` and `export` are the public door to models; everything else is imported by its module.
Nothing heavy is imported until it is used, so the command line starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsafety.models.formats.load import export, load

__version__ = "0.1.0"
__all__ = ["__version__", "export", "load"]

# Where each public name lives; it is imported when it is first asked for.
PUBLIC = {
    "load": "jaxsafety.models.formats.load",
    "export": "jaxsafety.models.formats.load",
}


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
