"""The table of the controls: curves from a workdir, the matched point, the interval."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest


@pytest.fixture(scope="module")
def tool(root):
    spec = importlib.util.spec_from_file_location("controls_tool", root / "tools" / "controls.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def point(asr, **changes):
    values = {"asr": asr, "kl": 1 - asr, "kl_off": 0.1, "over_refusal": 0.0, "capability": 0.9}
    return {**values, "coherent": 1.0, "n": 128, **changes}


def write(run, curves):
    """curves: arm -> {step: point}."""
    (run / "artifacts").mkdir(parents=True)
    for arm, points in curves.items():
        for step, value in points.items():
            (run / "artifacts" / f"curve.{arm}.{step}.json").write_text(json.dumps(value))
    return run


BASE = {0: point(0.8)}
FULL = {5: point(0.6), 10: point(0.2), 25: point(0.1)}


def test_every_arm_starts_at_the_base_and_is_in_order_of_steps(tool, tmp_path):
    run = write(tmp_path, {"base": BASE, "full": FULL, "random0": {5: point(0.8)}})
    (run / "artifacts" / "direction.json").write_text("{}")
    found = tool.curves(run)
    assert [p["step"] for p in found["full"]] == [0, 5, 10, 25]
    assert [p["asr"] for p in found["random0"]] == [0.8, 0.8] and "base" not in found


def test_a_run_without_its_base_is_one_line(tool, tmp_path):
    run = write(tmp_path, {"full": FULL})
    with pytest.raises(SystemExit, match=r"no artifacts/curve.base.0.json; allowed:") as caught:
        tool.curves(run)
    assert "\n" not in str(caught.value)


def test_the_matched_point_lies_between_two_measurements(tool):
    points = [{**p, "step": s} for s, p in ({0: point(0.8)} | FULL).items()]
    found = tool.at_target(points, 0.4)
    assert found["step"] == pytest.approx(7.5) and found["kl"] == pytest.approx(0.6)
    assert tool.at_target(points, 0.6)["step"] == pytest.approx(5)  # a measurement itself
    assert tool.at_target(points, 0.05) is None
    back = [point(0.8, step=0), point(0.3, step=5), point(0.7, step=10), point(0.1, step=15)]
    assert tool.at_target(back, 0.4)["step"] == pytest.approx(4)  # the first crossing counts
    assert tool.at_target([point(0.0, step=0), point(0.0, step=5)], 0.0)["step"] == 5


def test_the_unit_is_the_world(tool):
    """Seeds of a world are one draw; runs that are alike are seen by their correlation."""
    by_run = {"0-0": 1.0, "0-1": 3.0, "1-0": 5.0, "1-1": 7.0}
    assert tool.worlds(by_run) == {"0": [1.0, 3.0], "1": [5.0, 7.0]}
    line = tool.over_worlds({"full": by_run}, tool.Claim("above"))[-1]
    half = 12.7062047 * np.std([2.0, 6.0], ddof=1) / np.sqrt(2)
    assert f"| full | 4 | +2.0 | +6.0 | +4.0 [{4 - half:+.1f}, {4 + half:+.1f}] |" in line
    assert "| open | +6.0 [-6.7, +18.7] | 0 of 4 | 0.78 |" in line
    between, within = 2 * np.var([2, 6], ddof=1), 2.0
    assert tool.alike(by_run) == pytest.approx((between - within) / (between + within))
    assert np.isnan(tool.alike({"0-0": 1.0, "0-1": 2.0, "1-0": 3.0}))
    one = tool.over_worlds({"full": {"0-0": 1.0}}, tool.Claim("above"), each=True)[-1]
    assert one.startswith("| full | 1 | +1.0 | +1.0 (one draw) | - | open |")
    assert one.endswith("| 0-0 +1.0 |")


def test_the_table_counts_who_gets_there_and_pairs_by_run(tool, tmp_path, capsys):
    for name, drift in (("0-0", 0.3), ("1-0", 0.5)):
        partial = {s: {**p, "kl_off": 0.1 - 0.1 * drift} for s, p in FULL.items()}
        draws = {"random0": {25: point(0.7)}, "random1": {25: point(0.3)}}
        curves = {"base": BASE, "full": FULL, "partial": partial, **draws}
        write(tmp_path / name, {**curves, "horizon1": FULL})
    (tmp_path / "2-0").mkdir()  # a run whose direction nobody passed
    tool.main([str(p) for p in sorted(tmp_path.iterdir())])
    out, err = capsys.readouterr()
    assert "2-0: left out" in err
    rows = {line.split(" | ")[0].strip("| "): line for line in out.splitlines() if " | " in line}
    assert out.startswith("2 runs") and {"full", "partial", "random", "horizon1"} <= set(rows)
    first = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in out.splitlines()[2:8]}
    assert first["random"][1:3] == ["80.0 -> 50.0 %", "2/4"]
    assert first["full"][1:4] == ["80.0 -> 10.0 %", "2/2", "7.5"]
    # On the way from the base (0.1) the drift of `partial` is 0.07 and 0.05 at both measurements.
    off = next(line for line in out.splitlines() if line.startswith("| partial | 2 | -300.0"))
    assert "| -300.0 | -500.0 | -400.0 [-1670.6, +870.6] | .468 | open |" in off  # of three arms


def test_nothing_to_sum_up_is_one_line(tool, tmp_path):
    with pytest.raises(SystemExit, match="runs: got none; allowed"):
        tool.main([])
    with pytest.raises(SystemExit, match="runs: got none with curves; allowed"):
        tool.main([str(tmp_path)])


def test_kept_lines_give_the_same_tables(tool, tmp_path, capsys):
    runs = [str(write(tmp_path / n, {"base": BASE, "full": FULL})) for n in ("0-0", "0-1")]
    kept = str(tmp_path / "kept.jsonl")
    tool.main([*runs, "--save", kept])
    first = capsys.readouterr().out
    tool.main([kept])
    assert capsys.readouterr().out == first and "2 runs" in first


def test_the_end_is_compared_with_generalised_draw_by_draw(tool):
    def arm(*ends):
        return [(f"{i}-0", [point(0.8), point(end)]) for i, end in enumerate(ends)]

    arms = {"generalised": arm(0.2, 0.1), "random": [*arm(0.6, 0.5), *arm(0.4, 0.7)]}
    found = tool.ahead({**arms, "full": arm(0.1)})
    assert found["random"]["0-0"] == pytest.approx((0.3, 0.2))
    assert found["random"]["1-0"] == pytest.approx((0.5, 0.4))
    assert found["full"] == {"0-0": pytest.approx((-0.1, -0.1))}
    assert "generalised" not in found and tool.ahead({"full": arm(0.1)}) == {}
