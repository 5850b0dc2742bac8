"""Rows of splits, slices and columns: of files, directories and data sets of a hub on this disk."""

import json
import re

import huggingface_hub.errors
import pytest

from jaxsafety import cli
from jaxsafety.core.errors import UsageError
from jaxsafety.data.files import located
from jaxsafety.data.files.sources import load_prompts, read_chats, read_prompts
from jaxsafety.data.files.tables import read_rows
from tests.data.fake_hub import NAME, hub, rows, write

__all__ = ["hub"]

THREE = {f"data/train-0000{i}-of-00003.parquet": rows(10 * i, 10 * i + 10) for i in range(3)}
SPLITS = {**THREE, "data/test-00000-of-00001.parquet": rows(100, 104)}


def numbers(text):
    return [int(row["answer"]) for row in read_rows(text)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_slices_of_a_file(tmp_path, name):
    write(tmp_path / name, rows(0, 30))
    path = f"{tmp_path / name}"
    assert numbers(f"{path}[:4]") == [0, 1, 2, 3] and numbers(path) == list(range(30))
    assert numbers(f"{path}[-2:]") == [28, 29] and numbers(f"{path}[10%:20%]") == [3, 4, 5]
    assert [r["prompt"] for r in read_rows(f"{path}[1:2]:answer")] == ["1"]
    with pytest.raises(UsageError, match=r"no rows in .*\[40:\]'; allowed: at least one prompt"):
        read_prompts(f"{path}[40:]")


def test_concatenated_frames_of_zstandard_are_one_text(tmp_path):
    write(tmp_path / "a.jsonl.zst", rows(0, 2))
    whole = (tmp_path / "a.jsonl.zst").read_bytes()
    (tmp_path / "a.jsonl.zst").write_bytes(whole + whole)
    assert numbers(str(tmp_path / "a.jsonl.zst")) == [0, 1, 0, 1]
    (tmp_path / "a.jsonl.zst").write_bytes(whole[:-4])
    with pytest.raises(UsageError, match="a readable .jsonl file"):
        read_rows(tmp_path / "a.jsonl.zst")


def test_a_directory_of_splits(tmp_path):
    for name, some in SPLITS.items():
        write(tmp_path / "set" / name, some)
    place = str(tmp_path / "set")
    assert numbers(f"{place}:train") == list(range(30))
    assert numbers(f"{place}:train[8:22]") == list(range(8, 22))  # over three parts
    assert numbers(f"{place}:test[-50%:]") == [102, 103]
    with pytest.raises(UsageError, match=r"allowed: one split of train, test$"):
        read_rows(place)
    (tmp_path / "set" / "data" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(UsageError, match="all 3 parts of data/train; number 1 is not there"):
        read_rows(f"{place}:train")


def test_directories_of_other_libraries_have_splits(tmp_path):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(rows(0, 10))
    datasets.DatasetDict(train=made, test=made.select([1, 3])).save_to_disk(tmp_path / "many")
    assert numbers(f"{tmp_path / 'many'}:test") == [1, 3]
    assert numbers(f"{tmp_path / 'many'}:train[2:4]") == [2, 3]
    for text in (f"{tmp_path / 'many'}", f"{tmp_path / 'many'}:dev"):
        with pytest.raises(UsageError, match=r"one split of train, test: .*many:SPLIT"):
            read_rows(text)
    made.save_to_disk(tmp_path / "one")
    assert numbers(f"{tmp_path / 'one'}[:2]") == [0, 1]
    with pytest.raises(UsageError, match="without a split: it is one"):
        read_rows(f"{tmp_path / 'one'}:train")


def test_a_split_of_a_tfds_directory(tmp_path):
    write(tmp_path / "a.jsonl", rows(0, 4))
    out = tmp_path / "tfds"
    assert cli.main(["prepare", f"--chats={tmp_path / 'a.jsonl'}[1:]", f"--out={out}"]) == 0
    place = next(out.glob("chats/*"))
    assert len(read_chats(place)) == 3 and len(read_chats(f"{place}:train[:2]")) == 2
    with pytest.raises(UsageError, match=r"no split called test in \['train'\]"):
        read_chats(f"{place}:test")


def test_a_flaw_is_told_by_its_file(tmp_path):
    write(tmp_path / "set" / "train_0.jsonl", rows(0, 3))
    write(tmp_path / "set" / "train_1.jsonl", '{"prompt": "a"}\n{"prompt": \n')
    with pytest.raises(UsageError, match=r"line 2 of .*train_1.jsonl.*; allowed: a readable"):
        read_rows(f"{tmp_path / 'set'}:train[:1]")
    write(tmp_path / "set" / "train_1.jsonl", '{"prompt": "a"}\n{"prompt": ""}\n')
    with pytest.raises(UsageError, match=r"row 2 of .*set\[3:\]'"):  # of what was named
        read_prompts(f"{tmp_path / 'set'}[3:]")


def test_a_data_set_of_the_hub(hub):
    commit = hub.put(SPLITS)
    assert numbers(f"{NAME}:train[:12]") == list(range(12))
    assert numbers(f"{NAME}@main:test") == [100, 101, 102, 103]
    found = located.locate(f"{NAME}:train")
    assert found.commit == commit and len(found.files) == 3
    assert read_prompts(f"{NAME}:test:answer")[0] == {"prompt": "100", "answer": ""}
    with pytest.raises(UsageError, match=r"data.chats: got 'owner/name'; allowed: one split of tr"):
        read_chats(NAME, "data.chats")


def test_its_card_names_configurations(hub):
    card = {
        "configs": [
            {"config_name": "easy", "data_files": "e/*.jsonl"},
            {"config_name": "hard", "data_files": [{"split": "test", "path": "h.jsonl.gz"}]},
        ]
    }
    files = {"e/b.jsonl": rows(2, 4), "e/a.jsonl": rows(0, 2), "h.jsonl.gz": rows(7, 9)}
    hub.put({**files, "README.md": f"---\n{json.dumps(card)}\n---\n# A set\n"})
    assert numbers(f"{NAME}/easy") == [0, 1, 2, 3] and numbers(f"{NAME}/hard:test") == [7, 8]
    assert numbers(f"{NAME}@main/e/b.jsonl") == [2, 3]
    for text in (NAME, f"{NAME}/soft"):
        with pytest.raises(UsageError, match="one configuration of easy, hard"):
            read_rows(text)
    hub.put({**files, "README.md": "---\nconfigs: [\n---\n"})
    with pytest.raises(UsageError, match="a readable head of README.md") as caught:
        read_rows(f"{NAME}/easy")
    assert "\n" not in str(caught.value)


def test_a_directory_here_has_its_card_too(tmp_path):
    card = {"configs": [{"config_name": "hard", "data_files": [{"split": "x", "path": "h/*"}]}]}
    card["configs"].append({"config_name": "default", "data_files": "*.jsonl"})
    write(tmp_path / "README.md", f"---\n{json.dumps(card)}\n---\n")
    write(tmp_path / "a.jsonl", rows(0, 2))
    write(tmp_path / "h" / "b.jsonl", rows(5, 6))
    assert numbers(str(tmp_path)) == [0, 1] and numbers(f"{tmp_path}/hard:x") == [5]


def test_a_revision_is_its_own(hub):
    hub.put({"a.jsonl": rows(0, 2)}, revision="v1")
    hub.put({"a.jsonl": rows(5, 6)})
    assert numbers(f"{NAME}@v1") == [0, 1] and numbers(NAME) == [5]
    hub.put({"default/test/0000.parquet": rows(8, 9)}, revision="refs/convert/parquet")
    assert numbers(f"{NAME}@refs/convert/parquet:test") == [8]
    assert numbers(f"{NAME}@refs/convert/parquet/default:test") == [8]


def test_a_process_stays_at_one_commit(hub):
    hub.put({"a.jsonl": rows(0, 2)})
    assert numbers(NAME) == [0, 1]
    moved = located._listed
    hub.put({"a.jsonl": rows(5, 6)})
    assert numbers(NAME) == [5]
    ref = hub.cache / "datasets--owner--name" / "refs" / "main"
    ref.write_text("0" * 40)
    assert numbers(NAME) == [5] and moved is located._listed


def test_offline_what_the_cache_lacks_is_told(hub):
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set, and the cache lacks it") as caught:
        read_rows("owner/other:train", "data.chats")
    told = "a directory here, or a data set of the hub that can be fetched"
    assert str(caught.value).startswith(f"data.chats: got 'owner/other:train'; allowed: {told}")
    hub.put({"data/train-00000-of-00003.parquet": rows(0, 3)})
    with pytest.raises(UsageError, match=r"number 1 is not there \(the hub was not reached"):
        read_rows(f"{NAME}:train")
    with pytest.raises(UsageError, match="the split train.*this is what the cache holds"):
        read_rows(f"{NAME}:test")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("GatedRepoError", "its owner asks for an agreement there"),
        ("RepositoryNotFoundError", "the hub has no such data set, or it is private"),
        ("RevisionNotFoundError", "the data set is there, without such a revision"),
    ],
)
def test_usual_causes_are_told_as_those_of_models(monkeypatch, kind, words):
    class Refused(getattr(huggingface_hub.errors, kind)):
        def __init__(self):
            OSError.__init__(self, "404 Client Error.\n\nRequest ID: 7")

    def download(name, **kwargs):
        raise Refused

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UsageError, match=words) as caught:
        read_rows("owner/refused:train")
    assert "Request ID" not in str(caught.value)


