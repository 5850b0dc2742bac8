import numpy as np
import pytest

import jaxsafety
from jaxsafety.core.errors import UsageError
from jaxsafety.protocols import Exchange, Item
from jaxsafety.weak.simulated import SILENT, Simulated, draw

N = 4000


def exact(exchanges):
    """Odd items are unsafe; what is unsafe is no refusal."""
    return [
        {
            "unsafe": bool(e.item.meta["n"] % 2),
            "refusal": not e.item.meta["n"] % 2,
            "coherent": True,
            "outcome": "unsafe" if e.item.meta["n"] % 2 else "refusal",
        }
        for e in exchanges
    ]


@pytest.fixture(scope="module")
def told():
    chats = [(jaxsafety.Message("user", f"question {n // 2}"),) for n in range(N)]
    return [Exchange(Item(str(n), chats[n], {"n": n}), f"answer {n}") for n in range(N)]


def flags(judge, told):
    return np.array([np.nan if v["unsafe"] is None else v["unsafe"] for v in judge(told)], float)


TRUTH = np.arange(N) % 2 == 1


@pytest.mark.parametrize("accuracy", [0.55, 0.8, 1.0])
@pytest.mark.parametrize("bias", [-1.0, 0.0, 0.5, 1.0])
def test_rates_are_those_asked_for(told, accuracy, bias):
    """Of 2,000 answers of each class, within 4 standard errors; balanced accuracy whatever bias."""
    said = flags(Simulated(exact, accuracy, bias=bias, seed=3), told)
    for unsafe, sign in ((True, 1), (False, -1)):
        rate = (1 - accuracy) * (1 + sign * bias)
        wrong = (said[unsafe == TRUTH] != unsafe).mean()
        assert abs(wrong - rate) <= 4 * np.sqrt(rate * (1 - rate) / 2000)
    assert accuracy < 1 or (said == TRUTH).all()


@pytest.mark.parametrize("coverage", [0.1, 0.6])
def test_coverage_and_what_an_abstention_is(told, coverage):
    judge = Simulated(exact, 0.8, coverage, seed=5)
    verdicts = judge(told)
    silent = [v for v in verdicts if v["unsafe"] is None]
    assert abs(1 - len(silent) / N - coverage) < 4 * np.sqrt(coverage * (1 - coverage) / N)
    one = silent[0]
    assert one["cause"] == SILENT and one["refusal"] is None and one["coherent"] is True
    # whether it speaks has nothing to do with whether it errs
    said = flags(judge, told)
    spoke = ~np.isnan(said)
    assert abs((said == TRUTH)[spoke].mean() - 0.8) < 4 * np.sqrt(0.16 / spoke.sum())


def test_a_verdict_depends_on_its_answer_alone(told):
    """Any order, batch, or process: a hash, not a generator that moves on."""
    judge = Simulated(exact, 0.7, 0.8, 0.3, 0.5, seed=1)
    whole = judge(told[:200])
    order = np.random.default_rng(0).permutation(200)
    assert [whole[i] for i in order] == judge([told[i] for i in order])
    assert [judge([e])[0] for e in told[:20]] == whole[:20]
    renamed = [e._replace(item=e.item._replace(id="x")) for e in told[:200]]
    assert judge(renamed) == whole  # ids are no part of it
    assert judge([e._replace(response=e.response + ".") for e in told[:200]]) != whole
    assert Simulated(exact, 0.7, 0.8, 0.3, 0.5, seed=2)(told[:200]) != whole
    # fixed for good: another number here is another judge in every saved run
    assert draw(told[0], "error", "own", 1) == pytest.approx(DRAWN, abs=1e-12)


DRAWN = 0.44029179580181704


@pytest.mark.parametrize("shared", [0.0, 0.4, 1.0])
def test_errors_are_shared_as_asked(told, shared):
    """Correlation of the errors of two judges of a group; of another group there is none."""
    one, two = (Simulated(exact, 0.7, shared=shared, seed=s) for s in (1, 2))
    other = Simulated(exact, 0.7, shared=shared, seed=3, group=1)
    wrong = [flags(judge, told) != TRUTH for judge in (one, two, other)]
    assert abs(np.corrcoef(wrong[0], wrong[1])[0, 1] - shared) < 4 / np.sqrt(N)
    assert abs(np.corrcoef(wrong[0], wrong[2])[0, 1]) < 4 / np.sqrt(N)


def test_flags_of_an_error_agree_with_one_another(told):
    verdicts = Simulated(exact, 0.55, seed=0)(told[:100])
    for n, verdict in enumerate(verdicts):
        assert verdict["refusal"] is not verdict["unsafe"] and verdict["coherent"] is True
        if verdict["unsafe"] is not bool(n % 2):
            assert "outcome" not in verdict and verdict["attempt"] is verdict["unsafe"]
    assert any(v["unsafe"] is not bool(n % 2) for n, v in enumerate(verdicts))


def test_what_the_exact_judge_cannot_tell_stays_so(told):
    judge = Simulated(lambda e: [{"unsafe": None, "cause": "why"} for _ in e])
    assert judge(told[:1])[0]["unsafe"] is None and judge(told[:1])[0]["cause"] == "why"


BAD = {"accuracy": 0.5, "coverage": 0.05, "bias": 1.5, "shared": -0.1}


@pytest.mark.parametrize("field", BAD)
def test_out_of_range_is_one_line(field):
    with pytest.raises(UsageError, match=f"simulated.{field}: got {BAD[field]}"):
        Simulated(exact, **{field: BAD[field]})
