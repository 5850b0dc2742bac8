"""Whom one talks with: a model that is named, the shipped one, or what a run made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.core.errors import bad
from jaxsafety.experiment import beside, run
from jaxsafety.experiment.trained import WORLD
from jaxsafety.models.formats.source import SHIPPED


class Place(NamedTuple):
    """A model before its weights are read: a name for it, and arguments of `Chat.open`."""

    name: str
    path: Path
    options: Mapping[str, Any]


def asked(
    workdir: Path | None, text: str | None, path: Path | None, options: Mapping[str, Any]
) -> Place:
    """What --workdir or --model names; without either the shipped organism.

    Args:
      workdir: a run's.
      text: a model as it was named.
      path: where that lies.
      options: "variables" and "template", as of `jaxsafety.load`, and "kernels", as of
        `served.load`; "" is not given.

    Raises:
      UsageError: see `finished`.
    """
    if workdir is not None:
        return finished(workdir, options)
    return shipped(options) if path is None else model(str(text), path, options)


def shipped(options: Mapping[str, Any]) -> Place:
    """The organism that comes with the package."""
    return model("organism", SHIPPED, options)._replace(name="organism")


def model(text: str, path: Path, options: Mapping[str, Any]) -> Place:
    """A model by itself, or what a run made where that is a run's directory.

    Args:
      text: as it was named: a directory, a GGUF file or a hub id.
      path: where `hub.directory` found it.
      options: as of `asked`.

    Raises:
      UsageError: a template for an organism; a run without a model, see `beside.find`.
    """
    if (path / "meta.json").is_file() and not any(path.glob("*.safetensors")):
        return finished(path, options)
    if options.get("template") and (path / WORLD).is_file():
        allowed = "a model that is no organism: those have their own"
        raise bad("--template", options["template"], allowed)
    name = path.resolve().name if Path(text).exists() else text
    return Place(name, path, {**options, "kernels": options.get("kernels") or "float"})


def finished(workdir: Path, options: Mapping[str, Any]) -> Place:
    """What a run made, served as the run would: beside it, in its dtype, on its mesh.

    Raises:
      UsageError: a template or kernels other than the run's; see `beside.find`.
    """
    own = {"template": run.template_of(workdir), "kernels": run.kernels_of(workdir)}
    for name, kept in own.items():
        if options.get(name) not in (None, "", kept):
            allowed = f"only with a model by itself: {workdir} keeps its own"
            raise bad(f"--{name}", options[name], allowed)
    known = {**run.variables_of(workdir), **options.get("variables", {})}
    path, served_with = beside.find(workdir)
    dtype, mesh = run.read_place(workdir)
    found = {"dtype": dtype, "mesh": mesh, "beside": served_with, "variables": known}
    return Place(workdir.resolve().name, path, {**found, **own})


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
