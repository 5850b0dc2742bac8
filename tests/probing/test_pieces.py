"""A long loop: what is kept is not made again, what is asked to end ends, and all of it is told."""

from __future__ import annotations

import pytest

from jaxsafety.experiment.workdir import Artifacts
from jaxsafety.probing import pieces
from jaxsafety.probing.pieces import ALONE, Piece, Pieces


def work(made, count=4):
    def make(n):
        made.append(n)
        return [n, 0.1 * n]

    return [Piece(f"loop.{n}", n + 1, lambda n=n: make(n)) for n in range(count)]


def test_values_come_in_order():
    assert ALONE.run("loop", "things", work([])) == [[n, 0.1 * n] for n in range(4)]


def test_an_ended_loop_goes_on_where_it_was(tmp_path):
    made, asked = [], []

    def check():
        asked.append(True)
        if len(asked) == 3:
            raise KeyboardInterrupt

    kept = Artifacts(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Pieces(keep=kept, check=check).run("loop", "things", work(made))
    assert made == [0, 1]
    found = Pieces(keep=kept).run("loop", "things", work(made))
    assert made == [0, 1, 2, 3] and found == [[n, 0.1 * n] for n in range(4)]


def test_progress_counts_what_was_made_before_apart(tmp_path, monkeypatch):
    told = []

    class Recorder:
        def __init__(self, log, what, *, total, unit):
            told.append((what, total, unit))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            told.append("end")

        def __call__(self, done):
            told.append(done)

        def skip(self, done):
            told.append(("skip", done))

    kept = Artifacts(tmp_path)
    kept("loop.0", lambda: {"value": 5})
    monkeypatch.setattr(pieces, "Progress", Recorder)
    Pieces(keep=kept).run("loop", "things", work([], 3))
    assert told == [("loop", 6, "things"), ("skip", 1), 3, 6, "end"]
