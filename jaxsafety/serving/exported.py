"""What is exported: a model that is named, or what a run made; and whether it is tagged unsafe.

A tag stands in the metadata of an adapter's or a model's weights, or in the head of its card. It
goes with what a run makes of such a base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors

from jaxsafety.core import disk
from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.system import SystemPrompt
from jaxsafety.experiment import beside, record, trained
from jaxsafety.models.formats import files, hub, library, peft, source

CARD = "README.md"


@dataclass(frozen=True)
class Exported:
    """A model to be written, and where it comes from.

    Attributes:
      model: its directory or GGUF file.
      named: what it was named as: a path, a file or a hub id.
      adapter: a PEFT directory that is merged into it.
      run: the run that made it; None where a model was named.
      variables: of the chat template, written as its defaults.
      template: as of `jaxsafety.load`, which is written as the model's chat template.
      system: the system message that the run serves it with.
      unsafe: why it counts as trained on unsafe answers; () where it does not.
    """

    model: Path
    named: str
    adapter: Path | None = None
    run: Path | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    system: str = ""
    unsafe: tuple[str, ...] = ()
    template: str = ""


def of_model(named: str, adapter: Path | None = None) -> Exported:
    """A model that is named.

    Raises:
      UsageError: none of that name, or a run's directory.
    """
    model = hub.directory(named, "--model")
    if (model / "meta.json").is_file() and not any(model.glob("*.safetensors")):
        raise bad("--model", named, f"a model; of a run say --workdir={named}")
    if adapter is not None:
        peft.read_config(adapter, quiet=True)  # `load_adapter` says what is ignored
    return Exported(model, named, adapter, unsafe=(*_of_adapter(adapter), *_of_weights(model)))


def of_run(run: Path) -> Exported:
    """What a finished run made: its student, with an adapter that it is served with merged.

    Raises:
      UsageError: not a run, an unfinished one, or one whose model is more than one set of weights.
    """
    exp = record.read(run)
    named, given = exp.model.path, exp.model.given()
    own = run / "adapter"
    if _of_adapter(own) and not (run / "student").is_dir():  # measured beside its base
        if beside.is_needed(run):
            raise bad("--workdir", f"{run}, which serves its adapter with more", "weights alone")
        place, adapter, served = source.directory(exp.model), own, beside.NOTHING
    else:
        place, served = beside.find(run)
        adapter = served.adapters
    instead = f"a run whose model is one set of weights; `jaxsafety serve --workdir={run}` has this"
    if adapter is not None and (adapter / library.ROUTER).is_file():
        raise bad("--workdir", f"{run}, which routes between experts token by token", instead)
    if served.layers is not None:
        raise bad("--workdir", f"{run}, which is served with steered layers", instead)
    system = served.encode.text if isinstance(served.encode, SystemPrompt) else ""
    if served.encode is not encode_prompt and not system:
        raise bad("--workdir", f"{run}, which is served with a template of its own", instead)
    unsafe = (*_of_adapter(adapter), *_of_weights(place))
    form = exp.model.template
    return Exported(place, named, adapter, run, given, system, unsafe, form)


def check(what: Exported, unsafe: bool, push: str = "") -> None:
    """Refuses, without `unsafe`, to merge an adapter that is tagged unsafe, and to push a model.

    Args:
      what: is exported.
      unsafe: whether it was asked for.
      push: the repository that it goes to; "" is none.

    Raises:
      UsageError: it would be merged or pushed.
    """
    if unsafe or not what.unsafe:
        return
    given = what.unsafe[0]
    if _of_adapter(what.adapter):
        name = "--adapter" if what.run is None else "--workdir"
        place = what.adapter if what.run is None else what.run
        allowed = "one that is not tagged unsafe, or --unsafe"
        raise bad(name, f"{place}, trained on unsafe answers", allowed)
    if push:
        raise bad(
            "--push", f"{push}, but {given}", "a model that is not tagged unsafe, or --unsafe"
        )


def head(model: Path) -> dict[str, Any]:
    """The YAML head of a model directory's card; {} without one that can be read."""
    import huggingface_hub

    try:
        return huggingface_hub.metadata_load(model / CARD) or {}
    except Exception:  # no card, or one of others that is no YAML
        return {}


def _of_adapter(adapter: Path | None) -> tuple[str, ...]:
    """Why an adapter, or any expert of a library, counts as unsafe."""
    if adapter is None:
        return ()
    tagged = [f for f in sorted(adapter.rglob(peft.WEIGHTS)) if _tagged(f)]
    return tuple(f"its adapter {f.parent.name} is tagged unsafe" for f in tagged)


def _of_weights(model: Path, seen: frozenset[Path] = frozenset()) -> tuple[str, ...]:
    """Why a model counts as unsafe: its own tag, or that of the base that a run made it of."""
    found: list[str] = []
    if model.is_dir():
        own = any(_tagged(file) for file in sorted(model.glob("*.safetensors")))
        if own or head(model).get("unsafe") is True:
            found.append("its weights are tagged unsafe")
    run = trained.find_run(model)
    if run is None or run in seen:
        return tuple(found)
    config = disk.read_json(run / "config.json")
    section = config.get("model") if isinstance(config, dict) else None
    base = section.get("path") if isinstance(section, dict) else None
    if base and Path(str(base)).exists():
        told = _of_weights(Path(str(base)), seen | {run})
        found += [f"of the base that it was made of: {why}" for why in told]
    return tuple(found)


def _tagged(weights: Path) -> bool:
    try:
        return files.metadata(weights).get("unsafe") == "true"
    except (safetensors.SafetensorError, OSError, ValueError):
        return False  # a damaged file; who reads its tensors says so
