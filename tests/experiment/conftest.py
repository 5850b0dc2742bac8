"""A world, and files of 12 prompts each with a config that uses them."""

from __future__ import annotations

import pytest

from jaxsafety.experiment.setting import DataConfig
from jaxsafety.organism.world import WorldConfig, make_world, save_world


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    save_world(make_world(WorldConfig(seed=2)), path)
    return path


@pytest.fixture
def data(tmp_path):
    """Files of 12 prompts each, and a config that uses them."""
    paths = {}
    for name in ("harmful", "harmless", "distil"):
        paths[name] = str(tmp_path / f"{name}.txt")
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} {i}\n" for i in range(12)))
    (tmp_path / "measured.txt").write_text("".join(f"measured {i}\n" for i in range(12)))
    (tmp_path / "maths.csv").write_text("question,answer\n1+1,2\n2+2,4\n")
    return DataConfig("files", **paths, train=8, val=4, prompts=10)
