"""What is imported is declared, what is declared is imported, and TFDS only on demand."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from jaxsafety import registry

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Names that differ from what is installed by more than a dash.
DISTRIBUTIONS = {"crowdkit": "crowd-kit", "orbax": "orbax-checkpoint", "sklearn": "scikit-learn"}
# Declared, and imported by somebody else.
OTHERS = {"importlib-resources"}  # by tensorflow-datasets, which does not ask for it


def plain(name: str) -> str:
    """A distribution's name without extras and versions, as installers compare it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", name)[0]).lower()


def imported(folders: tuple[str, ...]) -> set[str]:
    """Distributions that the files of some folders import, also inside functions."""
    found = set()
    for path in (p for folder in folders for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
    found -= set(sys.stdlib_module_names) | {"jaxsafety", "configs"}
    found -= {path.stem for path in (ROOT / "tools").glob("*.py")}  # they import one another
    return {plain(DISTRIBUTIONS.get(name, name)) for name in found}


def test_what_is_imported_is_declared_and_the_other_way_round():
    declared = {plain(name) for name in PROJECT["dependencies"]}
    assert len(declared) == len(PROJECT["dependencies"])
    optional = {plain(DISTRIBUTIONS.get(name, name)) for name in registry.EXTRAS}
    used = imported(("jaxsafety", "configs", "tools"))
    assert used - declared - optional == set()
    assert declared - used == OTHERS
    assert {plain("ml_dtypes>=0.5"), plain("etils[epath]"), plain("A.b_C; x")} == {
        "ml-dtypes",
        "etils",
        "a-b-c",
    }


def test_every_dependency_has_a_lower_bound():
    extras = PROJECT["optional-dependencies"]
    every = PROJECT["dependencies"] + [name for names in extras.values() for name in names]
    assert [name for name in every if not re.search(r"[>=]=\d", name)] == []


def test_extras_of_the_registry_are_those_of_the_project():
    extras = PROJECT["optional-dependencies"]
    of_jax = {extra for extra, names in extras.items() if {plain(n) for n in names} == {"jax"}}
    assert of_jax == {"tpu", "cuda"}  # another jaxlib, which no module is missing without
    # A compiler that JAX finds by itself: it has to be of the same releases as jax.
    [plugin] = [n for n in extras["gpu-plan"] if plain(n).startswith("jax")]
    [jax] = [n for n in extras["cuda"] if plain(n) == "jax"]
    assert plugin.partition(">=")[2] == jax.partition(">=")[2]
    expected = {
        plain(name): extra
        for extra, names in extras.items()
        if extra not in of_jax | {"dev", "gpu-plan"}
        for name in names
    }
    known = {plain(DISTRIBUTIONS.get(name, name)): extra for name, extra in registry.EXTRAS.items()}
    assert known == expected


def test_tfds_is_imported_when_its_directory_is_opened(tmp_path):
    """It takes long, and few have such a directory: no module of ours brings it along."""
    code = """
import importlib, pathlib, pkgutil, sys
import jaxsafety
names = [m.name for m in pkgutil.walk_packages(jaxsafety.__path__, "jaxsafety.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
assert len(names) > 100, names
assert "tensorflow_datasets" not in sys.modules
from jaxsafety.data.files import tables, tfds_chats
out = tfds_chats.prepare(sys.argv[1], pathlib.Path(sys.argv[2]))
assert "tensorflow_datasets" in sys.modules and len(tables.read_rows(out, "chats")) == 1
"""
    chats = tmp_path / "chats.jsonl"
    turns = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    chats.write_text(f'{{"messages": {turns}}}\n')
    command = [sys.executable, "-c", code, str(chats), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
