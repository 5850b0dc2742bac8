"""The metrics file: one line per step, whatever happened."""

import json

import numpy as np
import pytest

from jaxsafety.train.metrics import MetricWriter, read_metrics


def keys(workdir):
    return [(row["stage"], row["step"]) for row in read_metrics(workdir)]


def test_rows_are_floats_and_non_finite_ones_are_null(tmp_path):
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.write("a", 1, {"loss": np.float32(0.5), "kl": float("nan"), "norm": np.inf})
    writer.close()
    row = json.loads((tmp_path / "metrics.jsonl").read_text())  # strict JSON: NaN would not be
    assert row["loss"] == 0.5
    assert row["kl"] is None
    assert row["norm"] is None
    assert row["nonfinite"] == ["kl", "norm"]


def test_a_row_is_on_disk_when_write_returns(tmp_path):
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.write("a", 1, {"loss": 1.0})
    assert keys(tmp_path) == [("a", 1)]
    writer.close()
    writer.close()  # twice is fine


def test_a_torn_last_line_is_dropped_on_opening(tmp_path):
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.write("a", 1, {"loss": 1.0})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "a", "step": 2, "lo')
    assert keys(tmp_path) == [("a", 1)]
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.write("a", 2, {"loss": 1.0})
    writer.close()
    assert keys(tmp_path) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize(
    ("stage", "step", "left"),
    [
        ("a", 2, [("a", 1), ("a", 2)]),  # everything later goes, whatever its stage
        ("b", 0, [("a", 1), ("a", 2), ("a", 3)]),
        ("b", 2, [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)]),
        ("c", 0, [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)]),
    ],
)
def test_truncate_forgets_what_will_be_redone(tmp_path, stage, step, left):
    writer = MetricWriter(tmp_path, tensorboard=False)
    for row in [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)]:
        writer.write(*row, {"loss": 1.0})
    writer.truncate(stage, step)
    assert keys(tmp_path) == left
    writer.write("z", 1, {})
    writer.close()
    assert keys(tmp_path) == [*left, ("z", 1)]


def test_tensorboard_files_are_written(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write("a", 1, {"loss": 1.0, "bad": float("nan")})
    writer.close()
    (events,) = (tmp_path / "tb").iterdir()
    data = events.read_bytes()
    assert b"a/loss" in data
    assert b"a/bad" not in data


def test_other_line_separators_are_no_ends_of_rows(tmp_path):
    rows = [{"stage": f"a{mark}b", "step": i} for i, mark in enumerate("\u2028\u2029\u0085")]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    before = path.read_bytes()
    assert read_metrics(tmp_path) == rows
    MetricWriter(tmp_path, tensorboard=False).close()  # opening drops what is torn, nothing else
    assert path.read_bytes() == before


def test_bytes_that_are_no_text_spoil_their_row_alone(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"stage": "a", "step": 1}\n\xff\xfe\0\n')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.write("a", 2, {"loss": 1.0})
    writer.close()
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
