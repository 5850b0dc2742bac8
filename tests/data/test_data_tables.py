"""Rows from parquet, Arrow, `datasets` and TFDS directories; what is broken is one line."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.files.sources import read_chats, read_prompts
from jaxsafety.data.files.tables import read_rows
from jaxsafety.data.files.tfds_chats import prepare

CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"question {i}"},
            {"role": "assistant", "content": f"answer – {i}"},
        ]
    }
    for i in range(5)
]


@pytest.fixture
def jsonl(tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in CHATS))
    return path


def stream(path, rows):
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def hub_directory(folder):
    """What `datasets.Dataset.save_to_disk` leaves, in two shards."""
    folder.mkdir()
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    stream(folder / names[0], CHATS[:3])
    stream(folder / names[1], CHATS[3:])
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_every_format_gives_the_same_dialogues(tmp_path, jsonl):
    expected = read_chats(jsonl)
    table = pa.Table.from_pylist(CHATS)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    shards = tmp_path / "shards"
    shards.mkdir()
    pyarrow.parquet.write_table(table.slice(0, 2), shards / "0.parquet")
    pyarrow.parquet.write_table(table.slice(2), shards / "1.parquet")
    stream(tmp_path / "a.arrow", CHATS)
    with pa.OSFile(str(tmp_path / "b.arrow"), "wb") as sink:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    for name in ("a.parquet", "shards", "a.arrow", "b.arrow"):
        assert read_chats(tmp_path / name) == expected, name
    assert read_chats(hub_directory(tmp_path / "hub")) == expected
    assert read_chats(prepare(jsonl, tmp_path / "tfds")) == expected


def test_the_datasets_library_agrees(tmp_path, jsonl):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(CHATS).save_to_disk(tmp_path / "one")
    assert read_chats(tmp_path / "one") == read_chats(jsonl)
    datasets.DatasetDict(train=datasets.Dataset.from_list(CHATS)).save_to_disk(tmp_path / "many")
    assert read_chats(tmp_path / "many" / "train") == read_chats(jsonl)
    assert read_chats(tmp_path / "many") == read_chats(jsonl)  # its only split


def test_prompts_from_parquet(tmp_path):
    table = pa.Table.from_pylist([{"goal": "one", "target": "a"}, {"goal": "two", "target": None}])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert read_prompts(tmp_path / "a.parquet") == [
        {"prompt": "one", "answer": ""},
        {"prompt": "two", "answer": ""},
    ]


@pytest.mark.parametrize(
    "kind", ["parquet", "arrow", "state", "outside", "no_tables", "tfds", "class", "info", "dict"]
)
def test_damage_is_one_line(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    if kind in ("parquet", "arrow"):
        path.write_bytes(b"not a table of anything")
    else:
        path.mkdir()
    if kind == "state":
        (path / "state.json").write_text('{"_data_files": 3}')
    if kind == "outside":
        stream(tmp_path / "secret.arrow", CHATS)
        state = {"_data_files": [{"filename": "../secret.arrow"}]}
        (path / "state.json").write_text(json.dumps(state))
    if kind == "tfds":
        (path / "features.json").write_text("{")
    if kind == "class":
        evil = {"pythonClassName": "evil_module.X", "jsonFeature": {"json": "{}"}}
        (path / "features.json").write_text(json.dumps(evil))
    if kind == "info":
        (path / "features.json").write_text("{}")
        (path / "dataset_info.json").write_text('{"unknown": [')
    if kind == "dict":
        (path / "dataset_dict.json").write_text("[]")
    with pytest.raises(UsageError, match="data.chats: got") as caught:
        read_rows(path, "data.chats")
    assert "\n" not in str(caught.value)
    assert "evil_module" in str(caught.value) or kind != "class"


def test_prepare_keeps_what_is_there(tmp_path, jsonl):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(UsageError, match="--out"):
        prepare(jsonl, tmp_path / "full")
    (tmp_path / "bad.jsonl").write_text('{"neither": 1}\n')
    with pytest.raises(UsageError, match="--chats: got 'row 1"):
        prepare(tmp_path / "bad.jsonl", tmp_path / "new")
    assert not (tmp_path / "new").exists()
