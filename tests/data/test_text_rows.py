"""Where a file is broken: the row or the line, in one line, whatever the file holds."""

from __future__ import annotations

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.files.sources import read_chats, read_prompts
from jaxsafety.data.files.tables import read_rows
from jaxsafety.data.files.tfds_chats import prepare

GOOD = '{"prompt": "one"}\n{"prompt": "two"}\n'
LIST = '[{"prompt": "one"},\n {"prompt": "two"},\n'


def refused(path, field="data.chats"):
    with pytest.raises(UsageError) as caught:
        read_prompts(path, field)
    line = str(caught.value)
    assert line.startswith(f"{field}: got") and "\n" not in line
    line.encode()  # what cannot be printed is no line
    return line


def write(path, data):
    data = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "place", "why"),
    [
        ("a.jsonl", GOOD + '{"prompt": 3', "line 3 of", "at column 13"),
        ("a.jsonl", GOOD + "\n\n" + "nonsense\n", "line 5 of", "Expecting value at column 1"),
        ("a.jsonl.gz", GOOD + '{"prompt": "x"} {"prompt": "y"}\n', "line 3 of", "one JSON value"),
        ("a.jsonl", "[\n" + GOOD + "]", "line 1 of", "a JSON list is a .json file"),
        ("a.jsonl", GOOD + '{"prompt": "a", "prompt": "b"}', "row 3 of", "'prompt' is there twice"),
        ("a.jsonl", GOOD + '{"prompt": "\\ud83d"}', "row 3 of", "\\ud83d is half of one"),
        ("a.jsonl", GOOD + '{"prompt": "\\uDE00x"}', "row 3 of", "\\ude00 is half of one"),
        ("a.jsonl", GOOD + '{"prompt": "a", "\\ud83d": 1}', "row 3 of", "is half of one"),
        ("a.jsonl", GOOD + '{"prompt": "a\u0000b"}', "line 3 of", "NUL"),
        ("a.jsonl", GOOD + '{"prompt": "a\tb"}', "line 3 of", "control character"),
        ("a.jsonl", GOOD + '{"n": ' + "9" * 5000 + "}", "row 3 of", "digits"),
        ("a.jsonl", GOOD + '{"n": ' + "[" * 100_000, "row 3 of", "not nested so deeply"),
        ("a.json", LIST + ' {"prompt": 3', "line 3", "in row 3"),
        ("a.json", LIST + ' {"prompt": "x"}\n {"prompt": "y"}]', "line 4", "a comma after row 3"),
        ("a.json", LIST + ' {"prompt": "\\ud83d"}]', "row 3 of", "half"),
        ("a.json", LIST + ' {"prompt": "a", "prompt": "b"}]', "row 3 of", "twice"),
        ("a.json", LIST + ' {"prompt": "x"}] ]', "line 3", "more after the list"),
        ("a.json", LIST + ' {"prompt": "x"}', "line 3", "a comma after row 3, not the end"),
        ("a.json", GOOD + '{"prompt": 3', "line 3 of", "one JSON value"),
        ("a.json", '{"data": [{"prompt": "x"}]}', "a.json", "not a list but holds data"),
        ("a.csv", "prompt,answer\none,1\ntwo,2,3\n", "row 2 of", "2 fields, one for each column"),
        ("a.csv", "prompt,answer\none,1\ntwo\n", "row 2 of", "not 1"),
        ("a.csv", 'prompt,answer\none,1\n"two,2\nthree,3\n', "line 3 of", "never closed"),
        ("a.csv", "prompt,x,prompt\none,1,two\n", "line 1 of", "'prompt' is there twice"),
        ("a.csv", "prompt\none\nna\u00efve\n".encode("latin-1"), "line 3 of", "0xef is not UTF-8"),
        ("a.csv", "prompt\none\n".encode("utf-16"), "line 1 of", "not UTF-16"),
        ("a.txt", "one\ntwo\n".encode("utf-16-le"), "line 1 of", "without NUL"),
        ("a.txt", "one\ntwo\n\ud83d\n", "line 3 of", "0xed is not UTF-8"),
        ("a.txt", "", "no rows in", "at least one prompt"),
        ("a.csv", "", "no rows in", "at least one prompt"),
        ("a.csv", "prompt,answer\n", "no rows in", "at least one prompt"),
        ("a.json", "", "line 1", "Expecting value"),
        ("a.json", "[]", "no rows in", "at least one prompt"),
        ("a.jsonl", "\n \n", "no rows in", "at least one prompt"),
        ("a.jsonl", GOOD + "[1]", "row 3 of", "not a list"),
        ("a.jsonl", GOOD + "null", "row 3 of", "not null"),
        ("a.jsonl", GOOD + '{"prompt": null}', "row 3 of", "`prompt`, not null"),
        ("a.jsonl", GOOD + '{"prompt": " "}', "row 3 of", "`prompt`, not an empty one"),
        ("a.jsonl", GOOD + '{"prompt": NaN}', "row 3 of", "`prompt`, not a number"),
        ("a.jsonl", GOOD + '{"prompt": {"a": 1}}', "row 3 of", "`prompt`, not an object"),
        ("a.jsonl", GOOD + '{"prompt": "a", "Prompt ": "b"}', "row 3 of", "there twice"),
    ],
)
def test_the_place_of_a_flaw(tmp_path, name, data, place, why):
    line = refused(write(tmp_path / name, data))
    assert place in line and why in line


