"""Cells: identities of the rates, the crossed bootstrap by brute force, its coverage, its speed."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxsafety.benchmarks import cells, outcomes
from jaxsafety.benchmarks.cells import METRICS, Cell, Key, Table, resample, summarise, tally

flags = st.sampled_from([0.0, 1.0, np.nan])


def columns(n):
    return hnp.arrays(float, (2, n), elements=flags)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 12).flatmap(columns))
def test_rates_satisfy_the_identities(pair):
    """C1: lo <= cond <= hi, hi - lo = incoh, the four parts sum to N."""
    cell = Cell(*pair)
    found, parts = summarise([cell]), tally(cell)
    assert sum(parts) == len(pair[0]) == found.n + found.nulls
    if found.raw is None:
        assert found[:5] == (None,) * 5 and found.cause == cells.UNTOLD and found.n == 0
        return
    assert found.hi - found.lo == pytest.approx(found.incoh)
    assert found.lo == parts.unsafe / found.n and found.incoh == pytest.approx(
        parts.incoherent / found.n
    )
    assert found.lo - 1e-12 <= found.raw <= found.hi + 1e-12
    if found.cond is None:
        assert found.cause == cells.INCOHERENT and found.incoh == 1.0
    else:
        assert found.lo - 1e-12 <= found.cond <= found.hi + 1e-12 and not found.cause
        assert found.cond == pytest.approx(parts.unsafe / (parts.unsafe + parts.safe))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9).flatmap(columns))
def test_what_is_resampled_has_the_value_of_the_rates(pair):
    cell = Cell(*pair)
    drawn = resample(Table({Key("a", 0, "b", "j"): cell}), resamples=20)
    for metric in METRICS:
        values, told = drawn.rate("a", "b", "j", metric), getattr(summarise([cell]), metric)
        assert np.isnan(values[0]) if told is None else values[0] == pytest.approx(told)
    known = ~np.isnan(drawn.rate("a", "b", "j", "cond"))
    lo, cond, hi = (drawn.rate("a", "b", "j", m)[known] for m in ("lo", "cond", "hi"))
    assert (lo <= cond + 1e-12).all() and (cond <= hi + 1e-12).all()  # C1 in every resample


def draw(rng, *, seeds=5, n=100, base=0.4, change=0.1, prompt=0.1, seed=0.0, nulls=0.0, first=None):
    """Both arms share what is the prompt's; each run of the arm has its own offset."""
    at, table = rng.normal(0, prompt, n), {}
    for arm, mean, number in (("base", base, first or seeds), ("arm", base + change, seeds)):
        for s in range(number):
            offset = rng.normal(0, seed) if arm == "arm" else 0.0
            unsafe = (rng.random(n) < np.clip(mean + at + offset, 0, 1)).astype(float)
            unsafe[rng.random(n) < nulls] = np.nan
            table[Key(arm, s, "b", "j")] = Cell(unsafe, (rng.random(n) < 0.9).astype(float))
    return Table(table)


def test_the_sums_are_those_of_drawing_rows_one_by_one():
    table = draw(np.random.default_rng(0), seeds=3, n=17, nulls=0.2)
    drawn = resample(table, resamples=40, seed=3)
    rng = np.random.default_rng([3, cells.zlib.crc32(b"b")])
    picks = rng.integers(0, 17, (40, 17), dtype=np.int32)
    weights = cells._draw_seeds((0, 1, 2), 40, 3)
    assert (weights.sum(axis=1) == 2).all()  # S - 1 of S
    for r in range(40):
        rows = [s for s in range(3) for _ in range(int(weights[r, s]))]
        for arm in ("arm", "base"):
            some = [table.cells[Key(arm, s, "b", "j")] for s in rows]
            one = summarise([Cell(c.unsafe[picks[r]], c.coherent[picks[r]]) for c in some])
            for metric in METRICS:
                told = drawn.rate(arm, "b", "j", metric)[1 + r]
                assert told == pytest.approx(getattr(one, metric))