def test_only_the_card_and_the_files_of_the_split_are_fetched(tmp_path, monkeypatch):
    asked, names = [], [*SPLITS, "README.md", "name.py", "val [1].jsonl", "data/x.bin"]
    folder = tmp_path / ("a" * 40)

    def download(name, *, revision, allow_patterns, repo_type):
        assert (name, repo_type) == ("owner/online", "dataset")
        asked.append((revision, allow_patterns))
        for path in huggingface_hub.utils.filter_repo_objects(names, allow_patterns=allow_patterns):
            write(folder / path, SPLITS.get(path, ""))
        return str(folder)

    class Api:
        def list_repo_files(self, name, *, revision, repo_type):
            assert (revision, repo_type) == ("a" * 40, "dataset")
            return names

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    located._listed.cache_clear()
    assert numbers("owner/online:test[:1]") == [100]
    assert asked == [(None, ["README.md"]), ("a" * 40, ["data/test-00000-of-00001.parquet"])]
    assert numbers("owner/online:test") == [100, 101, 102, 103] and len(asked) == 2
    assert read_rows("owner/online:validation") == []  # a name with signs of patterns
    assert not (folder / "name.py").exists() and not (folder / "data/x.bin").exists()
    located._listed.cache_clear()


def test_names_that_leave_the_data_set_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(tmp_path / "in"))
    monkeypatch.setattr(located.hub, "listing", lambda *a: ["../secret.jsonl"])
    write(tmp_path / "secret.jsonl", rows(0, 1))
    (tmp_path / "in").mkdir()
    located._listed.cache_clear()
    with pytest.raises(UsageError, match="files of rows|below the data set's own folder"):
        read_rows("owner/evil")
    located._listed.cache_clear()