def test_half_characters_in_dialogues_and_in_what_is_prepared(tmp_path):
    rows = [{"prompt": f"q {i}", "answer": f"a {i}"} for i in range(3)]
    lines = [*map(json.dumps, rows), '{"prompt": "q", "answer": "smile \\ud83d"}']
    path = write(tmp_path / "cut.jsonl", "\n".join(lines))
    for call in (lambda: read_chats(path, "--chats"), lambda: prepare(path, tmp_path / "out")):
        with pytest.raises(UsageError, match=r"--chats: got 'row 4 of .*half of one"):
            call()
    assert not (tmp_path / "out").exists()
    whole = write(tmp_path / "whole.jsonl", '{"prompt": "smile \\ud83d\\ude00", "answer": "ok"}')
    assert read_prompts(whole)[0]["prompt"] == "smile \U0001f600"


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_row_of_a_table_that_is_no_text(tmp_path, suffix):
    cells = pa.array([b"one", b"\xed\xa0\xbd", b"three"]).view(pa.string())
    table = pa.table({"prompt": cells})
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    assert "row 2 of" in refused(path)


def test_columns_of_one_name_in_a_table(tmp_path):
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink:
        table = pa.table([pa.array(["x"]), pa.array(["y"])], names=["prompt", "prompt"])
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    assert "'prompt' is there twice" in refused(tmp_path / "a.arrow")


def test_other_line_separators_are_no_ends_of_lines(tmp_path):
    marks = "a\u2028b\u0085c\u2029d\x0be\x0cf\x1cg"
    path = write(tmp_path / "a.txt", f"{marks}\r\nsecond\rthird\n")
    assert read_rows(path) == [marks, "second", "third"]
    row = {"prompt": "a\u2028b\u0085c\u2029d", "answer": "e"}
    text = json.dumps(row, ensure_ascii=False)
    for name, data in (("a.jsonl", text), ("b.jsonl", f"{text}\r\n"), ("a.json", f"[{text}]")):
        assert read_prompts(write(tmp_path / name, data)) == [row]
    assert read_rows(write(tmp_path / "a.csv", f'prompt\n"{marks}"\n')) == [{"prompt": marks}]


def test_json_lines_under_the_name_json(tmp_path):
    assert [r["prompt"] for r in read_prompts(write(tmp_path / "a.json", GOOD))] == ["one", "two"]


