"""Peak host memory of loading a model of a billion random parameters, on one CPU device.

  python tests/bench/load_memory.py [--preset=llama3.2-1b] [--dir=DIR] [--gguf=Q8_0]

Writes the checkpoint once (float32, a file per layer and an index; or with --gguf a GGUF file whose
matrices are zeros of that type), then loads it in a process of its own and reports that process's
peak resident set. The limit is parameters in float32 + 1 GiB; on CPU the "device" memory, which
holds the parameters, is host memory too.
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
    from jaxsafety.models.formats.files import INDEX

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
    (folder / INDEX).write_text(json.dumps({"weight_map": table}))
    (folder / "config.json").write_text(json.dumps(family.write(config)))
    return size


def write_gguf(file: Path, preset: str, kind: str) -> int:
    """A GGUF file of zeros; returns the bytes of its parameters in float32."""
    import gguf
    import jax
    import numpy as np
    from gguf import constants, quants, tensor_mapping

    from jaxsafety import registry
    from jaxsafety.models.api import build
    from jaxsafety.models.formats import hf
    from tests.models import gguf_files

    presets = {}
    for name in registry.MODELS:
        presets.update(registry.resolve(registry.MODELS, name).presets)
    config = presets[preset]
    family = registry.resolve(registry.MODELS, config.family)
    arch = gguf_files.ARCHES.get(config.family, config.family)
    writer = gguf.GGUFWriter(file, arch)
    for key, value in gguf_files.keys_of(family.write(config), arch).items():
        if value is not None:
            gguf_files.add(writer, key, value)
    number = next(a for a, name in constants.MODEL_ARCH_NAMES.items() if name == arch)
    names = tensor_mapping.get_tensor_name_map(number, config.num_layers)
    size, stored = 0, constants.GGMLQuantizationType[kind]
    for name, leaf in hf.flatten(jax.eval_shape(build(config).init, jax.random.key(0))).items():
        stacked = name.startswith("blocks/")
        shape = hf._disk_shape(name, leaf.shape[1:] if stacked else leaf.shape)
        size += leaf.size * 4
        for layer in range(config.num_layers) if stacked else (None,):
            own = names.get_name(family.names[name].format(layer), try_suffixes=(".weight",))
            if len(shape) < 2:
                writer.add_tensor(str(own), np.zeros(shape, np.float32))
                continue
            packed = quants.quant_shape_to_byte_shape(shape, stored)
            writer.add_tensor(str(own), np.zeros(packed, np.uint8), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return size


LOAD = """
import resource, sys, time
import jax
from jaxsafety.models.formats import hf

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
    parser.add_argument("--gguf", default="", help="a GGUF file, its matrices of this type")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.dir or Path(temporary) / "model"
        folder = folder.with_suffix(".gguf") if args.gguf else folder
        made = write_gguf(folder, args.preset, args.gguf) if args.gguf else 0
        size = made or write(folder, args.preset)
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(folder)], capture_output=True, text=True, check=True
        )
    peak, seconds = map(float, done.stdout.split())
    limit = size + GIB
    print(
        f"{args.preset}: parameters {size / GIB:.2f} GiB, peak {peak / GIB:.2f} GiB"
        f", limit {limit / GIB:.2f} GiB, {seconds:.0f} s"
    )
    return int(peak > limit)


if __name__ == "__main__":
    sys.exit(main())
