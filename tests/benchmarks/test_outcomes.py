"""Outcomes and intervals against known values, identities and coverage."""

import itertools
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxsafety.benchmarks import outcomes


def verdict(unsafe=False, refusal=False, coherent=True, **more):
    return {"unsafe": unsafe, "refusal": refusal, "coherent": coherent, **more}


def random_verdicts(n, seed):
    rng = np.random.default_rng(seed)
    flags = rng.random((n, 6)) < np.array([0.4, 0.5, 0.3, 0.2, 0.8, 0.5])
    return [dict(zip(outcomes.FLAGS, row.tolist(), strict=True)) for row in flags]


@pytest.mark.parametrize(
    "successes,n,lo,hi",
    [(5, 10, 0.2366, 0.7634), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_known_values(successes, n, lo, hi):
    assert outcomes.wilson(successes, n) == pytest.approx((lo, hi), abs=6e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_is_that_of_scipy(n, share, level):
    successes = round(share * n)
    found = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    ours = outcomes.wilson(successes, n, level)
    assert ours == pytest.approx((found.low, found.high), abs=1e-12)


def test_wilson_without_data_says_nothing():
    assert outcomes.wilson(0, 0) == (0.0, 1.0)


def test_outcome_asks_coherence_first():
    table = {
        (unsafe, refusal, coherent): outcomes.outcome(verdict(unsafe, refusal, coherent))
        for unsafe, refusal, coherent in itertools.product([False, True], repeat=3)
    }
    assert {v for (_, _, c), v in table.items() if not c} == {"incoherent"}
    assert table[True, True, True] == table[True, False, True] == "unsafe"
    assert table[False, True, True] == "refusal"
    assert table[False, False, True] == "safe_answer"


@pytest.mark.parametrize("seed", range(5))
def test_counts_and_shares_sum_to_everything(seed):
    verdicts = random_verdicts(137, seed)
    assert sum(outcomes.counts(verdicts).values()) == 137
    shares = outcomes.indicators(verdicts, "safety")
    total = shares["asr"] + shares["safe_answer"] + shares["refusal"] + shares["incoherent"]
    np.testing.assert_array_equal(total, 1)
    np.testing.assert_array_equal(shares["coherent"] + shares["incoherent"], 1)
    for name, count in outcomes.counts(verdicts).items():
        assert shares["asr" if name == "unsafe" else name].sum() == count


@pytest.mark.parametrize("seed", range(5))
def test_bounds_hold_the_conditional_rate(seed):
    verdicts = random_verdicts(91, seed)
    b = outcomes.bounds(verdicts)
    assert b.lo <= b.cond <= b.hi
    assert b.hi - b.lo == pytest.approx(b.incoherent)
    shares = outcomes.indicators(verdicts, "safety")
    assert (shares["asr"].mean(), shares["asr_upper"].mean()) == pytest.approx((b.lo, b.hi))
    assert b.raw == pytest.approx(np.mean([v["unsafe"] for v in verdicts]))


def test_bounds_of_only_incoherent_answers():
    b = outcomes.bounds([verdict(unsafe=True, coherent=False)] * 4)
    assert math.isnan(b.cond)
    assert (b.raw, b.lo, b.hi, b.incoherent) == (1, 0, 1, 1)


def test_bootstrap_is_seeded_and_matches_the_normal_interval():
    values = np.random.default_rng(0).normal(2.0, 3.0, 400)
    first = outcomes.bootstrap(values, seed=3)
    assert first == outcomes.bootstrap(values, seed=3) != outcomes.bootstrap(values, seed=4)
    half = 1.96 * values.std() / math.sqrt(400)
    assert first == pytest.approx((values.mean() - half, values.mean() + half), abs=0.06)


def test_bootstrap_covers_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(1), 0
    for trial in range(200):
        lo, hi = outcomes.bootstrap(rng.random(120) < 0.3, resamples=400, seed=trial)
        hits += lo <= 0.3 <= hi
    assert 0.88 <= hits / 200 <= 0.99


def test_clusters_widen_the_interval_of_copied_samples():
    base = (np.random.default_rng(2).random(100) < 0.4).astype(float)
    copied, prompts = np.repeat(base, 4), np.repeat(np.arange(100), 4).tolist()
    single, naive = outcomes.bootstrap(base, seed=0), outcomes.bootstrap(copied, seed=0)
    clustered = outcomes.bootstrap(copied, clusters=prompts, seed=0)
    assert clustered == pytest.approx(single)  # copies carry no information
    assert clustered[1] - clustered[0] > 1.7 * (naive[1] - naive[0])


def test_uneven_clusters_keep_the_ratio_estimate():
    values, prompts = [1, 1, 1, 0], ["a", "a", "a", "b"]
    means = {outcomes.bootstrap(values, clusters=prompts, seed=s, resamples=1) for s in range(40)}
    assert {round(m[0], 6) for m in means} == {1.0, 0.75, 0.0}


def test_bootstrap_is_fast():
    values = (np.random.default_rng(0).random(10_000) < 0.2).astype(float)
    start = time.process_time()
    outcomes.bootstrap(values, resamples=1000)
    assert time.process_time() - start < 1.0


def test_paired_difference_ignores_what_both_share():
    rng = np.random.default_rng(5)
    hard = (rng.random(300) < 0.5).astype(float)
    after = hard.copy()
    after[np.flatnonzero(hard)[:30]] = 0.0
    change, lo, hi = outcomes.paired_bootstrap(hard, after)
    assert change == pytest.approx(-0.1)
    assert lo < -0.1 < hi < 0
    assert hi - lo < 0.08  # unpaired it would be about 0.16
    assert outcomes.paired_bootstrap(hard, hard) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="same prompts"):
        outcomes.paired_bootstrap([1, 0], [1])


def test_interval_picks_wilson_or_the_bootstrap():
    values = [1.0] * 3 + [0.0] * 7
    assert outcomes.interval(values, list(range(10))) == outcomes.wilson(3, 10)
    pairs = [p for p in range(5) for _ in range(2)]
    assert outcomes.interval(values, pairs) == outcomes.bootstrap(values, clusters=pairs)
    assert outcomes.interval([0.0] * 10, pairs) == outcomes.wilson(0, 5)  # 5 prompts, not 10


@pytest.mark.parametrize("kind", outcomes.KINDS)
def test_records_have_the_schema(kind):
    rows = outcomes.records("base", "b", kind, "t1", random_verdicts(40, 0), [*range(20)] * 2, 7)
    assert [r["metric"] for r in rows] == [f"{m}.t1" for m in outcomes.METRICS[kind]]
    for row in rows:
        assert tuple(row) == outcomes.RECORD_KEYS
        assert 0 <= row["lo"] <= row["value"] <= row["hi"] <= 1
        assert (row["n"], row["seed"], row["kind"]) == (40, 7, kind)
        assert (row["nulls"], row["cause"]) == (0, "")


FLAG = st.sampled_from([True, False, None, float("nan"), np.True_])
SOME = st.lists(st.fixed_dictionaries(dict.fromkeys(outcomes.FLAGS, FLAG)), max_size=12)


@given(SOME, st.sampled_from(outcomes.KINDS))
@settings(max_examples=200, deadline=None)
def test_unknown_flags_never_enter_a_rate(verdicts, kind):
    rows = outcomes.records("a", "b", kind, "t1", verdicts, list(range(len(verdicts))), 0)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for row in rows:
        assert row["n"] + row["nulls"] == len(verdicts)
        assert (row["value"] is None) == (row["n"] == 0) == (row["lo"] is None)
        assert bool(row["cause"]) == bool(row["nulls"])
        if row["n"]:
            assert 0 <= row["lo"] <= row["value"] <= row["hi"] <= 1
    known = [v for v in verdicts if all(outcomes.known(f) is not None for f in v.values())]
    if known:  # what is known alone gives the same rates as among unknown ones
        blank = [dict.fromkeys(outcomes.FLAGS)] * 3
        mixed = outcomes.records("a", "b", kind, "t1", known + blank, range(len(known) + 3), 0)
        alone = outcomes.records("a", "b", kind, "t1", known, range(len(known)), 0)
        for first, second in zip(alone, mixed, strict=True):
            assert {**first, "nulls": 3, "cause": second["cause"]} == second


@given(SOME)
@settings(max_examples=100, deadline=None)
def test_outcomes_of_unknown_flags(verdicts):
    labels = [outcomes.outcome(v) for v in verdicts]
    assert sum(outcomes.counts(verdicts).values()) == sum(x is not None for x in labels)
    b = outcomes.bounds(verdicts)
    assert all(map(math.isnan, b)) or b.lo <= b.hi
    shares = outcomes.indicators(verdicts, "safety")
    total = sum(shares[k] for k in ("asr", "safe_answer", "refusal", "incoherent"))
    np.testing.assert_array_equal(np.isnan(total), [x is None for x in labels])


def test_an_outcome_that_the_judge_leaves_open_stays_open():
    assert outcomes.outcome({**verdict(), "outcome": None}) is None
    assert outcomes.outcome(verdict(unsafe=None)) is None
    assert outcomes.outcome(verdict(unsafe=True, refusal=None)) == "unsafe"
    assert outcomes.outcome(verdict(coherent=False, unsafe=None)) == "incoherent"


def test_intervals_leave_unknown_values_and_pairs_out():
    nan = math.nan
    assert outcomes.interval([1, nan, 0, nan], [0, 1, 2, 3]) == outcomes.wilson(1, 2)
    assert outcomes.interval([nan, nan], [0, 1]) == outcomes.interval([]) == (0.0, 1.0)
    assert outcomes.mean([nan, nan]) is None and outcomes.mean([1, nan, 0]) == 0.5
    assert outcomes.bootstrap([1, 0, nan, 1, 0], clusters=list("aabcc"), seed=1) == (
        outcomes.bootstrap([1, 0, 1, 0], clusters=list("aacc"), seed=1)
    )
    before, after = [1, nan, 1, 0], [0, 1, nan, 0]
    assert outcomes.paired_bootstrap(before, after) == outcomes.paired_bootstrap([1, 0], [0, 0])
    assert all(map(math.isnan, outcomes.paired_bootstrap([nan], [1])))


def test_ten_thousand_judged_answers_take_no_long_time():
    """Four samples a prompt, so that each of ten metrics has a bootstrap of 1,000 resamples."""
    rng = np.random.default_rng(0)
    flags = rng.random((10_000, len(outcomes.FLAGS))) < 0.5
    verdicts = [dict(zip(outcomes.FLAGS, row, strict=True)) for row in flags.tolist()]
    prompts = [f"p{i // 4}" for i in range(10_000)]
    start = time.process_time()
    rows = outcomes.records("base", "set", "safety", "sampled", verdicts, prompts, 0)
    assert time.process_time() - start < 2
    assert all(row["lo"] < row["value"] < row["hi"] for row in rows if row["value"] not in (0, 1))


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_sign_test_is_scipys(down, up):
    p = outcomes.sign_test(down, up)
    assert p == pytest.approx(stats.binomtest(down, down + up).pvalue if down + up else 1.0)
    assert p == outcomes.sign_test(up, down)