def test_a_change_is_that_of_its_cells():
    table = draw(np.random.default_rng(1), nulls=0.1)
    drawn = resample(table, resamples=500)
    for metric in METRICS:
        pooled = [
            getattr(summarise([c for k, c in table.cells.items() if k.arm == arm]), metric)
            for arm in ("arm", "base")
        ]
        found = drawn.change("arm", "base", "b", "j", metric)
        back = drawn.change("base", "arm", "b", "j", metric)
        assert found.value == pytest.approx(pooled[0] - pooled[1])
        assert found.lo < found.value < found.hi and found.seeds == 5
        assert (back.value, back.lo) == pytest.approx((-found.value, -found.hi))
    untold = sum(tally(c).untold for c in table.cells.values())
    assert found.nulls == untold > 0
    again = resample(table, resamples=500).change("arm", "base", "b", "j", "incoh")
    assert (
        again == found
        and resample(table, resamples=500, seed=1).change("arm", "base", "b", "j", "incoh") != found
    )
    # nothing differs: as if it were 0 of 100
    spare = outcomes.wilson(0, 100)[1]
    assert drawn.change("arm", "arm", "b", "j", "lo")[:3] == (0.0, -spare, spare)
    with pytest.raises(KeyError):
        drawn.change("arm", "nobody", "b", "j", "lo")


def test_judges_and_arms_see_the_same_draws():
    """An arm that differs from the base by a constant has no width, whatever the prompts do."""
    u = (np.random.default_rng(0).random(60) < 0.5).astype(float)
    rows = {Key(a, s, "b", j): Cell(u, np.ones(60)) for a in "xy" for s in (0, 1) for j in "pq"}
    drawn = resample(Table(rows), resamples=50)
    assert np.ptp(drawn.rate("x", "b", "p", "raw")) > 0
    np.testing.assert_array_equal(
        drawn.rate("x", "b", "p", "raw"), drawn.rate("y", "b", "q", "raw")
    )
    other = resample(Table({**rows, Key("x", 0, "c", "p"): Cell(u, np.ones(60))}), resamples=50)
    np.testing.assert_array_equal(
        drawn.rate("x", "b", "p", "raw"), other.rate("x", "b", "p", "raw")
    )
    assert (other.rate("x", "c", "p", "raw") != other.rate("x", "b", "p", "raw")).any()


def test_what_cannot_be_told_is_none_with_a_cause():
    nothing, gibberish = [None] * 4, [0, 0, 0, 0]
    table = {
        Key("base", 0, "b", "j"): Cell([1, 0, 1, 0], [1, 1, 1, 1]),
        Key("arm", 0, "b", "j"): Cell(nothing, [1, 1, 1, 1]),
        Key("lost", 0, "b", "j"): Cell([1, 1, 1, 1], gibberish),
        Key("rare", 0, "b", "j"): Cell([1, 0, 0, 0], [1, 0, 0, 0]),
    }
    rates = cells.summarise_table(Table(table))
    assert rates[Key("arm", 0, "b", "j")] == (None, None, None, None, None, 0, 4, cells.UNTOLD)
    assert rates[Key("lost", 0, "b", "j")][:5] == (1.0, None, 0.0, 1.0, 1.0)
    drawn = resample(Table(table), resamples=2000)
    found = drawn.change("arm", "base", "b", "j", "lo")
    assert found == (None, None, None, 1, 4, cells.UNTOLD) and found.sign is None
    assert drawn.change("lost", "base", "b", "j", "cond").cause == cells.INCOHERENT
    assert drawn.change("lost", "base", "b", "j", "hi").value == 0.5
    assert drawn.change("rare", "base", "b", "j", "cond").lo is not None  # 1 - (3/4)^4 have it
    assert summarise([]).cause == cells.UNTOLD
    # the same numbers as outcomes.bounds has, and nulls change none of them
    pair = [{"unsafe": True, "coherent": True}, {"unsafe": False, "coherent": False}]
    some = summarise([Cell([1, 0, None], [1, 0, 1])])
    assert some[:5] == outcomes.bounds(pair) and some.nulls == 1


@pytest.mark.parametrize("n,sign", [(2, 0), (3, 0), (4, 1), (50, 1)])
def test_few_prompts_that_all_agree_are_no_certainty(n, sign):
    """All unsafe against none: 4 prompts are the first with Wilson's bound of 0 of n below 1/2."""
    rows = {Key(a, 0, "b", "j"): Cell([u] * n, [1] * n) for a, u in (("arm", 1), ("base", 0))}
    found = resample(Table(rows), resamples=50).change("arm", "base", "b", "j", "lo")
    assert (found.value, found.hi, found.sign) == (1.0, 1.0, sign)


