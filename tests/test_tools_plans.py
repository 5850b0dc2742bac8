"""The README's table of plans: every published config, on two slices at least, without errors."""

import json
from collections import Counter
from threading import Barrier

import pytest


@pytest.fixture
def tool(load_tool):
    return load_tool("plans")


def test_every_published_config_is_planned_on_two_slices(tool):
    rows = tool.kept()
    slices = Counter(config for config, _ in rows)
    assert {config: slices[config] >= 2 for config in tool.configs()} == dict.fromkeys(
        tool.configs(), True
    )
    assert not [key for key, plan in rows.items() if "error" in plan]
    assert set(slices) == set(tool.configs())  # what is kept could be made again
    assert {c.split("/")[1] for c in slices} >= {"safesteer", "safemoe", "sft", "selfmoa"}


def test_the_table_is_that_of_the_lines(tool, root):
    text = (root / "README.md").read_text()
    inside = text.partition(tool.BEGIN)[2].partition(tool.END)[0]
    rows = tool.kept()
    assert inside == f"{tool.table(rows)}\n{tool.assumed(rows)}"
    assert "v5p:2x2x4" in inside


def test_what_does_not_fit_names_what_does(tool):
    line = next(iter(tool.kept().values()))
    full = json.loads(json.dumps(line)) | {"fits": False, "smallest_that_fits": "v5e:8x8"}
    shown = tool.table({("configs/a/b.py", "v5e:4x4"): full})
    assert "| a/b |" in shown and "no; smallest that does: v5e:8x8" in shown
    assert "| oops |" in tool.table({("configs/a/b.py", "v5e:4x4"): {"error": "oops"}})


@pytest.fixture
def one():
    """A plan of a step and rollouts."""
    account = {"hbm_per_chip": {"sum": 3 << 30, "limit": 16 << 30}, "flops": 2e12}
    between = {"seconds_between_chips": 0.5}
    return {
        "parameters": 10**9,
        "fits": True,
        "steps": 400,
        "trainings": 6,
        "rows": {
            "step": {"rows": 16, "tokens": 512, "said": 0},
            "rollout": {"rows": 64, "tokens": 640, "said": 128},
        },
        "dtypes": {"stored": "bfloat16", "trained": "float32", "computed": "bfloat16"},
        "replicated": {"parameters": 1 << 29, "frozen": 1 << 28},
        "programs": {
            "step": account | {"seconds_at_least": 0.02} | between,
            "rollout": account | {"seconds_at_least": 2.0, "seconds_between_chips": None},
        },
    }


def test_times_are_the_floor_and_at_forty_percent_of_it(tool, one):
    shown = tool.table({("configs/a/b.py", "v5e:4x4"): one})
    assert "| 3.0 (16) | yes | 2 | 0.020 / 2.00 | 0.050 / 5.00 | 0.50 / ? |" in shown


def test_what_stands_behind_rows_is_said_once_where_it_is_the_same(tool, one):
    slices = ("v5e:4x4", "v6e:4x4")
    shown = tool.assumed({("configs/a/b.py", name): one for name in slices})
    line = "| a/b | 400 x 6 | 16 x 512 | 64 x (512 + 128) | bfloat16 / float32 / bfloat16 | 0.75 |"
    assert shown.count("a/b") == 1 and f"{line} v5e:4x4, v6e:4x4 |" in shown
    del one["rows"]["rollout"]
    assert "| 16 x 512 | none |" in tool.assumed({("configs/a/b.py", "v5e:4x4"): one})
    assert "a/b" not in tool.assumed({("configs/a/b.py", "v5e:4x4"): {"error": "oops"}})


