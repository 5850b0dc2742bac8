"""Output paths that cannot be made: one line before any work, and nothing left behind."""

import json
import sys

import pytest

from jaxsafety import cli
from jaxsafety.core import outputs
from jaxsafety.core.errors import UsageError
from jaxsafety.testing import random_checkpoint

ROW = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    random_checkpoint(folder / "model")
    (folder / "chats.jsonl").write_text(json.dumps(ROW))
    return folder


@pytest.fixture
def places(tmp_path):
    """Places where nothing can be made, even by an administrator."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "deeper")
    found = [tmp_path / "file", tmp_path / "file" / "x", tmp_path / "file" / "x" / "y"]
    found += [tmp_path / ("x" * 300), tmp_path / "dangling" / "x", tmp_path / "a" / ("y" * 300)]
    if sys.platform == "linux":
        found += ["/proc/x", "/proc/x/y", "/proc"]
    return found


def commands(inputs, root):
    config = root / "configs" / "safesteer" / "organism.py"
    return {
        "run": ["run", f"--config={config}:smoke", "--workdir"],
        "export": ["export", f"--model={inputs / 'model'}", "--out"],
        "eval": ["eval", f"--model={inputs / 'model'}", "--out"],
        "prepare": ["prepare", f"--chats={inputs / 'chats.jsonl'}", "--out"],
        "organism": ["organism", "--seed=1", "--smoke", "--out"],
    }


@pytest.mark.parametrize("name", ["run", "export", "eval", "prepare", "organism"])
def test_a_place_that_takes_nothing_is_one_line(inputs, places, root, name, monkeypatch, capsys):
    from jaxsafety.experiment import run
    from jaxsafety.models.formats import load
    from jaxsafety.raising import recipe

    def never(*args, **kwargs):
        raise AssertionError("worked before it was known where to write")

    for module, work in ((load, "load"), (recipe, "train_base"), (run, "run")):
        monkeypatch.setattr(module, work, never)
    *argv, option = commands(inputs, root)[name]
    for place in places:
        assert cli.main([*argv, f"{option}={place}"]) == 2, place
        said = capsys.readouterr().err
        assert said.startswith(f"jaxsafety: error: {option}: got") and said.count("\n") == 1, said


def test_the_plan_as_a_file(tmp_path, places, root, capsys):
    argv = ["plan", f"--config={root / 'configs' / 'safesteer' / 'organism.py'}"]
    for place in [*places[1:], tmp_path, tmp_path / "none" / "x.json"]:
        assert cli.main([*argv, "--topology=v5e:2x2", f"--json={place}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("jaxsafety: error: --json: got") and said.count("\n") == 1, said


def test_what_is_refused_later_leaves_nothing(inputs, tmp_path, capsys):
    deep = tmp_path / "a" / "b" / "c"
    argv = ["export", f"--model={inputs / 'model'}", f"--adapter={tmp_path / 'none'}"]
    assert cli.main([*argv, f"--out={deep}"]) == 2
    assert "adapter" in capsys.readouterr().err and not any(tmp_path.iterdir())


def test_asking_leaves_nothing_and_takes_nothing(tmp_path):
    outputs.directory("--out", tmp_path / "a" / "b")
    outputs.directory("--out", tmp_path)
    outputs.file("--json", tmp_path / "x.json")
    assert not any(tmp_path.iterdir())
    (tmp_path / "x.json").write_text("mine")
    outputs.file("--json", tmp_path / "x.json")
    assert (tmp_path / "x.json").read_text() == "mine"
    with pytest.raises(UsageError, match="without null bytes"):
        outputs.directory("--out", tmp_path / "a\0b")
