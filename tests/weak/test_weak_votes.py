import json

import numpy as np
import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.weak.votes import ABSTAIN, Votes, from_columns, read

WRONG = {
    "twice": (dict(sources=("a", "a"), array=[[0, 1]]), "votes.sources: got 'a, a'"),
    "none": (dict(sources=(), array=np.zeros((2, 0), int)), "votes.sources: got 'none'"),
    "shape": (dict(sources=("a",), array=[[0, 1]]), r"votes.array: got 'shape \(1, 2\)'"),
    "real": (dict(sources=("a",), array=[[0.5]]), "votes.array: got 'numbers of type float64'"),
    "large": (dict(sources=("a",), array=[[2]]), "votes.array: got 2; allowed: -1"),
    "low": (dict(sources=("a",), array=[[-2]]), "votes.array: got -2"),
    "one": (dict(sources=("a",), array=[[0]], classes=("x",)), "votes.classes: got 'x'"),
    "ids": (dict(sources=("a",), array=[[0]], items=("i", "j")), "votes.items: got '2 ids"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_table_of_votes_is_one_line(case):
    given, line = WRONG[case]
    with pytest.raises(UsageError, match=line) as error:
        Votes(**given)
    assert "\n" not in str(error.value)


def test_shares_counts_and_silence():
    votes = Votes(("a", "b", "c"), [[0, 0, 1], [1, -1, -1], [-1, -1, -1]])
    assert votes.counts().tolist() == [[2, 1], [0, 1], [0, 0]]
    assert votes.silent.tolist() == [False, False, True]
    # who says nothing has the mean share of the others: (2/3 + 0) / 2
    assert np.allclose(votes.shares(), [[2 / 3, 1 / 3], [0, 1], [1 / 3, 2 / 3]])
    nobody = Votes(("a",), [[-1]], ("x", "y", "z"))
    assert np.allclose(nobody.shares(), 1 / 3)
    with pytest.raises(ValueError):
        votes.array[0, 0] = 1  # shared, so nobody may write
    assert votes.take([2, 0]).sources == ("c", "a")
    assert votes.take([2, 0]).array.tolist() == [[1, 0], [-1, 1], [-1, -1]]


def test_columns_by_name_in_any_order():
    """crowd-kit's names; a column more, in another place, changes nothing."""
    table = {
        "label": [1, 0, 1, None, float("nan"), " "],
        "extra": list("abcdef"),
        "worker": ["w", "v", "v", "w", "u", "u"],
        "task": [7, 7, "8", 8, 7, 8],
    }
    votes = from_columns(table)
    assert votes.items == ("7", "8") and votes.sources == ("w", "v", "u")
    assert votes.classes == ("0", "1")
    assert votes.array.tolist() == [[1, 0, ABSTAIN], [ABSTAIN, 1, ABSTAIN]]
    turned = from_columns(table, classes=("1", "0"))
    assert turned.array.tolist() == [[0, 1, -1], [-1, 0, -1]]
    named = dict(zip(("y", "e", "who", "item"), table.values(), strict=True))
    again = from_columns(named, task="item", worker="who", label="y")
    assert np.array_equal(again.array, votes.array)


def test_labels_are_sorted_by_size_and_one_however_written():
    table = {"task": list("abcd"), "worker": ["w"] * 4, "label": [10, "9", 9.0, np.int64(10)]}
    votes = from_columns(table)
    assert votes.classes == ("9", "10") and votes.array[:, 0].tolist() == [1, 0, 0, 1]


TABLES = {
    "no column": ({"task": [], "worker": []}, {}, "votes.label: got 'label'.*task, worker"),
    "lengths": ({"task": [1], "worker": [1, 2], "label": [1]}, {}, "different lengths"),
    "no task": ({"task": [""], "worker": [1], "label": [1]}, {}, "row 1 without"),
    "twice": (
        {"task": [1, 1], "worker": ["w", "w"], "label": [0, 1]},
        {},
        "row 2, a second vote of w on 1",
    ),
    "class": (
        {"task": [1], "worker": ["w"], "label": ["maybe"]},
        {"classes": ("safe", "unsafe")},
        "votes.label: got 'maybe in row 1'; allowed: safe, unsafe",
    ),
    "one class": ({"task": [1], "worker": ["w"], "label": [1]}, {}, "votes.classes: got '1'"),
}


@pytest.mark.parametrize("case", TABLES)
def test_what_is_no_long_table_is_one_line(case):
    table, options, line = TABLES[case]
    with pytest.raises(UsageError, match=line):
        from_columns(table, **options)


def test_files(tmp_path):
    rows = [("a", "x", "safe"), ("a", "y", "unsafe"), ("b", "x", ""), ("b", "y", "safe")]
    csv = tmp_path / "votes.csv"
    csv.write_text("label,task,worker\n" + "".join(f"{c},{a},{b}\n" for a, b, c in rows))
    votes = read(csv, classes=("safe", "unsafe"))
    assert votes.array.tolist() == [[0, 1], [-1, 0]] and votes.items == ("a", "b")
    lines = tmp_path / "votes.jsonl"
    lines.write_text("".join(json.dumps(dict(zip("twl", row, strict=True))) + "\n" for row in rows))
    same = read(lines, task="t", worker="w", label="l", classes=("safe", "unsafe"))
    assert np.array_equal(same.array, votes.array)
    with pytest.raises(UsageError, match="votes.task: got 'task in row 1'; allowed: a column"):
        read(lines)
    with pytest.raises(UsageError, match="votes: got"):
        read(tmp_path / "absent.csv")
