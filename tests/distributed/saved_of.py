"""A process of several that write one model: `python saved_of.py FROM OUT HOST:PORT,COUNT,INDEX`.

The files that it wrote itself are listed in OUT.INDEX.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import safetensors.numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jaxsafety.core import hosts
from jaxsafety.core.sharding import MeshConfig, make_mesh
from jaxsafety.models.formats import hf, shards


def main(source: str, out: str, where: str) -> None:
    """Loads the model onto all processes, and writes it in small files."""
    hosts.start(where)
    mesh = make_mesh(MeshConfig(fsdp=-1))
    model, params = hf.load(source, mesh=mesh)
    assert not all(leaf.is_fully_addressable for leaf in jax.tree.leaves(params))
    real = safetensors.numpy.save_file

    def save(tensors, file, metadata):
        with Path(f"{out}.{jax.process_index()}").open("a") as told:
            told.write(f"{Path(file).name}\n")
        real(tensors, file, metadata)

    safetensors.numpy.save_file = save
    shards.SHARD = 30_000
    hf.save(out, model, params, dtype="float32")


if __name__ == "__main__":
    main(*sys.argv[1:])
