"""How rows are named: places, splits, slices as `datasets` has them, columns; odd names win."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.core.errors import UsageError
from jaxsafety.data.files import spec
from jaxsafety.data.files.spec import Cut, Spec

NOTHING = lambda path: ""  # noqa: E731


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", Spec("owner/name", "hub")),
        ("owner/some-name.v2@main", Spec("owner/some-name.v2", "hub", "main")),
        ("o/n/cfg-1.0:test", Spec("o/n", "hub", config="cfg-1.0", split="test")),
        ("o/n@v1/a/b:test[:5]", Spec("o/n", "hub", "v1", "a/b", "test", Cut(None, 5))),
        (
            "o/n@refs/convert/parquet/default:train[-50:]:text",
            Spec("o/n", "hub", "refs/convert/parquet", "default", "train", Cut(-50), "text"),
        ),
        ("o/n@refs/pr/7", Spec("o/n", "hub", "refs/pr/7")),
        ("o/n::Best Answer", Spec("o/n", "hub", column="Best Answer")),
        ("o/n[:4]:q", Spec("o/n", "hub", cut=Cut(None, 4), column="q")),
        ("o/n:train:q", Spec("o/n", "hub", split="train", column="q")),
        ("o/n:s[10%:20%]", Spec("o/n", "hub", split="s", cut=Cut(10, 20, True))),
        ("o/n:s[1_000:-1]", Spec("o/n", "hub", split="s", cut=Cut(1000, -1))),
        ("o/n@main/data/x.jsonl", Spec("o/n", "hub", "main", "data/x.jsonl")),
    ],
)
def test_data_sets_of_the_hub(text, expected):
    assert spec.parse(text, kind=NOTHING) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an existing file or directory of rows"),
        ("name", "or a data set of the hub as owner/name"),
        ("../o/n", "an existing file"),
        ("data/missing.jsonl", "an existing file"),
        ("runs/mine/missing.jsonl.gz", "an existing file"),  # nobody asks a hub for it
        ("o/n@a/b.csv/", "an existing file"),
        ("o/n:train[400]", "a slice such as [:400]"),
        ("o/n:train[1:2:3]", "a slice such as"),
        ("o/n:train[a:b]", "a slice such as"),
        ("o/n:train[10%:20]", "a slice such as"),  # `datasets` reads it as 10% to 20%
        ("o/n:train[%:]", "a slice such as"),
        ("o/n:train[:1__0]", "a slice such as"),
        ("o/n:train[:101%]", "percentages from -100 to 100"),
        ("o/n:train+test", "OWNER/NAME@REVISION/CONFIG:SPLIT[a:b]:COLUMN"),
        ("o/n:train[:4", "OWNER/NAME"),
        ("o/n:train:a:b", "OWNER/NAME"),
        ("o/n:train:a=b", "OWNER/NAME"),
        ("o/n:train: a", "without spaces around it"),
    ],
)
def test_other_forms_are_one_line(text, words):
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        spec.parse(text, "data.chats", NOTHING)
    assert str(caught.value).startswith(f"data.chats: got {text!r}; allowed: ")


def test_files_and_directories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert spec.parse("a.jsonl") == Spec("a.jsonl", "file") and spec.parse("a.jsonl").plain
    assert spec.parse("a.jsonl:q") == Spec("a.jsonl", "file", column="q")
    assert spec.parse("a.jsonl::q") == Spec("a.jsonl", "file", column="q")
    assert spec.parse("a.jsonl[1:]:q") == Spec("a.jsonl", "file", cut=Cut(1), column="q")
    assert spec.parse("owner/name:q") == Spec("owner/name", "directory", split="q")
    assert spec.parse("owner/name[:1]:q").cut == Cut(None, 1)
    assert spec.parse(str(tmp_path / "owner")) == Spec(str(tmp_path / "owner"), "directory")
    assert not spec.parse("owner/name:q").plain
    with pytest.raises(UsageError, match="a file has no splits such as train"):
        spec.parse("a.jsonl:train:q")
    with pytest.raises(UsageError, match="an existing file"):
        spec.parse("owner/other")  # its first part is a directory here: never a hub id


def test_what_lies_here_under_the_whole_name_is_that(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "a.jsonl:q", "a.jsonl[:5]", "C:x.jsonl", "C:x.jsonl[1:]"):
        (tmp_path / name).touch()
        assert spec.parse(name) == Spec(name, "file")
    (tmp_path / "C").mkdir()
    assert spec.parse("C:x.jsonl:q") == Spec("C:x.jsonl", "file", column="q")
    assert spec.parse("C:x.jsonl[1:][2:]") == Spec("C:x.jsonl[1:]", "file", cut=Cut(2))


def test_a_configuration_of_a_directory_is_one_that_its_card_may_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    with pytest.raises(UsageError, match="an existing file"):
        spec.parse("set/hard:test")
    (tmp_path / "set" / "README.md").touch()
    assert spec.parse("set/hard:test") == Spec("set", "directory", config="hard", split="test")
    with pytest.raises(UsageError, match="an existing file"):
        spec.parse("set/missing.jsonl")


NUMBERS = st.none() | st.integers(-(10**6), 10**6)
PERCENT = st.none() | st.integers(-100, 100)
CUTS = st.builds(lambda a, b: Cut(a, b), NUMBERS, NUMBERS) | st.builds(
    lambda a, b: Cut(a, b, (a, b) != (None, None)), PERCENT, PERCENT
)
WORD = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,6}", fullmatch=True)
COLUMN = st.from_regex(r"[A-Za-z]([A-Za-z0-9_ #.+-]{0,5}[A-Za-z0-9])?", fullmatch=True)
REMOTE = st.builds(
    Spec,
    st.builds("{}/{}".format, WORD, WORD),
    st.just("hub"),
    st.just("") | WORD | st.sampled_from(["refs/convert/parquet", "refs/pr/12"]),
    st.just("") | WORD | st.builds("{}/{}".format, WORD, WORD),
    st.just("") | WORD,
    st.none() | CUTS,
    st.just("") | COLUMN,
)
ODD = st.text(st.sampled_from("ab/.:[]5%@ -"), min_size=1, max_size=12)


@settings(deadline=None)
@given(REMOTE)
def test_a_data_set_of_the_hub_is_read_as_it_is_written(made):
    assert spec.parse(str(made), kind=NOTHING) == made


@settings(deadline=None)
@given(ODD, st.booleans(), st.just("") | WORD, st.none() | CUTS, st.just("") | COLUMN)
def test_a_place_here_is_read_as_it_is_written(place, is_file, split, cut, column):
    kind = "file" if is_file else "directory"
    made = Spec(place, kind, "", "", "" if is_file else split, cut, column)
    assert spec.parse(str(made), kind=lambda path: kind if path == place else "") == made


@settings(deadline=None)
@given(st.text() | st.text(st.sampled_from("on/:[]0123456789%-@_.:"), max_size=24))
def test_any_text_is_a_spec_or_one_line(text):
    for kind in (NOTHING, lambda path: "file" if path.endswith("o") else "", None):
        try:
            found = spec.parse(text, "data.chats", kind)
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            assert spec.parse(str(found), kind=kind) == found


def test_slices_are_those_of_datasets():
    reader = pytest.importorskip("datasets.arrow_reader")

    @settings(deadline=None)
    @given(st.integers(0, 2500), CUTS)
    def check(count, cut):
        first, end = cut.bounds(count)
        assert 0 <= first <= end <= count
        (theirs,) = reader.ReadInstruction.from_spec(f"train{cut}").to_absolute({"train": count})
        assert list(range(count))[first:end] == list(range(count))[theirs.from_ : theirs.to]

    check()
