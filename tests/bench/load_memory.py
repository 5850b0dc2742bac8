"""Peak host memory of loading a model of a billion random parameters, on one CPU device.

  python tests/bench/load_memory.py [--preset=llama3.2-1b] [--dir=DIR]

Writes the checkpoint once (float32, a file per layer and an index), then loads it in a process of
its own and reports that process's peak resident set. The limit is checkpoint size + 1 GiB; on CPU
the "device" memory, which holds the parameters, is host memory too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

GIB = 1 << 30


def write(folder: Path, preset: str) -> int:
    """A random checkpoint in the Hugging Face layout, tensor by tensor; returns its bytes."""
    import jax
    import numpy as np
    import safetensors.numpy

    from jaxsafety import registry
    from jaxsafety.models.api import build
    from jaxsafety.models.formats import hf

    presets = {}
    for kind in registry.MODELS:
        presets.update(registry.resolve(registry.MODELS, kind).presets)
    config = presets[preset]
    family = registry.resolve(registry.MODELS, config.family)
    shapes = hf.flatten(jax.eval_shape(build(config).init, jax.random.key(0)))
    rng, table, size = np.random.default_rng(0), {}, 0
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict] = {}
    for name, leaf in shapes.items():
        stacked = name.startswith("blocks/")
        for layer in range(config.num_layers) if stacked else (None,):
            files.setdefault(f"{'rest' if layer is None else layer}.safetensors", {})[
                family.names[name].format(layer)
            ] = hf._disk_shape(name, leaf.shape[1:] if stacked else leaf.shape)
    for file, tensors in files.items():
        made = {n: rng.normal(size=s).astype(np.float32) * 0.02 for n, s in tensors.items()}
        safetensors.numpy.save_file(made, folder / file, metadata={"format": "pt"})
        table.update(dict.fromkeys(made, file))
        size += sum(a.nbytes for a in made.values())
        del made
    (folder / f"{hf.INDEX}").write_text(json.dumps({"weight_map": table}))
    (folder / "config.json").write_text(json.dumps(family.write(config)))
    return size


LOAD = """
import resource, sys, time
import jax
from jaxsafety.models import hf

start = time.perf_counter()
model, params = hf.load(sys.argv[1])
jax.block_until_ready(params)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(peak, seconds)
"""


def main() -> int:
    """Writes, loads, and says whether the limit holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="llama3.2-1b")
    parser.add_argument("--dir", type=Path, help="where the checkpoint goes; default: temporary")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.dir or Path(temporary) / "model"
        size = write(folder, args.preset)
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(folder)], capture_output=True, text=True, check=True
        )
    peak, seconds = map(float, done.stdout.split())
    limit = size + GIB
    print(
        f"{args.preset}: checkpoint {size / GIB:.2f} GiB, peak {peak / GIB:.2f} GiB"
        f", limit {limit / GIB:.2f} GiB, {seconds:.0f} s"
    )
    return int(peak > limit)


if __name__ == "__main__":
    sys.exit(main())
