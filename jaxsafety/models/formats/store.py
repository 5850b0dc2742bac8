"""What a model's tensors are read from, whatever the format: safetensors of a directory, or a GGUF.

Names and shapes are those of the Hugging Face layout; a format that has others translates them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.models.formats import files, hub, quantised
from jaxsafety.models.formats.gguf.store import GGUF


class Store(Protocol):
    """Tensors by name, with the config.json that they belong to."""

    @property
    def place(self) -> Path:
        """The directory or file, as errors and the log name it."""
        ...

    @property
    def names(self) -> Collection[str]:
        """Names of all tensors."""
        ...

    def description(self) -> dict[str, Any]:
        """config.json, as it stands or as it would."""
        ...

    def check(self, given: Mapping[str, Any], wanted: Collection[str]) -> None:
        """Raises UsageError where tensors are stored in a way that `read` does not read.

        Args:
          given: what `description` gave.
          wanted: the tensors that the model needs.
        """
        ...

    def dtype(self, tensor: str) -> str:
        """What holds a tensor exactly, as safetensors calls it: "F32", "F16", "BF16"."""
        ...

    def read(self, tensor: str, shape: tuple[int, ...]) -> np.ndarray:
        """One tensor, a copy; UsageError for another shape than `shape`, or no floats."""
        ...

    def equal(self, tensor: str, other: str, shape: tuple[int, ...]) -> bool:
        """Whether two tensors hold the same values (NaN equals nothing)."""
        ...


class Directory:
    """The safetensors of a directory in the Hugging Face layout."""

    def __init__(self, folder: Path, weights: str = files.WEIGHTS) -> None:
        """Looks at nothing yet: config.json is read by itself where no weights are needed."""
        self.place, self._weights = folder, weights
        self._found: dict[str, Path] | None = None
        self._dtypes: dict[str, str] | None = None

    @property
    def found(self) -> dict[str, Path]:
        """Tensor name -> file; UsageError as of `files.tensor_files`."""
        if self._found is None:
            try:
                self._found = files.tensor_files(self.place, self._weights)
            except UsageError:
                quantised.without_weights(self.description(), self.place)
                raise
        return self._found

    @property
    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self.found

    def description(self) -> dict[str, Any]:
        """config.json as it stands."""
        if not self.place.is_dir():
            raise bad("model.path", str(self.place), f"an existing directory, {hub.LAYOUT}")
        file = self.place / "config.json"
        if not file.is_file():
            raise bad("model.path", str(self.place), "a directory with a config.json")
        try:
            given = json.loads(file.read_text())
        except (ValueError, RecursionError) as error:  # also a number of 5000 digits
            raise bad("config.json", str(error), "a JSON object") from error
        if not isinstance(given, dict):
            raise bad("config.json", type(given).__name__, "a JSON object")
        return given

    def check(self, given: Mapping[str, Any], wanted: Collection[str]) -> None:
        """Refuses packed weights, see `quantised.check`."""
        quantised.check(given, self.place, wanted, self._kinds())

    def dtype(self, tensor: str) -> str:
        """The dtype in the file's header."""
        return self._kinds()[tensor]

    def _kinds(self) -> dict[str, str]:
        if self._dtypes is None:
            self._dtypes = files.dtypes(self.found)
        return self._dtypes

    def read(self, tensor: str, shape: tuple[int, ...]) -> np.ndarray:
        """See `files.read`."""
        return files.read(self.found[tensor], tensor, shape)

    def equal(self, tensor: str, other: str, shape: tuple[int, ...]) -> bool:
        """See `files.equal`."""
        return files.equal(self.found[tensor], tensor, self.found[other], other, shape)


def open_store(path: str | Path) -> Directory | GGUF:
    """The store of a model's directory or GGUF file.

    A directory without config.json in which a single GGUF lies is that file.

    Raises:
      UsageError: a file that is no sound GGUF, or several of them in a directory.
    """
    path = Path(path)
    if path.is_dir():
        path = hub.only_gguf(path) or path
    return GGUF(path) if path.is_file() else Directory(path)