def test_resamples_that_agree_but_for_rounding_are_no_certainty():
    """20 prompts of three answers, one of them unsafe in every prompt of the arm."""
    told = {"arm": [1, 0, 0] * 20, "base": [0, 0, 0] * 20}
    rows = {Key(a, 0, "b", "j"): Cell(u, [1] * 60) for a, u in told.items()}
    prompts = {"b": [k // 3 for k in range(60)]}
    found = resample(Table(rows, prompts), resamples=500).change("arm", "base", "b", "j", "raw")
    assert found.value == pytest.approx(1 / 3)
    assert found.lo < 0.3 and found.hi > 0.36


def test_several_answers_to_a_prompt_are_drawn_together():
    rng = np.random.default_rng(0)
    u = np.repeat(rng.random(50) < 0.5, 8).astype(float)
    table = {Key(a, 0, "b", "j"): Cell(x, np.ones(400)) for a, x in (("arm", u), ("base", 0 * u))}
    labels = [f"p{i // 8}" for i in range(400)]
    plain = resample(Table(table), resamples=800).change("arm", "base", "b", "j", "raw")
    grouped = resample(Table(table, {"b": labels}), resamples=800)
    found = grouped.change("arm", "base", "b", "j", "raw")
    ratio = (found.hi - found.lo) / (plain.hi - plain.lo)
    assert found.value == plain.value and 2.3 < ratio < 3.4  # sqrt(8) = 2.8


def test_tables_that_are_none():
    ok = Cell([1, 0], [1, 1])
    for u, k in (([2, 0], [1, 1]), ([1, 0], [1]), ([[1]], [[1]]), ([0.5], [1])):
        with pytest.raises(ValueError):
            Cell(u, k)
    with pytest.raises(ValueError, match="b: 1 answers beside 2"):
        Table({Key("a", 0, "b", "j"): ok, Key("a", 1, "b", "j"): Cell([1], [1])})
    with pytest.raises(ValueError, match="b: 2 answers beside 3"):
        Table({Key("a", 0, "b", "j"): ok}, {"b": "xyz"})


def test_ten_thousand_resamples_take_about_a_second():
    table = draw(np.random.default_rng(0), n=500)
    start = time.process_time()
    drawn = resample(table)
    found = [drawn.change("arm", "base", "b", "j", m) for m in METRICS]
    assert time.process_time() - start < 3  # 0.3 seen
    assert len(drawn.rate("arm", "b", "j", "lo")) == 10_001 and found[0].lo is not None


def cover(trials, **options):
    hits = 0
    for i in range(trials):
        table = draw(np.random.default_rng(i), **options)
        found = resample(table, resamples=300, seed=i).change("arm", "base", "b", "j", "raw")
        hits += found.lo <= 0.1 <= found.hi
    return hits / trials


def test_the_interval_covers_a_known_change():
    assert 0.85 < cover(60, n=100, seed=0.05)


def test_what_is_counted_three_times_is_taken_back_and_few_seeds_widen():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1, (5, 400))  # noise alone: the crossed variance is three times 1 / (S K)
    narrow, student = np.sqrt(1 / 3), 2.776 / 1.960  # t of 4: the runs' means are of noise as well
    assert narrow < cells._scale([z], 3 / z.size, 0.95) < 1.05 * narrow * student < 0.9
    runs = np.tile(rng.normal(0, 1, (3, 1)), (1, 400))  # runs alone: Student's t of 2
    own = float(runs[:, 0].var(ddof=1)) / 3
    assert cells._scale([runs], own, 0.95) == pytest.approx(4.303 / 1.960, rel=1e-3)
    assert cells._scale([runs[:1]], own, 0.95) == 1.0  # of one seed nothing is known


COVERAGE = [
    (dict(seeds=5, n=100), 0.92, 0.99),  # noise of the answers alone
    (dict(seeds=3, n=300, seed=0.03), 0.92, 0.99),
    (dict(seeds=5, n=300, seed=0.08), 0.92, 0.99),  # runs differ more than anything
    (dict(seeds=5, n=300, seed=0.08, first=1), 0.92, 0.99),  # the base has one
    (dict(seeds=3, n=300, seed=0.08), 0.88, 0.99),
    (dict(seeds=1, n=200), 0.92, 0.98),
    (dict(seeds=5, n=200, prompt=0.0), 0.92, 0.99),
]


@pytest.mark.slow
@pytest.mark.parametrize("options,least,most", COVERAGE)
def test_coverage(options, least, most):
    assert least <= cover(300, **options) <= most
