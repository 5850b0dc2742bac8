"""What a public set says of its file, which file is taken, and what is no file of it."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from pathlib import Path

import pytest

from jaxsafety import registry
from jaxsafety.benchmarks import public, suites
from jaxsafety.benchmarks.public import PublicSet
from jaxsafety.core.errors import UsageError

ROWS = [
    {"goal": f"Fold a paper hat of size {i}", "target": "Sure", "area": "hats"} for i in range(9)
]


def text(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def digest(body):
    return hashlib.sha256(body.encode()).hexdigest()


HATS = PublicSet(
    name="hats",
    kind="safety",
    licence="none",
    source="this test",
    files=("hats_all.jsonl", "hats_*.jsonl", "hat/test-*.jsonl"),
    versions={digest(text(ROWS)): "first"},
    layout=("AdvBench",),
    columns=("goal", "target"),
    categories=("area",),
    max_tokens=8,
)
CAPS = PublicSet("caps_safe", "over_refusal", "none", "here", ("caps.txt",), {}, ("plain text",), 8)
CAPS_BAD = PublicSet("caps_bad", "safety", "none", "here", ("bad.txt",), {}, ("plain text",), 8)


@pytest.fixture
def table(monkeypatch):
    for one in (HATS, CAPS, CAPS_BAD):
        monkeypatch.setitem(globals(), one.name.upper(), one)
    known = {one.name: f"{__name__}:{one.name.upper()}" for one in (HATS, CAPS, CAPS_BAD)}
    monkeypatch.setattr(registry, "SETS", known)


def write(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body, "utf-8")
    return path


def test_a_known_version_and_another(tmp_path):
    path = write(tmp_path / "hats_all.jsonl", text(ROWS))
    bench, facts = HATS.open(path)
    assert (bench.name, bench.kind, bench.form, bench.max_tokens) == ("hats", "safety", "text", 8)
    assert [item.id for item in bench.items] == [str(i) for i in range(1, 10)]
    meta = bench.items[3].meta
    assert meta["category"] == "hats" and meta["categories"] == {"area": "hats"}
    assert (meta["kind"], meta["row"], meta["set"], meta["answer"]) == ("harmful", 4, "hats", "")
    assert facts["version"] == "first" and facts["sha256"] == digest(text(ROWS))
    assert (facts["rows"], facts["usable"], facts["used"], facts["left_out"]) == (9, 9, 9, {})
    write(path, text(ROWS[:5]))
    facts = HATS.open(path).facts
    assert facts["version"] is None and "other version" in facts["version_note"]
    assert "first" in facts["version_note"]
    facts = CAPS.open(write(tmp_path / "caps.txt", "Knit a cap\n")).facts
    assert facts["version"] is None and facts["version_note"].startswith("not known")


def test_a_version_is_known_by_what_is_packed(tmp_path):
    path = tmp_path / "hats_all.jsonl.gz"
    path.write_bytes(gzip.compress(text(ROWS).encode()))
    facts = HATS.open(path).facts
    assert facts["version"] == "first"
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() != digest(text(ROWS))


def test_a_limit_takes_rows_by_seed_and_a_larger_one_adds_to_them(tmp_path):
    path = write(tmp_path / "hats_all.jsonl", text(ROWS))
    ids = {
        (limit, seed): [i.id for i in HATS.open(path, limit=limit, seed=seed).benchmark.items]
        for limit in (3, 5, 9, 20)
        for seed in (0, 1)
    }
    for seed in (0, 1):
        assert len(ids[3, seed]) == 3 and set(ids[3, seed]) < set(ids[5, seed])
        assert ids[9, seed] == ids[20, seed] == [str(i) for i in range(1, 10)]
        assert ids[5, seed] == sorted(ids[5, seed], key=int)
    assert ids[3, 0] != ids[3, 1]
    with pytest.raises(UsageError, match="limit: got -1"):
        HATS.open(path, limit=-1)


BAD = {
    "other columns": (
        text([*ROWS[:2], {"goal": "x", "answer": "y"}]),
        r"set hats: got 'row 3 of .* \(columns goal, answer\)'; allowed: rows of hats: columns",
    ),
    "another layout": (
        text([{**row, "behavior": "b"} for row in ROWS]),
        "row 1 of .*, JailbreakBench layout'; allowed: rows of AdvBench layout",
    ),
    "texts": ('"a"\n"b"\n', r"row 1 of .* \(a text\)'; allowed: rows of hats"),
    "no prompt": (text([*ROWS[:1], {**ROWS[1], "goal": ""}]), "row 2 of .*; .*not an empty one"),
    "two columns of one name": (text([{**ROWS[0], "GOAL": "x"}]), "row 1 of .*there twice"),
    "no rows": ("\n", "no rows in"),
    "half a line": (text(ROWS)[:-9], "line 9 of .*one JSON value per line"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_file_of_a_set_is_one_line(tmp_path, case):
    body, line = BAD[case]
    with pytest.raises(UsageError, match=line) as caught:
        HATS.open(write(tmp_path / "hats_all.jsonl", body))
    assert "\n" not in str(caught.value)


def test_rows_that_a_set_leaves_out_are_counted_and_keep_their_numbers(tmp_path):
    path = write(
        tmp_path / "h.jsonl", text([{**r, "area": "ab"[i % 2]} for i, r in enumerate(ROWS)])
    )
    some = PublicSet(
        **{**vars(HATS), "keep": lambda row: "of area a" if row["area"] == "a" else ""}
    )
    bench, facts = some.open(path)
    assert [item.id for item in bench.items] == ["2", "4", "6", "8"]
    assert facts["left_out"] == {"of area a": 5} and (facts["rows"], facts["usable"]) == (9, 4)
    assert "5 of area a of 9 rows left out" in facts["layout"]
    none = PublicSet(**{**vars(HATS), "keep": lambda row: "of any area"})
    with pytest.raises(UsageError, match=r"no rows in .*\(9 of any area of 9 rows left out"):
        none.open(path)


def test_more_of_a_row(tmp_path):
    def more(row, asked):
        if row["area"] != "hats":
            raise ValueError("an `area` of hats")
        return {"length": len(asked.messages[0].content)}

    some = PublicSet(**{**vars(HATS), "more": more, "form": "choices"})
    path = write(tmp_path / "h.jsonl", text(ROWS))
    bench = some.open(path).benchmark
    assert bench.items[0].meta["length"] == len(ROWS[0]["goal"]) and bench.form == "choices"
    write(path, text([*ROWS, {**ROWS[0], "area": "shoes"}]))
    with pytest.raises(UsageError, match="row 10 of .*; allowed: an `area` of hats"):
        some.open(path)


def test_which_file_is_first(tmp_path):
    assert HATS.find(tmp_path) == []
    names = ["z/hats_b.jsonl", "hats_a.jsonl", "deep/er/hats_c.JSONL.gz", "x/hat/test-0.jsonl"]
    for name in (*names, "too/deep/for/hats_all.jsonl", ".git/hats_all.jsonl", "test-0.jsonl"):
        write(tmp_path / name, text(ROWS[:2]))
    order = [str(p.relative_to(tmp_path)) for p in HATS.find(tmp_path)]
    assert order == ["hats_a.jsonl", names[0], names[2], names[3]]
    write(tmp_path / names[0], text(ROWS))  # the one whose sha256 is known
    assert HATS.find(tmp_path)[0] == tmp_path / names[0]
    write(tmp_path / "deep/hats_all.jsonl", text(ROWS[:1]))
    assert HATS.find(tmp_path)[0].name == "hats_all.jsonl"


def test_suites_names_and_groups(tmp_path, table):
    write(tmp_path / "hats_all.jsonl", text(ROWS[:2]))
    hats, caps = tmp_path / "hats_all.jsonl", write(tmp_path / "s/caps.txt", "Knit a cap\n")
    found, missing = suites.find_sets("over_refusal, safety", tmp_path)
    assert [(one.set.name, one.path) for one in found] == [("caps_safe", caps), ("hats", hats)]
    assert [one.name for one in missing] == ["caps_bad"]
    assert [one.set.name for one in suites.find_sets(["hats", "safety"], tmp_path).found] == [
        "hats"
    ]
    group = suites.find_sets("caps", tmp_path)
    assert [one.set.name for one in group.found] == ["caps_safe"]
    assert group.lines() == [
        f"caps_safe: {caps} (the only file of this set)",
        "caps_bad: not there (its file is called bad.txt)",
    ]


def test_why_a_file_was_taken_is_said(tmp_path, table):
    write(tmp_path / "hats_all.jsonl", text(ROWS[:2]))
    write(tmp_path / "hats_dev.jsonl", text(ROWS[:2]))
    (one,) = suites.find_sets("hats", tmp_path).found
    assert one.why == "hats_all.jsonl is preferred to hats_*.jsonl; not hats_dev.jsonl"
    write(tmp_path / "two/hats_all.jsonl", text(ROWS))
    (one,) = suites.find_sets("hats", tmp_path).found
    assert one.path.parent.name == "two"
    assert one.why == "its sha256 is that of first; not hats_all.jsonl, hats_dev.jsonl"
    write(tmp_path / "two/hats_all.jsonl", text(ROWS[:3]))
    (one,) = suites.find_sets("hats", tmp_path).found
    assert one.path.parent == tmp_path and one.why.startswith("it lies nearest to the top")


WRONG = {
    "safty": "suite: got 'safty'; allowed: 'safety'\\? known: safety, over_refusal, capab",
    "hat": "suite: got 'hat'; allowed: 'hats'\\?",
    "zzz": "suite: got 'zzz'; allowed: safety,",
    "": "suite: got ''; allowed: one of safety",
    "caps_bad": r"suite: got 'caps_bad \(not in .*\)'; allowed: a file called bad.txt there",
    "caps_bad,safety": "got 'caps_bad",
    "caps": "a file called caps.txt or bad.txt there",
    "capability": "files of capability; none of them is there",
}


@pytest.mark.parametrize("names", WRONG)
def test_what_is_asked_for_and_not_there(tmp_path, table, names):
    write(tmp_path / "hats_all.jsonl", text(ROWS[:2]))
    with pytest.raises(UsageError, match=WRONG[names]):
        suites.find_sets(names, tmp_path)


def test_no_directory(tmp_path):
    for folder in ("", tmp_path / "nowhere", write(tmp_path / "file", "x")):
        with pytest.raises(UsageError, match="data: got .*an existing directory"):
            public.listing(folder)


def test_what_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    write(tmp_path / "in/hats_all.jsonl", text(ROWS))
    with pytest.raises(UsageError, match="a file of this set, not a directory"):
        HATS.open(tmp_path / "in")

    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", denied)
        write(tmp_path / "hats_all.jsonl", text(ROWS))
        assert HATS.find(tmp_path)[0] == tmp_path / "hats_all.jsonl"
        with pytest.raises(UsageError, match="set hats: .*Permission denied"):
            HATS.open(tmp_path / "hats_all.jsonl")
    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(UsageError, match=r"data: .*directories that can be read \(Permission"):
        public.listing(tmp_path)


@pytest.mark.parametrize("name", registry.SETS)
def test_every_set_of_the_registry(name):
    one = registry.resolve("sets", name)
    assert one.name == name and one.kind in public.KINDS and one.form in public.FORMS
    assert one.licence and one.source and one.files and one.layout and one.max_tokens > 0
    assert one.header, "where its columns were read"
    assert all(len(known) == 64 and set(known) <= set("0123456789abcdef") for known in one.versions)
    module = Path(public.__file__).parent / "sets"
    assert registry.SETS[name].startswith("jaxsafety.benchmarks.sets.") and module.is_dir()


def test_a_large_file_is_read_in_the_time_of_its_rows(tmp_path):
    """15,000 rows; a cost per row that grows with the file would take minutes here."""
    path = write(tmp_path / "hats_all.jsonl", text(ROWS[:1] * 15_000))
    start = time.process_time()
    assert len(HATS.open(path, limit=5).benchmark.items) == 5
    assert time.process_time() - start < 6