@pytest.mark.parametrize("damage", ["[]", "{", '{"splits": []}', '{"splits": ["../x"]}'])
def test_a_damaged_directory_is_one_line(tmp_path, damage):
    (tmp_path / "dataset_dict.json").write_text(damage)
    with pytest.raises(UsageError) as caught:
        read_rows(f"{tmp_path}:train")
    assert "\n" not in str(caught.value)


def test_one_place_is_one_identity(tmp_path, monkeypatch):
    write(tmp_path / "a.jsonl", rows(0, 1))
    monkeypatch.chdir(tmp_path)
    assert located.identity("./a.jsonl[:5]") == located.identity(f"{tmp_path}/a.jsonl[:5]")
    assert located.identity("a.jsonl") != located.identity("a.jsonl[:5]")
    assert located.identity("o/n:train") == "o/n:train" and located.identity("gone") == "gone"
    assert located.is_there("o/n") and not located.is_there("gone.jsonl")


def test_what_rows_are_depends_on_files_slice_and_column(tmp_path):
    write(tmp_path / "a.jsonl", rows(0, 4))
    path = tmp_path / "a.jsonl"
    digests = {located.locate(f"{path}{end}").sha256 for end in ("", "[:2]", "[2:]", ":prompt")}
    assert len(digests) == 4
    before = located.locate(f"{path}[:2]").sha256
    write(path, rows(0, 5))
    assert located.locate(f"{path}[:2]").sha256 != before


LABELLED = [
    {"id": 1, "prompt": "kill it", "ask": "How do I kill a process?", "label": "safe"},
    {"id": 2, "prompt": "kill them", "ask": "How do I kill a neighbour?", "label": "unsafe"},
]


def test_a_column_keeps_labels_and_answers(tmp_path):
    write(tmp_path / "a.jsonl", LABELLED)
    path = f"{tmp_path / 'a.jsonl'}:ask"
    (row,) = load_prompts(path, "eval.sets", "over_refusal").rows
    assert row[1].messages[-1].content == "How do I kill a process?"
    (row,) = load_prompts(path, "eval.sets", "safety").rows
    assert row[0] == 2
    tasks = [{"Question Text": "2 + 2?", "question": "x", "answer": 4, "choices": ["3", "4"]}]
    write(tmp_path / "b.jsonl", tasks)
    (row,) = load_prompts(f"{tmp_path / 'b.jsonl'}:Question Text", "eval.sets", "capability").rows
    assert row[1].messages[-1].content == "2 + 2?" and row[1].gold == "4"


def test_a_column_of_dialogues(tmp_path):
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    written = "\n\nHuman: Hi\n\nAssistant: Ho"
    more = [{"talk": talk, "output": "x", "text": written, "prompt": "Hi", "response": "Ho"}]
    write(tmp_path / "a.jsonl", more)
    for column in ("talk", "text", "prompt"):
        reply = [{**more[0], "output": None}] if column == "prompt" else more
        write(tmp_path / "a.jsonl", reply)
        (dialogue,) = read_chats(f"{tmp_path / 'a.jsonl'}:{column}")
        assert [m.content for m in dialogue] == ["Hi", "Ho"], column


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"a": "x"}, "row 1 of {}:q'; allowed: a column of a, not 'q'"),
        ({"q": None}, "a text or turns under `q`, not null"),
        ({"q": " "}, "a text or turns under `q`, not an empty one"),
        ({"q": []}, "a text or turns under `q`, not an empty one"),
        ({"q": 3}, "a text or turns under `q`, not a number"),
        ({"q": "x", "Q": "y"}, "columns of different names"),
        ("bare", "a row with columns, to take 'q' of, not a text"),
    ],
)
def test_a_column_that_is_not_there(tmp_path, row, words):
    path = tmp_path / "a.jsonl"
    write(path, json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=re.escape(words.format(path))):
        read_prompts(f"{path}:q")