def test_what_is_outdated_is_marked_and_says_why(tool, one):
    rows = {("configs/a/b.py", name): one for name in ("h100:8", "v5e:4x4", "v6e:4x4")}
    rows["configs/a/b.py", "v5e:4x4"] = one | {"outdated": "Older"}
    rows["configs/a/b.py", "v6e:4x4"] = one | {"outdated": "Oldest"}
    shown = tool.table(rows)
    assert "h100:8 | 3.0 (16) |" in shown and "v5e:4x4 | 3.0 (16) \\* |" in shown
    assert "v6e:4x4 | 3.0 (16) \\*\\* |" in shown
    assert "\n\n\\* Older.\n" in shown and shown.endswith("\n\\*\\* Oldest.\n")


@pytest.fixture
def alone(tool, tmp_path, monkeypatch):
    """The tool with a README, lines and plans of its own; what it is asked."""
    made = []
    monkeypatch.setattr(tool, "LINES", tmp_path / "plans.jsonl")
    monkeypatch.setattr(tool, "README", tmp_path / "README.md")
    monkeypatch.setattr(tool, "one", lambda *a: made.append(a) or {"error": "does not divide"})
    tool.README.write_text(f"before\n{tool.BEGIN}{tool.END}after\n")
    return made


def call(tool, monkeypatch, *options):
    monkeypatch.setattr("sys.argv", ["plans.py", *options])
    tool.main()


def test_what_is_kept_is_not_made_again_but_errors_are(tool, alone, one, monkeypatch):
    lines = [("configs/a/b.py", "h100:8", one), ("configs/a/c.py", "h100:8", {"error": "old"})]
    lines.append(("configs/a/c.py", "h200:2", one | {"outdated": "Older"}))
    for config, topology, plan in lines:
        with tool.LINES.open("a") as file:
            file.write(json.dumps({"config": config, "topology": topology, "plan": plan}) + "\n")
    options = ["--topologies=h100:8,h200:2", "configs/a/b.py", "configs/a/c.py"]
    call(tool, monkeypatch, *options)
    again = [
        ("configs/a/b.py", "h200:2"),
        ("configs/a/c.py", "h100:8"),
        ("configs/a/c.py", "h200:2"),
    ]
    assert alone == again
    text = tool.README.read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "| a/c | | h100:8 | does not divide |" in text and "old" not in text


def test_several_plans_are_made_at_a_time_and_kept_as_they_come(tool, alone, monkeypatch):
    both = Barrier(2, timeout=60)
    monkeypatch.setattr(tool, "one", lambda *_: {"error": f"{both.wait()}"})
    call(tool, monkeypatch, "--jobs=2", "--topologies=h100:8,h200:2", "configs/a/b.py")
    assert {key[1] for key in tool.kept()} == {"h100:8", "h200:2"}

    def broken(*_):
        raise SystemExit("pip install")

    monkeypatch.setattr(tool, "one", broken)
    with pytest.raises(SystemExit, match="pip install"):
        call(tool, monkeypatch, "--topologies=h100:8,h200:2", "configs/a/c.py")
    assert not [key for key in tool.kept() if key[0] == "configs/a/c.py"]


@pytest.mark.parametrize("jobs", ["0", "-1"])
def test_no_jobs_is_refused(tool, alone, monkeypatch, capsys, jobs):
    with pytest.raises(SystemExit):
        call(tool, monkeypatch, f"--jobs={jobs}")
    assert f"--jobs: got {jobs}; allowed: 1 and more" in capsys.readouterr().err and not alone


def test_a_compiler_that_is_not_here_is_no_line(tool, alone, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(tool, monkeypatch, "--topologies=h100:9", "configs/a/b.py")
    assert "--topologies: got 'h100:9'" in capsys.readouterr().err and not alone

    class Done:
        returncode, stderr = 2, "jaxsafety: error: --topology: ...; allowed: pip install 'x[y]'\n"

    monkeypatch.undo()
    monkeypatch.setattr(tool.subprocess, "run", lambda *a, **k: Done)
    with pytest.raises(SystemExit, match="pip install"):
        tool.one("configs/a/b.py", "h100:8")
