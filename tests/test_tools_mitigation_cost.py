"""What mitigations cost: every one has a line, ratios with intervals, the page's table."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest

from jaxsafety import registry


@pytest.fixture(scope="module")
def tool(root):
    path = root / "tools" / "mitigation_cost.py"
    spec = importlib.util.spec_from_file_location("mitigation_cost", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_mitigation_is_measured(tool):
    assert {*tool.NOTES} == {*registry.MITIGATIONS}
    assert {arm.partition(":")[0] for arm in tool.MORE.values()} <= {*tool.NOTES}


def test_rounds_alternate_and_are_means_over_a_period(tool):
    order = []

    def timed(name, seconds):
        def step(at):
            order.append((name, at))
            return seconds + at

        return step

    plain, other = tool.alternate(timed("a", 0.0), timed("b", 100.0), rounds=2, period=2)
    # Two rounds to warm up, of one step each; then the means over steps 4, 5 and 6, 7.
    assert plain == [4.5, 6.5] and other == [104.5, 106.5]
    assert "".join(name for name, _ in order) == "ababab" + "ba" + "abba"
    assert [at for _, at in order] == [0, 0, 2, 2, 4, 4, 5, 5, 6, 6, 7, 7]


def test_ratio_of_medians_with_an_interval(tool):
    rng = np.random.default_rng(0)
    plain = 1 + 0.1 * rng.random(200)
    value, low, high = tool.ratio(list(plain), list(2 * plain[::-1]))
    assert low < 2 < high and high - low < 0.1
    np.testing.assert_allclose(value, 2, rtol=1e-12)
    # One slow round does not move it.
    assert tool.ratio([1.0] * 9 + [50.0], [1.5] * 10)[0] == 1.5


@pytest.mark.parametrize(
    ("value", "factor", "expected"), [(1.15, 1.0, True), (1.16, 1.0, False), (9.0, None, None)]
)
def test_kept_is_the_factor_and_fifteen_percent(tool, value, factor, expected):
    assert tool.kept(value, factor) is expected


def line(tool, name, own, at_once=None):
    times = ([0.1] * 5, [0.16] * 5)
    more = {"when": "train", "load": 0.2, "jax": "1", "cores": 2, "processor": "cpu"}
    return tool.compared(name, times, own, at_once) | more | {"rows": 8, "length": 128}


def test_a_line_says_both_factors_and_the_table_shows_them(tool):
    held, penalty = line(tool, "kl", 5 / 3, 0.01), line(tool, "projection", 5 / 3)
    assert (held["ratio"], held["notes"]) == (1.6, 1.3333)
    assert (held["notes_kept"], held["budget_kept"]) == (False, True)
    assert (penalty["notes"], penalty["notes_kept"]) == (None, None)
    text = tool.updated(f"a\n{tool.START}old\n{tool.END}b\n", [held, penalty])
    assert "| `kl`, train | 100.0, 160.0 | 1.60 [1.60, 1.60] | 1.33 | **no** | 1.67 | yes |" in text
    assert (
        "| `projection`, train | 100.0, 160.0 | 1.60 [1.60, 1.60] |  |  | 1.67 | yes |  |" in text
    )
    assert text.startswith("a\n") and text.endswith("b\n") and "old" not in text
    with pytest.raises(SystemExit, match="marker"):
        tool.updated("no marker", [held])


def test_the_page_is_that_of_the_kept_lines(tool):
    kept = tool.PAGE.with_name("mitigation_cost.jsonl")
    lines = [json.loads(x) for x in kept.read_text().splitlines()] if kept.is_file() else []
    text = tool.PAGE.read_text("utf-8")
    assert text == tool.updated(text, lines), "python tools/mitigation_cost.py --page FILE"
    assert {x["name"].split()[0] for x in lines} in (set(), {*registry.MITIGATIONS})


def test_what_it_does_not_know_is_refused(tool):
    with pytest.raises(SystemExit, match=r"names: got 'k1'; allowed: anchor, "):
        tool.main(["k1"])
    with pytest.raises(SystemExit, match="--rounds: got 1"):
        tool.main(["kl", "--rounds", "1"])
