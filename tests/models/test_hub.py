"""Directories and hub ids: what is a name of which, and what a hub that is not there says."""

import huggingface_hub
import huggingface_hub.errors
import pytest

import jaxsafety
from jaxsafety import cli
from jaxsafety.core.errors import UsageError
from jaxsafety.models.formats import hub
from jaxsafety.testing import random_checkpoint


def test_a_hub_id_is_fetched_and_loaded(tmp_path, monkeypatch):
    random_checkpoint(tmp_path / "snapshot")
    asked = []

    def download(name, **kwargs):
        asked.append((name, kwargs))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model, _, _ = jaxsafety.load("owner/some-model.v2@main")
    assert model.config.family == "llama"
    ((name, kwargs),) = asked
    assert name == "owner/some-model.v2" and kwargs["revision"] == "main"
    # what a tokenizer may be read from (data/tokens/tokenizer_files.py)
    files = ["tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja"]
    patterns = kwargs["allow_patterns"]
    assert list(huggingface_hub.utils.filter_repo_objects(files, allow_patterns=patterns)) == files
    assert "*.bin" not in kwargs["allow_patterns"] and "*.py" not in kwargs["allow_patterns"]


@pytest.mark.parametrize("text", ["nowhere", "./a/b", "a/b/c", "../x/y", "a/b c", "/abs/none", ""])
def test_what_is_no_hub_id_is_a_missing_directory(text):
    with pytest.raises(UsageError, match="model.path: got .*an existing directory"):
        hub.directory(text)


def test_a_folder_here_is_never_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(UsageError, match="an existing directory"):
        hub.directory("runs/mine")


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="or a hub id that can be fetched") as caught:
        hub.directory("no-such-owner/no-such-model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("GatedRepoError", "its owner asks for an agreement there"),
        ("RepositoryNotFoundError", "the hub has no such model, or it is private"),
        ("RevisionNotFoundError", "the model is there, without such a revision"),
    ],
)
def test_usual_causes_are_told_shortly(monkeypatch, kind, words):
    class Refused(getattr(huggingface_hub.errors, kind)):
        def __init__(self):
            OSError.__init__(
                self, "404 Client Error.\n\nRequest ID: 7; Repository Not Found for url"
            )

    def download(name, **kwargs):
        raise Refused

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UsageError, match=words) as caught:
        hub.directory("owner/some-model")
    assert "Request ID" not in str(caught.value)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (OSError("Name or\nservice not known"), "was not reached, Name or service not known, and"),
        (huggingface_hub.errors.OfflineModeIsEnabled("off"), "reached, HF_HUB_OFFLINE is set, and"),
    ],
)
def test_a_hub_out_of_reach_says_what_kept_it(monkeypatch, cause, words):
    def download(name, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("nothing cached") from cause

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UsageError, match=words):
        hub.directory("owner/some-model")


def test_the_whole_cause_is_told(monkeypatch):
    cause = "no route to the hub. " + "because " * 60 + "the-last-word"

    def download(name, **kwargs):
        raise OSError(cause)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UsageError, match="the-last-word"):
        hub.directory("no-such-owner/no-such-model")


def test_a_file_is_a_model_where_it_is_a_gguf(tmp_path):
    for name, data in (("model.gguf", b""), ("model", b"GGUF...")):
        (tmp_path / name).write_bytes(data)
        assert hub.directory(tmp_path / name) == tmp_path / name
        assert hub.public_name(tmp_path / name) == (str(tmp_path / name), "")
    (tmp_path / "model.safetensors").write_bytes(b"...")
    with pytest.raises(UsageError, match=r"model.safetensors.*a directory .*or a GGUF file"):
        hub.directory(tmp_path / "model.safetensors")


def test_a_file_that_is_missing_is_never_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="a GGUF file, or a hub id"):
        hub.directory("models/mine.gguf")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.gguf").touch()
    assert hub.public_name("models/mine.gguf") == (str(tmp_path / "models" / "mine.gguf"), "")


@pytest.mark.parametrize("command", ["chat", "export", "eval"])
def test_hub_ids_are_taken_wherever_a_model_is(tmp_path, monkeypatch, capsys, command):
    asked = []

    def download(name, **kwargs):
        asked.append(name)
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    more = [] if command == "chat" else ["--out=out"]
    assert cli.main([command, "--model=owner/some-model@main", *more]) == 2
    said = capsys.readouterr().err
    assert asked == ["owner/some-model"] and "offline" in said and said.count("\n") == 1
    assert "--model: got 'owner/some-model@main'" in said
    assert not any(tmp_path.iterdir())


def test_the_unaligned_organism_has_a_name_everywhere(root):
    """Configs had it alone; `chat`, `serve`, `export` and `load` did not know it."""
    assert hub.directory(hub.UNALIGNED) == root / "jaxsafety" / "organism" / "unaligned"
    with pytest.raises(UsageError, match="shipped:other"):
        hub.directory("shipped:other")
