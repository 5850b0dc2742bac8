import time

from jaxsafety.core.progress import Progress, minutes


def test_a_short_loop_writes_nothing():
    lines = []
    with Progress(lines.append, "quick", total=3, unit="steps") as progress:
        progress(3)
    assert lines == []


def test_a_long_loop_writes_while_one_unit_blocks():
    lines = []
    with Progress(lines.append, "slow", total=4, unit="prompts", first=0.02) as progress:
        progress(1)
        time.sleep(0.2)  # as long as one batch: nobody calls progress meanwhile
    assert lines and lines[0].startswith("slow: 1 of 4 prompts, 0:00")
    assert len(lines) < 6  # intervals grow


def test_time_left_counts_only_what_was_done_now():
    now = [0.0]
    progress = Progress(print, "x", total=10, unit="rows", clock=lambda: now[0])
    with progress:
        progress.skip(4)
        now[0] = 60.0
        assert progress.line() == "x: 4 of 10 rows, 1:00"
        progress(6)
        assert progress.line() == "x: 6 of 10 rows, 1:00, about 2:00 left"
        progress(10)
        assert progress.line() == "x: 10 of 10 rows, 1:00"


def test_within_a_unit_it_says_where_it_is():
    now = [0.0]
    progress = Progress(print, "x", total=12, unit="answers", clock=lambda: now[0])
    with progress:
        now[0] = 60.0
        progress.advance(3.0, "token 128 of 512")
        assert progress.line() == "x: 0 of 12 answers (token 128 of 512), 1:00, about 3:00 left"
        progress(12)
        assert progress.line() == "x: 12 of 12 answers, 1:00"


def test_a_first_token_says_nothing_of_the_time_left():
    """It was waited for while the call was compiled: 10 seconds of it were told as 42 minutes."""
    now = [0.0]
    progress = Progress(print, "x", total=8, unit="answers", clock=lambda: now[0])
    with progress:
        now[0] = 10.0
        progress.advance(8 / 256, "token 1 of 256")
        assert progress.line() == "x: 0 of 8 answers (token 1 of 256), 0:10"
        progress.advance(4.0, "token 128 of 256")
        assert progress.line() == "x: 0 of 8 answers (token 128 of 256), 0:10, about 0:10 left"
    many = Progress(print, "x", total=10_000, unit="rows", clock=lambda: now[0])
    with many:
        now[0] = 20.0
        many(64)
        assert many.line().endswith("about 25:52 left")


def test_minutes():
    assert [minutes(s) for s in (0, 59.6, 61, 3600, 3725)] == [
        "0:00",
        "1:00",
        "1:01",
        "1:00:00",
        "1:02:05",
    ]
