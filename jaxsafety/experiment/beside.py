"""What a run's model is served with beside its parameters, on disk: for chat and for eval.

A method leaves parameters (`student/`) or routed experts of the base (`library/`). Whatever else it
or a mitigation asks to be served with lies in `served/` of the workdir, which is written only where
there is something to say:

    served/served.json          steer, the system message, whether there are adapters
    served/layers.safetensors   add, ablate [L,D]
    served/adapters/            a PEFT directory, or a library where they have a router

Letters: L layers, D width, E experts.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import safetensors.numpy

from jaxsafety.core import disk, hosts, trees
from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.system import SystemPrompt
from jaxsafety.experiment import record
from jaxsafety.experiment.identity import model_fingerprint
from jaxsafety.experiment.workdir import read_meta
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.models.formats import files, library, peft
from jaxsafety.models.formats.source import directory
from jaxsafety.protocols import Encode, Served
from jaxsafety.sampling.engine import STEER

FOLDER, FACTS, ARRAYS, ADAPTERS = "served", "served.json", "layers.safetensors", "adapters"
STEERED = ("add", "ablate")
ASKED = "served"  # of meta.json: `served/` belongs to the run, once it is finished


class Beside(NamedTuple):
    """What a model directory is served with.

    Attributes:
      adapters: a PEFT directory, or a library of routed experts.
      layers: a file with `add` and `ablate`.
      steer: as of `Served`.
      encode: as of `Served`.
    """

    adapters: Path | None = None
    layers: Path | None = None
    steer: str = "all"
    encode: Encode = encode_prompt


NOTHING = Beside()


def check(what: Served, model: Model) -> None:
    """Rejects what could not be served again from a workdir.

    Raises:
      UsageError: a template that is no `SystemPrompt`, steering that is no [L,D], several adapters
        without a router.
    """
    shape = (model.config.num_layers, model.config.embed_dim)
    if what.steer not in STEER:
        raise bad("served.steer", what.steer, ", ".join(STEER))
    if what.encode is not encode_prompt and not isinstance(what.encode, SystemPrompt):
        raise bad("served.encode", what.encode, "encode_prompt or a SystemPrompt")
    for name in STEERED:
        array = getattr(what.layers, name)
        if array is not None and array.shape != shape:
            raise bad(f"served.layers.{name}", f"shape {array.shape}", f"[L,D], {shape}")
    for name in ("where", "pool"):
        if getattr(what.layers, name) is not None:
            raise bad(f"served.layers.{name}", "an array", "None: the sampler derives it")
    adapters = what.layers.adapters
    if adapters is not None and "router" not in adapters:
        count = next(iter(adapters["experts"].values()))["a"].shape[1]
        if count > 1:
            raise bad("served.layers.adapters", f"{count} without a router", "one, or a router")


def check_kept(own: Served, what: Served) -> None:
    """Rejects changes where the method serves adapters, which it wrote beside its base itself.

    Raises:
      UsageError: a mitigation has put others in place of these adapters or of the base.
    """
    if own.layers.adapters is None:
        return
    kept = jax.tree.leaves((own.params, own.layers.adapters))
    left = jax.tree.leaves((what.params, what.layers.adapters))
    if len(kept) != len(left) or any(a is not b for a, b in zip(kept, left, strict=True)):
        allowed = "steering and a template alone, where the method serves adapters of its own"
        raise bad("mitigation.serve", "other parameters or adapters", allowed)


def keep(workdir: Path, what: Served, model: Model, place: Path, base: str = "") -> None:
    """Writes `served/`, or removes one that says what is no longer so.

    Routed experts that the method keeps in `library/` are there already. An adapter that it tagged
    unsafe is not written a second time, so that nothing serves it.

    Args:
      workdir: of the run.
      what: what is measured.
      model: static.
      place: the model directory that the adapters belong to.
      base: the same as PEFT looks for it, a directory or a hub id; "" does not say.

    Raises:
      UsageError: see `check` and `peft.save_adapter`.
    """
    check(what, model)
    folder, adapters = workdir / FOLDER, what.layers.adapters
    if adapters is not None and hosts.share(lambda: _kept_already(workdir)):
        adapters = None
    arrays = {name: getattr(what.layers, name) for name in STEERED}
    arrays = {name: trees.host(x) for name, x in arrays.items() if x is not None}
    system = what.encode.text if isinstance(what.encode, SystemPrompt) else ""
    if not (arrays or system or what.steer != "all" or adapters is not None):
        if hosts.leader():
            (folder / FACTS).unlink(missing_ok=True)
        hosts.barrier("nothing is served beside the model")
        return
    if adapters is not None:
        options: dict[str, Any] = {"fingerprint": model_fingerprint(place), "base": base}
        if "router" in adapters:
            library.save(folder / ADAPTERS, model, adapters, what.layers.routing, **options)
        else:
            peft.save_adapter(folder / ADAPTERS, model, adapters, **options)
    if hosts.leader():
        facts = {
            "steer": what.steer,
            "system": system,
            "layers": sorted(arrays),
            "adapters": adapters is not None,
        }
        with disk.staged(folder, last=FACTS) as staging:
            if arrays:
                safetensors.numpy.save_file(arrays, staging / ARRAYS)
                (staging / ARRAYS).chmod(0o644)
            (staging / FACTS).write_text(json.dumps(facts, indent=1) + "\n")
    hosts.barrier(f"served {workdir}")


def is_needed(workdir: Path) -> bool:
    """Whether there is something to serve beside the model."""
    return hosts.share((workdir / FOLDER / FACTS).is_file)


def other(base: Any, params: Any) -> bool:
    """Whether parameters are not those that were loaded: then the adapters belong to others."""
    if base is params:
        return False
    pairs = zip(jax.tree.leaves(base), jax.tree.leaves(params), strict=True)
    return any(a is not b and not bool((a == b).all()) for a, b in pairs)


def _kept_already(workdir: Path) -> bool:
    """Whether the method wrote its adapters where they are served from, or tagged them unsafe."""
    weights = workdir / "adapter" / peft.WEIGHTS
    unsafe = weights.is_file() and files.metadata(weights).get("unsafe") == "true"
    return unsafe or (workdir / "library" / library.ROUTER).is_file()


def find(workdir: Path) -> tuple[Path, Beside]:
    """What a finished run serves: a model directory, and what it is served with beside it.

    Raises:
      UsageError: not a run, an unfinished one, or one that keeps no model.
    """
    base, beside = directory(record.read(workdir).model), _read(workdir / FOLDER)
    if read_meta(workdir).get(ASKED) and beside is NOTHING:
        allowed = "a finished run: what this one is served with is not written yet"
        raise bad("workdir", str(workdir), allowed)
    experts = workdir / "library"
    if (experts / library.ROUTER).is_file():
        return base, beside._replace(adapters=beside.adapters or experts)
    if (workdir / "student" / "config.json").is_file():
        return workdir / "student", beside
    if beside.adapters is None:
        allowed = "a finished run, with its student/ or library/ (an unsafe adapter has neither)"
        raise bad("workdir", str(workdir), allowed)
    return base, beside


def _read(folder: Path) -> Beside:
    """What `keep` wrote; nothing where there is no such file."""
    try:
        facts = json.loads((folder / FACTS).read_text())
        system, steer = facts["system"], facts["steer"]
        adapters, arrays = facts["adapters"], facts["layers"]
        if steer not in STEER or not isinstance(system, str):
            raise ValueError(f"steer {steer!r}, system {system!r}")
    except FileNotFoundError:
        return NOTHING
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise bad(str(folder / FACTS), str(error), "what `jaxsafety run` wrote") from None
    return Beside(
        folder / ADAPTERS if adapters else None,
        folder / ARRAYS if arrays else None,
        steer,
        SystemPrompt(system) if system else encode_prompt,
    )


def inputs(beside: Beside, model: Model, fingerprint: str = "") -> LayerInputs:
    """What the model runs with.

    Args:
      beside: where it lies.
      model: static.
      fingerprint: of its directory, which adapters are compared with.

    Raises:
      UsageError: files that are missing, damaged, or of another model.
    """
    layers = LayerInputs()
    if beside.adapters is not None and (beside.adapters / library.ROUTER).is_file():
        layers = library.inputs(beside.adapters, model, fingerprint=fingerprint)
    elif beside.adapters is not None:
        tree = peft.load_adapter(beside.adapters, model, fingerprint=fingerprint)
        layers = LayerInputs(adapters=jax.tree.map(jnp.asarray, tree))
    if beside.layers is None:
        return layers
    shape = (model.config.num_layers, model.config.embed_dim)
    found = files.names(beside.layers)
    arrays = {name: jnp.asarray(files.read(beside.layers, name, shape)) for name in found}
    if not arrays or not set(arrays) <= set(STEERED):
        raise bad(str(beside.layers), sorted(arrays), f"some of {', '.join(STEERED)}")
    return replace(layers, **arrays)
