"""Predictions are what they were when they were frozen, and older than their results."""

import hashlib
import json
import shutil
import subprocess

import pytest


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("predictions")


TEXT = "# What we expect\n\nResults: docs/results/toy.jsonl, docs/results/more.jsonl\n\n1. A > B.\n"


@pytest.fixture
def place(tool, tmp_path):
    (tmp_path / tool.FOLDER).mkdir(parents=True)
    (tmp_path / "docs/results").mkdir()
    (tmp_path / tool.FOLDER / "toy.md").write_text(TEXT)
    (tmp_path / tool.FOLDER / "README.md").write_text("Results: docs/results/toy.jsonl\n")
    return tmp_path


def test_this_project_keeps_its_predictions(tool):
    assert tool.check() == [], "see docs/predictions/README.md"


def test_a_frozen_file_may_not_change(tool, place):
    path = place / tool.FOLDER / "toy.md"
    sha256 = tool.freeze("toy", place)
    entry = json.loads((place / tool.INDEX).read_text())["toy"]
    assert entry == {
        "sha256": sha256,
        "results": ["docs/results/toy.jsonl", "docs/results/more.jsonl"],
    }
    assert tool.freeze("toy", place) == sha256 and tool.check(place) == []
    (place / "docs/results/toy.jsonl").write_text("{}\n")
    assert tool.check(place) == []
    path.write_text(TEXT.replace("A > B", "A > B by the mean"))
    assert tool.check(place) == ["toy: not what was frozen"]
    with pytest.raises(SystemExit, match="too late, its results exist: docs/results/toy.jsonl"):
        tool.freeze("toy", place)
    (place / "docs/results/toy.jsonl").unlink()
    with pytest.raises(SystemExit, match="was changed since; write another file"):
        tool.freeze("toy", place)
    path.unlink()
    assert tool.check(place) == ["toy: frozen and gone"]


def test_results_need_a_frozen_prediction(tool, place):
    assert tool.check(place) == []  # a draft
    (place / "docs/results/more.jsonl").write_text("{}\n")
    assert tool.check(place) == ["toy: never frozen, and docs/results/more.jsonl exists"]


def test_what_cannot_be_frozen_is_one_line(tool, place):
    (place / tool.FOLDER / "bare.md").write_text("1. A > B.\n")
    for name, why in (("bare", "has no line"), ("none", "allowed: a file"), ("../toy", "allowed:")):
        with pytest.raises(SystemExit, match=why) as caught:
            tool.freeze(name, place)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_history_counts(tool, place):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=place, check=True, capture_output=True)

    def commit():
        git("add", "-A")
        git("commit", "-q", "-m", "x")

    git("init", "-q")
    tool.freeze("toy", place)
    commit()
    (place / "docs/results/toy.jsonl").write_text("{}\n")
    commit()
    assert tool.check(place) == []
    path = place / tool.FOLDER / "toy.md"
    path.write_text(TEXT + "2. B > C.\n")  # and its digest with it
    index = place / tool.INDEX
    index.write_text(
        index.read_text().replace(hashlib.sha256(TEXT.encode()).hexdigest(), tool.digest(path))
    )
    commit()
    (found,) = tool.check(place)
    assert found.startswith("toy: its digest was changed since ")
    index.write_text("{}")
    path.unlink()
    assert tool.check(place) == ["toy: was frozen once and taken out"]
    git("checkout", "-q", "--", ".")
    path.write_text(TEXT)
    late = TEXT.replace("toy.jsonl", "late.jsonl")
    (place / tool.FOLDER / "late.md").write_text(late.replace("more.jsonl", "later.jsonl"))
    tool.freeze("late", place)
    (place / "docs/results/late.jsonl").write_text("{}\n")
    commit()
    assert "late: came no earlier than docs/results/late.jsonl" in tool.check(place)
