"""tools/safesteer_fresh.py and safesteer_rates.py: worlds as draws, arms that never reach half."""

from __future__ import annotations

import json

import pytest

from jaxsafety.core import disk

STEPS = 25
ENDS = {"generalised": 20, "full": 24, "tail": 22, "topk": 26}  # attack success in percent, base 60
SETS = {"matched": 40, "neutral": 55, "complying": 35}
GATES = {"gates": {"plain": {"passed": True, "value": 0.0}, "facts": {"passed": False, "value": 1}}}


def line(kept, arm, end, drift):
    """A curve from 60 % to `end` in two equal parts; drift grows alike."""
    for part in (1, 2):
        asr = 0.6 + part * (end / 100 - 0.6) / 2
        step = part * STEPS // 2
        point = {"asr": asr, "kl_off": part * drift * 1e-4 / 2, "kl": 0.0}
        point |= {"over_refusal": 0.0, "capability": 1.0}
        disk.write(kept / f"curve.{arm}.{step}.json", json.dumps(point))


def world(tmp_path, number, lines, draws=5, every=5):
    """A run directory of one world."""
    run, base = tmp_path / f"{number}-0", tmp_path / f"world{number}"
    kept = run / "artifacts"
    disk.write(base / "gates.json", json.dumps(GATES))
    method = {"draws": draws, "attacks": 64, "every": every, "base": {"steps": STEPS}}
    disk.write(
        run / "config.json", json.dumps({"seed": 0, "method": method, "model": {"path": str(base)}})
    )
    start = {"asr": 0.6, "kl_off": 0.0, "kl": 0.0, "over_refusal": 0.0, "capability": 1.0}
    disk.write(kept / "curve.base.0.json", json.dumps(start))
    for arm, end, drift in lines:
        line(kept, arm, end, drift)
        if arm[-1].isdigit():
            told = {"teacher_mass": 0.06, "voted_mass": 0.6}
            disk.write(kept / f"token_set.{arm}.json", json.dumps(told))
    return run


def fresh(tmp_path, number):
    """The drift of `full` is its end plus the world's number; draws of a set are 2 points apart."""
    lines = [(arm, end, end + number * (arm == "full")) for arm, end in ENDS.items()]
    lines += [(f"{kind}{i}", end + 2 * i, 0) for kind, end in SETS.items() for i in range(5)]
    return world(tmp_path, number, lines)


@pytest.fixture
def tool(load_tool, monkeypatch, tmp_path):
    found = load_tool("safesteer_fresh")
    monkeypatch.setattr(found, "FILE", tmp_path / "kept.jsonl")  # never the project's own
    return found


def test_worlds_are_draws_and_sets_are_means(tool, tmp_path):
    runs = {run.name: tool.gather(run) for run in (fresh(tmp_path, n) for n in (21, 22, 23))}
    draws = {row.text.split(":")[0]: row.draws["worlds"] for row in tool.claims(runs)}

    def at_half(end, drift):  # 30 points of 60 - end, straight
        return drift * 30 / (60 - end)

    for number, gap in zip((21, 22, 23), draws["F1"], strict=True):
        assert gap == pytest.approx(at_half(20, 20) - at_half(24, 24 + number))
    assert draws["F4"] == pytest.approx([44 - 20] * 3) and draws["F5"] == pytest.approx([39] * 3)
    assert draws["F6"] == pytest.approx([60 - 39] * 3) and draws["F7"] == pytest.approx([-5] * 3)
    assert tool.main(["--save", *(str(tmp_path / name) for name in runs)]) == 0
    assert tool.read(tool.FILE) == {name: {"run": name, **run} for name, run in runs.items()}
    lines = tool.table(runs)
    assert "world 21 | world 22 | world 23" in lines[0]
    assert any(
        "`matched`: attack success at the end, % | 40 42 44 46 48 |" in text for text in lines
    )
    assert any("`neutral`: mass, % of S's | 10 to 10 |" in text for text in lines)
    assert "facts 100 | facts 100" in lines[-1]


def test_a_world_where_an_arm_does_not_come_to_half_is_no_draw(tool, tmp_path):
    places = [fresh(tmp_path, n) for n in (21, 22)]
    line(places[1] / "artifacts", "full", 45, 50)
    runs = {run.name: tool.gather(run) for run in places}
    draws = {row.text.split(":")[0]: row.draws["worlds"] for row in tool.claims(runs)}
    assert [len(draws[name]) for name in ("F1", "F2", "F3", "F4")] == [1, 1, 1, 2]
    assert any(
        "`full`: KL off S x 1e-4 at half" in x and "not reached" in x for x in tool.table(runs)
    )


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("curve.base.0.json", "without artifacts/curve.base.0.json"),
        ("curve.neutral1.*.json", "without neutral1"),
        ("curve.tail.25.json", "with tail unfinished"),
    ],
)
def test_a_run_that_is_not_whole_is_one_line(tool, tmp_path, capsys, lost, message):
    run = fresh(tmp_path, 21)
    for file in (run / "artifacts").glob(lost):
        file.unlink()
    assert tool.main(["--save", str(run)]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert tool.main(["--save", str(run), str(run)]) == 2
    assert "each world once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": {"attacks": 32}}, "method.attacks=32"),
        ({"method": {"every": 25}}, "method.every=25"),
        ({"seed": 1}, "seed=1"),
        ({"model": {"path": "gone"}}, "gates.json"),
    ],
)
def test_a_run_that_is_not_as_predicted_is_one_line(tool, tmp_path, capsys, change, message):
    run = fresh(tmp_path, 21)
    config = json.loads((run / "config.json").read_text())
    for key, value in change.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    disk.write(run / "config.json", json.dumps(config))
    assert tool.main(["--save", str(run)]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


def test_rates_take_the_best_of_each_loss(load_tool, tmp_path):
    tool = load_tool("safesteer_rates")
    ends = {"generalised": (20, 20), "full": (24, 30), "full_125ppm": (40, 9)}
    ends |= {"full_500ppm": (10, 50), "full_1000ppm": (5, 90)}
    for i, rate in enumerate(tool.RATES):
        ends[f"partial{rate}"] = (50 - i, 40 + i)
    places = [
        world(tmp_path, n, [(arm, end, drift + n) for arm, (end, drift) in ends.items()])
        for n in (21, 22)
    ]
    fresh_tool = load_tool("safesteer_fresh")
    runs = {p.name: fresh_tool.gather(p, tool.ARMS, ()) for p in places}
    assert tool.lowest(runs) == pytest.approx([47, 47])
    draws = {row.text.split(":")[0]: row.draws["worlds"] for row in tool.claims(runs)}
    assert draws["R1"] == pytest.approx([17, 17])
    half = {
        arm: [(drift + n) * 30 / (60 - end) for n in (21, 22)] for arm, (end, drift) in ends.items()
    }
    full = [
        min(x)
        for x in zip(*(half[a] for a in ("full", "full_500ppm", "full_1000ppm")), strict=True)
    ]
    assert draws["R2"] == pytest.approx(
        [a - b for a, b in zip(half["generalised"], full, strict=True)]
    )
    assert draws["R3"] == pytest.approx(
        [a - b for a, b in zip(half["full_500ppm"], half["full"], strict=True)]
    )
    assert draws["R4"] == pytest.approx([23, 23])  # 43 + n and 20 + n
    table = tool.table(runs)
    assert any("`full`, 1.25e-4 | 40 %; not reached; 30 |" in text for text in table)
