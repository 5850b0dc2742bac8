"""A small config, a model directory and a workdir claimed by both."""

from __future__ import annotations

from ml_collections import ConfigDict

from jaxsafety.experiment import identity, workdir


def config(**changes):
    sections = {
        "seed": 0,
        "model": {"path": "", "dtype": "float32"},
        "train": {"progress": True, "keep": 2},
        "method": {"steps": 3, "votes": {"top": 2}},
    }
    made = ConfigDict(sections)
    for key, new in changes.items():
        node, *rest = key.split("__")
        if rest:
            made[node][rest[0]] = new
        else:
            made[node] = new
    return made


def weights(tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


def claim(run, cfg, model):
    workdir.claim(run, cfg, identity.experiment_fingerprint(cfg, model), model)
