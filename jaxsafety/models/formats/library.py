"""A mixture of LoRA experts on disk: one PEFT directory per expert, and the router beside them.

`DIR/expert_00/`, `DIR/expert_01/`, ... are what `peft` loads, and so is `DIR/always/`, the adapter
that every token uses besides, where there is one; `DIR/router.safetensors` holds the
router's arrays and, as metadata, its static options and the base's fingerprint. Experts that were
trained on unsafe answers say so in their own files, and nothing merges them without being asked to
(`jaxsafety export --unsafe`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from jaxsafety.adapters import projection as proj
from jaxsafety.adapters.routing import ATTENTION, BLOCK, GATE, Routing
from jaxsafety.core import config as configs
from jaxsafety.core import disk, hosts, trees
from jaxsafety.core.errors import bad
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.models.formats import files, peft

PyTree = Any
ROUTER, ALWAYS = "router.safetensors", "always"


def save(
    path: str | Path,
    model: Model,
    adapters: PyTree,
    routing: Routing,
    *,
    fingerprint: str = "",
    unsafe: bool = False,
    base: str = "",
) -> None:
    """Writes experts and router.

    Args:
      path: the directory to make; earlier files of the same names are replaced.
      model: the base.
      adapters: an adapter tree with its "router", perhaps with "always".
      routing: the router's static options.
      fingerprint: of the base, checked by `load`.
      unsafe: tags the experts.
      base: the model's directory or hub id, where PEFT looks for it.

    Raises:
      UsageError: see `peft.save_adapter`.
    """
    folder = Path(path)
    first = next(iter(adapters["experts"].values()))["a"]
    idle = []
    for expert in range(first.shape[1]):
        if not any(np.any(trees.host(p["b"][:, expert])) for p in adapters["experts"].values()):
            idle.append(expert)
        else:
            peft.save_adapter(
                folder / f"expert_{expert:02d}",
                model,
                adapters,
                expert=expert,
                fingerprint=fingerprint,
                unsafe=unsafe,
                base=base,
            )
    always = adapters.get("always", {})
    if always:
        tree = {"experts": always, "scale": adapters["scale"]}
        peft.save_adapter(folder / ALWAYS, model, tree, fingerprint=fingerprint, base=base)
    router = jax.tree.map(trees.host, adapters["router"])
    names, leaves = trees.paths(router), jax.tree.leaves(router)
    about = {
        "base_fingerprint": fingerprint,
        "routing": json.dumps(asdict(routing)),
        "experts": str(first.shape[1]),
        "idle": json.dumps(idle),
        "always": str(bool(always)).lower(),
        "shape": json.dumps({n: list(p["a"].shape) for n, p in adapters["experts"].items()}),
        "scale": json.dumps([float(s) for s in trees.host(adapters["scale"])]),
    }
    if hosts.leader():
        arrays = {n: np.ascontiguousarray(x) for n, x in zip(names, leaves, strict=True)}
        with disk.staged(folder, last=ROUTER) as staging:
            safetensors.numpy.save_file(arrays, staging / ROUTER, metadata=about)
            (staging / ROUTER).chmod(0o644)
    hosts.barrier(f"library {path}")


def load(path: str | Path, model: Model, *, fingerprint: str = "") -> tuple[PyTree, Routing]:
    """Reads what `save` wrote: (adapter tree with its router, routing).

    An expert that does nothing has no directory; it comes back as zeros.

    Raises:
      UsageError: no such directory, files of another base, or experts that do not fit together.
    """
    folder = Path(path)
    if not (folder / ROUTER).is_file():
        raise bad("library", str(folder), f"a directory with {ROUTER}")
    names = files.names(folder / ROUTER)  # raises where it is no sound file
    about = files.metadata(folder / ROUTER)
    made_for = about.get("base_fingerprint", "")
    if made_for and fingerprint and made_for != fingerprint:
        raise bad("library", f"experts for base {made_for}", f"experts for {fingerprint}")
    try:
        count, idle = int(about["experts"]), set(json.loads(about["idle"]))
        shapes = {name: tuple(shape) for name, shape in json.loads(about["shape"]).items()}
        scale = np.asarray(json.loads(about["scale"]), np.float32)
        routing = configs.typed(Routing, json.loads(about["routing"]), "routing")
    except (KeyError, TypeError, ValueError) as error:
        raise bad(f"{ROUTER} metadata", str(error), "what `jaxsafety run` wrote") from None
    experts: dict[str, dict[str, list]] = {name: {"a": [], "b": []} for name in shapes}
    for expert in range(count):
        where = folder / f"expert_{expert:02d}"
        if expert in idle:
            for name, pair in experts.items():
                layers, rank = shapes[name][0], shapes[name][-1]
                for key, shape in proj.lora_shapes(model.projections[name], 1, rank).items():
                    pair[key].append(np.zeros((layers, *shape), np.float32))
            continue
        tree = peft.load_adapter(where, model, fingerprint=fingerprint)
        given = {name: pair["a"].shape for name, pair in tree["experts"].items()}
        wanted = {name: (s[0], 1, *s[2:]) for name, s in shapes.items()}
        if given != wanted:
            raise bad(str(where), given, wanted)
        for name, pair in _scaled(tree, scale).items():
            for key in "ab":
                experts[name][key].append(pair[key])
    router: dict[str, Any] = {}
    for name in names:
        place, _, leaf = name.partition("/")
        array = files.read(folder / ROUTER, name, _shape(model, name, count))
        router.setdefault(place, {})[leaf] = jnp.asarray(array)
    table = {
        name: {key: jnp.concatenate(parts, axis=1) for key, parts in pair.items()}
        for name, pair in experts.items()
    }
    found = {"experts": table, "scale": jnp.asarray(scale), "router": router}
    if about.get("always") == "true":
        tree = peft.load_adapter(folder / ALWAYS, model, fingerprint=fingerprint)
        found["always"] = _scaled(tree, scale)
    return found, routing


def _scaled(tree: PyTree, scale: np.ndarray) -> PyTree:
    """An adapter's table at another scale; one that differs between layers was folded into b."""
    same = np.asarray(tree["scale"]) / scale

    def pair(found: dict[str, Any]) -> dict[str, Any]:
        return {"a": found["a"], "b": found["b"] * same.reshape(-1, *[1] * (found["b"].ndim - 1))}

    return {name: pair(found) for name, found in tree["experts"].items()}


def inputs(path: str | Path, model: Model, *, fingerprint: str = "") -> LayerInputs:
    """The same as what the base runs with. Raises: see `load`."""
    adapters, routing = load(path, model, fingerprint=fingerprint)
    return LayerInputs(adapters=adapters, routing=routing)


def _shape(model: Model, name: str, experts: int) -> tuple[int, ...]:
    """The shape that a router's array has for this model."""
    place, _, leaf = name.partition("/")
    layers, width = model.config.num_layers, model.config.embed_dim
    inputs = {BLOCK: (width,), ATTENTION: (width,), GATE: (width,)}
    inputs |= {n: proj.in_shape(p) for n, p in model.projections.items()}
    if place not in inputs or leaf not in ("weight", "prototype", "mix", "bias"):
        allowed = f"weight, prototype, mix or bias of {', '.join(inputs)}"
        raise bad(f"{ROUTER} {name}", "an unknown array", allowed)
    scored = inputs[place] if leaf in ("weight", "prototype") else ()
    return (layers, *scored, experts)
