"""Which model a config names, where it lies and how it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.tokens import raw, template
from jaxsafety.models.formats import hub
from jaxsafety.models.formats.hub import SHIPPED as SHIPPED
from jaxsafety.models.formats.hub import UNALIGNED as UNALIGNED
from jaxsafety.models.types import KERNELS


@dataclass(frozen=True)
class ModelSource:
    """Where the model lies, a directory, GGUF file or hub id; "" is the shipped organism.

    "shipped:unaligned" is the shipped base before alignment (docs/results/safemoe.md).

    Computes in `dtype`. `shape` names a preset for `plan`, which needs no weights. `variables` are
    given to the chat template, "NAME=JSON" each: `enable_thinking=false`. `date="2026-11-28"` stops
    the clock of templates that write the date; a run keeps the day on which it was begun.
    `template` "raw" is prompts and answers as plain texts, for base models (`data/tokens/raw.py`),
    whatever template the model has; "" is the model's own. `kernels` "int8" keeps a frozen model
    in a quarter of the memory (`models/int8.py`), for methods that train adapters beside it.
    """

    path: str = ""
    shape: str = ""
    dtype: str = "float32"
    remat: str = "none"
    variables: tuple[str, ...] = ()
    template: str = ""
    kernels: str = "float"

    def __post_init__(self) -> None:
        """Rejects an unknown template, and unknown kernels."""
        raw.check(self.template)
        check_kernels(self.kernels)

    def given(self) -> dict[str, Any]:
        """The template's variables by name; UsageError for text that is not NAME=JSON."""
        return template.parse(self.variables, "model.variables")


def check_kernels(kernels: str, field: str = "model.kernels") -> None:
    """Rejects what is none of `KERNELS`."""
    if kernels not in KERNELS:
        raise bad(field, kernels, ", ".join(KERNELS))


def directory(source: ModelSource) -> Path:
    """Where a config's model lies: its directory or GGUF file."""
    return hub.directory(source.path) if source.path else SHIPPED


def found(source: ModelSource) -> tuple[Path, UsageError | None]:
    """Where the model lies, or why there is none: it is told with all else that is missing."""
    try:
        return directory(source), None
    except UsageError as error:
        return Path(source.path), error


def base_path(source: ModelSource) -> str:
    """What an adapter says of its base: the hub id as given, or the path."""
    named = source.path and source.path != UNALIGNED
    return source.path if named else str(directory(source))


def stored_dtype(source: ModelSource) -> str:
    """What parameters are loaded as: bfloat16 where the model computes in it, as published; int8.

    Trained ones become `train.master` in the state of the stage; a teacher is the base itself.
    """
    if source.kernels == "int8":
        return "int8"
    return "bfloat16" if source.dtype == "bfloat16" else "float32"
