"""Whom one talks with: a model that is named, the shipped one, or what a run made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.experiment import beside, run
from jaxsafety.models.formats.source import SHIPPED


class Place(NamedTuple):
    """A model before its weights are read: a name for it, and arguments of `Chat.open`."""

    name: str
    path: Path
    options: Mapping[str, Any]


def asked(
    workdir: Path | None, text: str | None, path: Path | None, variables: Mapping[str, Any]
) -> Place:
    """What --workdir or --model names; without either the shipped organism.

    Args:
      workdir: a run's.
      text: a model as it was named.
      path: where that lies.
      variables: of the chat template.

    Raises:
      UsageError: see `finished`.
    """
    if workdir is not None:
        return finished(workdir, variables)
    return shipped(variables) if path is None else model(str(text), path, variables)


def shipped(variables: Mapping[str, Any]) -> Place:
    """The organism that comes with the package."""
    return Place("organism", SHIPPED, {"variables": variables})


def model(text: str, path: Path, variables: Mapping[str, Any]) -> Place:
    """A model by itself, or what a run made where that is a run's directory.

    Args:
      text: as it was named: a directory, a GGUF file or a hub id.
      path: where `hub.directory` found it.
      variables: of the chat template.

    Raises:
      UsageError: a run without a model, see `beside.find`.
    """
    if (path / "meta.json").is_file() and not any(path.glob("*.safetensors")):
        return finished(path, variables)
    name = path.resolve().name if Path(text).exists() else text
    return Place(name, path, {"variables": variables})


def finished(workdir: Path, variables: Mapping[str, Any]) -> Place:
    """What a run made, served as the run would: beside it, in its dtype, on its mesh.

    Raises:
      UsageError: see `beside.find`.
    """
    known = {**run.variables_of(workdir), **variables}
    path, served_with = beside.find(workdir)
    dtype, mesh = run.read_place(workdir)
    options = {"dtype": dtype, "mesh": mesh, "beside": served_with, "variables": known}
    options["template"] = run.template_of(workdir)
    return Place(workdir.resolve().name, path, options)


def names(places: Sequence[Place]) -> list[str]:
    """A name for each, different ones: two models may be called alike, or be the same."""
    found: list[str] = []
    for place in places:
        name, count = place.name, 1
        while name in found:
            count += 1
            name = f"{place.name} ({count})"
        found.append(name)
    return found