def test_csv_as_programs_write_it(tmp_path):
    text = '\ufeff"prompt","answer"\r\n"say ""no""\nloudly","a,b"\r\n\r\nplain,x\r\n'
    assert read_prompts(write(tmp_path / "a.csv", text)) == [
        {"prompt": 'say "no"\nloudly', "answer": "a,b"},
        {"prompt": "plain", "answer": "x"},
    ]
    blank = write(tmp_path / "c.csv", "\n\nprompt,answer\n\none,1\n")
    assert read_prompts(blank) == [{"prompt": "one", "answer": "1"}]
    long = "word " * 40_000  # above the csv module's own limit
    assert read_prompts(write(tmp_path / "b.csv", f"prompt\n{long}x\n"))[0]["prompt"] == long + "x"


COLUMNS = [
    "prompt",
    "question",
    "goal",
    "Behavior",
    "text",
    "answer",
    "target",
    "label",
    "messages",
    "conversations",
    "chosen",
    "rejected",
    "choices",
    "options",
    "endings",
    "gold",
    "answerKey",
    "turns",
    "prompt_style",
    "instances",
    "instruction",
    "input",
    "system",
    "type",
    "focus",
    "completion",
    "FunctionalCategory",
    "sol1",
    "sol2",
    "sentence",
    "option1",
    "option2",
    "passage",
    "best_answer",
    "correct_answers",
    "A",
    "B",
    "output",
    "is_safe",
    "PROMPT",
    "",
]
CELLS = [
    "x",
    "",
    " ",
    "A",
    "2",
    "safe",
    "\u2028",
    "\ud83d",
    "a\x00b",
    "#### 3",
    "Human: hi",
    None,
    True,
    -1,
    10**30,
    0.5,
    float("nan"),
    float("inf"),
    [],
    {},
    ["a", "b"],
    [None],
    [{}],
    {"text": ["a"]},
    "\n\nHuman: a\n\nAssistant:",
    [{"role": "user", "content": "x"}],
    [{"role": "tool"}],
    [{"from": "gpt", "value": None}],
    {"stem": "x", "choices": []},
    {"aliases": 3},
    [["a"], 1],
    {"label": [None, {}], "text": ["a", "b"]},
    [{"input": 1}],
]


@pytest.mark.parametrize("seed", range(8))
def test_no_file_is_a_traceback(tmp_path, seed):
    """Random rows under known columns, damaged files and random bytes of every suffix."""
    draw = random.Random(seed)
    for _ in range(60):
        rows = [
            {draw.choice(COLUMNS): draw.choice(CELLS) for _ in range(draw.randrange(6))}
            for _ in range(draw.randrange(1, 4))
        ]
        rows = rows if draw.random() < 0.9 else [*rows, draw.choice(CELLS)]
        text = "\n".join(json.dumps(row, ensure_ascii=draw.random() < 0.5) for row in rows)
        data = bytearray(text.encode("utf-8", "surrogatepass"))
        suffix = draw.choice([".jsonl", ".json", ".csv", ".txt", ".jsonl.gz", ".parquet", ".arrow"])
        if suffix == ".json" and draw.random() < 0.8:
            data = bytearray(json.dumps(rows).encode())
        if suffix == ".parquet":
            pyarrow.parquet.write_table(pa.table({"prompt": ["a", "b"]}), tmp_path / "t")
            data = bytearray((tmp_path / "t").read_bytes())
        if suffix.endswith(".gz"):
            data = bytearray(gzip.compress(bytes(data)))
        for _ in range(draw.choice([0, 0, 1, 3])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.3:
            data = data[: draw.randrange(len(data))] if draw.random() < 0.7 else draw.randbytes(40)
        path = tmp_path / f"x{suffix}"
        path.write_bytes(bytes(data))
        for read in (read_prompts, read_chats):
            try:
                for row in read(path, "data.x"):
                    texts = row.values() if isinstance(row, dict) else [m.content for m in row]
                    "".join(texts).encode()
            except UsageError as error:
                assert "\n" not in str(error)
                str(error).encode()
