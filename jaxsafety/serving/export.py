"""`jaxsafety export`: a directory that transformers loads, and the card of what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxsafety.adapters import lora
from jaxsafety.core import disk
from jaxsafety.experiment import identity, record, trained, workdir
from jaxsafety.models.formats import hf, hub, load, peft, source
from jaxsafety.models.formats.gguf.store import GGUF
from jaxsafety.models.formats.store import open_store
from jaxsafety.report import card
from jaxsafety.report.load import Run
from jaxsafety.serving.exported import CARD, Exported, head

TEMPLATE, WORLD = "chat_template.jinja", "world.json"
LICENCE = ("license", "license_name", "license_link")
# Models that come with the package, and with its licence.
OWN = {
    source.SHIPPED: "the organism that comes with jaxsafety",
    source.SHIPPED.with_name("unaligned"): "the unaligned organism that comes with jaxsafety",
}


def export(
    what: Exported, out: Path, *, version: str, dtype: str = "", name: str = ""
) -> tuple[str, card.Facts]:
    """Writes the model and its card.

    Args:
      what: is exported; `exported.check` was asked.
      out: the directory to make.
      version: of the library.
      dtype: how the weights are stored; "" as they were.
      name: in the card; "" is the directory's.

    Returns:
      What was done about dtypes, in words, and what the card was made of.

    Raises:
      UsageError: anything wrong with the model or its adapter.
    """
    words = convert(
        what.model,
        out,
        adapter=what.adapter,
        dtype=dtype,
        unsafe=bool(what.unsafe),
        variables=what.variables,
        template=what.template,
    )
    facts = describe(what, out, version=version, name=name or out.resolve().name)
    disk.write(out / CARD, card.page(facts))  # last: a card is of a model that is there
    return words, facts


def convert(
    model_dir: Path,
    out: Path,
    *,
    adapter: Path | None = None,
    dtype: str = "",
    unsafe: bool = False,
    variables: Mapping[str, Any] | None = None,
    template: str = "",
) -> str:
    """Writes a model again: another dtype, one file, an adapter merged.

    An adapter of any dtype is added in float32, and the sum is rounded once.

    Args:
      model_dir: a Hugging Face directory or a GGUF file.
      out: the directory to make.
      adapter: a PEFT LoRA directory for this model.
      dtype: float32, bfloat16 or float16, how the weights are stored; "" is the dtype of
        `model_dir`, the narrowest that holds all of its weights exactly.
      unsafe: tags what is written as trained on unsafe answers.
      variables: of the chat template.
      template: as of `jaxsafety.load`.

    Returns:
      What was done about dtypes, in words.

    Raises:
      UsageError: anything wrong with the model or the adapter.
    """
    hf.read_config(model_dir)
    kept = hf.stored_dtype(model_dir)
    model, params, tokenizer = load.load(
        model_dir, param_dtype="float32", variables=variables, template=template
    )
    words = dtype or f"{kept}, as {model_dir}"
    if adapter is not None:
        of = identity.model_fingerprint(model_dir)
        tree = peft.load_adapter(adapter, model, fingerprint=of)
        params = lora.merge(params, tree, model.projections)
        words += f"; the {hf.stored_dtype(adapter, peft.WEIGHTS)} adapter was added in float32"
    world = model_dir / WORLD
    if world.is_file():  # the organism's world goes with the model
        disk.write(out / WORLD, world.read_text())
    hf.save(out, model, params, dtype=dtype or kept, tokenizer=tokenizer, unsafe=unsafe)
    return words


def describe(what: Exported, out: Path, *, version: str, name: str) -> card.Facts:
    """What is known of a model that was written to `out`."""
    config, world = disk.read_json(out / "config.json"), disk.read_json(out / WORLD)
    template = out / TEMPLATE
    base, base_model, place = _base(what)
    adapter = sorted(what.adapter.glob("adapter_*")) if what.adapter is not None else []
    facts = card.Facts(
        name=name,
        version=version,
        commit=workdir.git_hash(),
        base=base,
        base_model=base_model,
        base_files=_weights(what),
        adapter={file.name: disk.digest(file) for file in adapter},
        licence=_licence(place),
        unsafe=what.unsafe,
        world=world if isinstance(world, dict) else None,
        weights=disk.digest(out / hf.WEIGHTS),
        dtype=str(config["dtype"]),
        template=disk.digest(template) if template.is_file() else "",
    )
    if what.run is None:
        return facts
    exp = record.read(what.run)
    return replace(
        facts,
        run=Run(what.run),
        stored=source.stored_dtype(exp.model),
        merged=what.adapter is not None,
        system=what.system,
        learnt=_learnt(what.run),
    )


def _base(what: Exported) -> tuple[str, str, Path]:
    """The base in words, its hub id where that is known, and where it lies."""
    named, place = what.named, what.model
    if what.run is not None:
        named = record.read(what.run).model.path
        shipped = {"": source.SHIPPED, source.UNALIGNED: source.SHIPPED.with_name("unaligned")}
        place = shipped.get(named, Path(named))
    place = place.resolve()
    if place in OWN:
        return OWN[place], "", place
    if (found := _hub_id(named)) is not None:
        return f"{found} of the hub, {named}", found, what.model if what.run is None else place
    own = head(place).get("base_model") if place.is_dir() else None
    return (
        f"a model that lies here as {Path(named).name}",
        own if isinstance(own, str) else "",
        place,
    )


def _hub_id(named: str) -> str | None:
    """The id that a model was fetched by; None for a directory, one that is gone too."""
    if Path(named).exists() or not hub.HUB_ID.fullmatch(named):
        return None
    import huggingface_hub

    name, _, revision = named.partition("@")
    kept = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision or None)
    return name if isinstance(kept, str) else None


def _weights(what: Exported) -> dict[str, str]:
    """The base's files of weights and their sha256, as the run read them."""
    if what.run is None:
        found: Any = identity.model_digests(what.model)
    else:
        found = workdir.read_meta(what.run).get("files")
    told = found.items() if isinstance(found, dict) else ()
    named = ((key.removeprefix("model: "), sha) for key, sha in told if key.startswith("model: "))
    return {name: sha for name, sha in named if name.endswith((".safetensors", ".gguf"))}


def _licence(model: Path) -> dict[str, str]:
    """What the model itself says of its licence: its card, or a GGUF's metadata."""
    if model in OWN:
        return {"license": "apache-2.0"}
    told: Mapping[str, Any] = head(model) if model.is_dir() else {}
    if model.is_file() and isinstance(store := open_store(model), GGUF):
        told = {"license": store.header.metadata.get("general.license")}
    return {name: told[name] for name in LICENCE if isinstance(told.get(name), str)}


def _learnt(run: Path) -> tuple[tuple[str, str, str], ...]:
    """Files that a run learnt from: setting, name, sha256."""
    found = workdir.read_meta(run).get("files")
    rows = []
    for key, sha in found.items() if isinstance(found, dict) else ():
        setting, _, name = key.partition(": ")
        if setting.startswith(trained.LEARNT) and setting not in trained.UNREAD:
            rows.append((setting, name, str(sha)))
    return tuple(rows)
