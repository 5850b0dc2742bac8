"""What can be compared: the same prompts, judge, decoding and base; and by how much it differs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jaxsafety.benchmarks.organism import EXACT
from jaxsafety.core import disk
from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import identity, setting
from jaxsafety.experiment.identity import model_fingerprint
from jaxsafety.report.compare import matching, opening
from jaxsafety.report.load import Run
from jaxsafety.report.measurement.load import TASKS
from tests.report.compared import HARM, KIND, TASK, measurement, run, shares

FOUR, ONE = {HARM: [1, 1, 0, 0]}, {HARM: [1, 0, 0, 0]}


def sides(first, second, name="attacks"):
    found = opening.read([first, second])
    return [matching.find(source, source.lead, name, "greedy") for source in found]


def test_a_difference_is_paired_and_as_large_as_by_hand(tmp_path):
    a, b = sides(
        run(tmp_path / "a", {"base": FOUR, "student": FOUR}),
        run(tmp_path / "b", {"base": FOUR, "student": ONE}),
    )
    assert matching.cause(a, b) == ""
    found = matching.differ(a, b, "asr")
    # Changes of the four prompts: 0, -1, 0, 0. Of resamples 32 % have no -1, 5 % three or more.
    assert found.change == (-0.25, -0.75, 0.0) and not found.clear
    assert matching.rate(a, "asr").value == 0.5 and matching.rate(b, "asr").n == 4
    assert matching.differ(b, a, "asr").change == (0.25, 0.0, 0.75)


def test_within_a_run_it_is_what_its_own_report_says(workdir, tmp_path):
    (tmp_path / "copy").mkdir()
    for name in ("results.jsonl", "generations", "verdicts"):
        (tmp_path / "copy" / name).symlink_to(workdir / name)
    source, _ = opening.read([workdir, tmp_path / "copy"])
    base, student = source.models
    for name in ("plain", "wrapped_held"):  # a set and a pool, two samples per prompt
        first = matching.find(source, base, name, "t1")
        second = matching.find(source, student, name, "t1")
        row = Run(workdir).row(name, "safety", "asr", "t1")
        assert matching.differ(first, second, "asr").change == row.change
        assert matching.rate(second, "asr") == row.after


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"base": "bb"}, "different base models: "),
        ({"judge": "phrase rules"}, f"different judges: {EXACT} and phrase rules"),
        ({"tokens": 64}, "different decoding: tokens 16 and 64"),
        ({"prompt": "please, {name} {i}?"}, "different prompts: 4 and 4, 0 shared"),
    ],
)
def test_what_was_not_the_same_is_a_cause_and_no_number(tmp_path, options, cause):
    a, b = sides(
        run(tmp_path / "a", {"student": FOUR}), run(tmp_path / "b", {"student": ONE}, **options)
    )
    found = matching.differ(a, b, "asr")
    assert found.change is None and found.cause.startswith(cause)
    assert matching.rate(b, "asr") is not None  # each is known by itself


def test_another_limit_is_other_prompts(tmp_path):
    more = {HARM: [1, 1, 0, 0, 1, 1]}
    a, b = sides(run(tmp_path / "a", {"student": FOUR}), run(tmp_path / "b", {"student": more}))
    assert matching.cause(a, b) == "different prompts: 4 and 6, 4 shared"


def test_worlds_have_judges_of_one_name(tmp_path):
    paths = [run(tmp_path / name, {"student": FOUR}) for name in "ab"]
    for path, digest in zip(paths, ("1", "2"), strict=True):
        meta = json.loads((path / "meta.json").read_text())
        meta["files"]["model: world.json"] = digest
        disk.write_json(path / "meta.json", meta)
    assert f"different judges, both called {EXACT}" in matching.cause(*sides(*paths))


def test_without_answers_nobody_can_tell(tmp_path):
    paths = [run(tmp_path / name, {"student": FOUR}) for name in "ab"]
    (paths[1] / "generations/student/attacks.greedy.jsonl").unlink()
    assert "nobody can tell whether the prompts are the same" in matching.cause(*sides(*paths))
    (paths[0] / "verdicts/student/attacks.greedy.jsonl").unlink()
    assert matching.rate(sides(*paths)[0], "asr") is None


def test_a_set_that_one_lacks(tmp_path):
    a, b = sides(
        run(tmp_path / "a", {"student": {**FOUR, KIND: [1, 0]}}),
        run(tmp_path / "b", {"student": ONE}),
        name="twins",
    )
    assert matching.cause(a, b) == "not measured in b" and matching.differ(a, b, "refusal").cause


def test_what_no_judge_can_tell_is_in_no_difference(tmp_path):
    a, b = sides(
        run(tmp_path / "a", {"student": {HARM: [1, None, 0, 0]}}),
        run(tmp_path / "b", {"student": {HARM: [0, 1, 0, None]}}),
    )
    assert matching.differ(a, b, "asr").change[0] == -0.5  # of the two prompts that both know
    a, b = sides(tmp_path / "a", run(tmp_path / "c", {"student": {HARM: [None] * 4}}))
    assert matching.differ(a, b, "asr") == (None, "no prompt was judged in both", (0, 0))


@pytest.mark.parametrize(
    ("moved", "clear"),
    # 2 / 2^5 = 0.0625 and 2 / 2^6 = 0.031; with one against, 2 (1 + 9) / 2^9 = 0.039.
    [
        ((5, 0), False),
        ((6, 0), True),
        ((0, 6), True),
        ((8, 1), True),
        ((7, 1), False),
        ((0, 0), False),
    ],
)
def test_clear_is_so_by_an_exact_sign_test_too(moved, clear):
    change = (-0.3, -0.5, -0.1)
    assert matching.Difference(change, "", moved).clear == clear
    assert not matching.Difference((-0.3, -0.5, 0.1), "", moved).clear


def test_a_prompt_that_is_asked_twice_is_two(tmp_path):
    a, b = sides(
        run(tmp_path / "a", {"student": FOUR}, prompt="the same"),
        run(tmp_path / "b", {"student": ONE}, prompt="the same"),
    )
    assert matching.differ(a, b, "asr").change[0] == -0.25


def test_a_run_and_a_measurement_know_each_others_judges(tmp_path):
    assert (opening.BY_PHRASES, opening.BY_TASK) == (setting.BY_PHRASES, setting.BY_TASK)
    assert opening._title("rules", "") == setting.BY_PHRASES
    assert opening._title(TASKS, "") == setting.BY_TASK
    a, b = sides(
        run(tmp_path / "a", {"student": FOUR}, judge=setting.BY_PHRASES),
        measurement(tmp_path / "b", {"model": ONE}),
    )
    assert matching.cause(a, b) == "" and matching.differ(a, b, "asr").change[0] == -0.25


def test_choices_are_scored_by_log_probability(tmp_path):
    for name, scores in (("a", (1.0, 0.0)), ("b", (0.0, None))):
        path = measurement(tmp_path / name, {"model": FOUR})
        lines = [
            {"id": str(i), "contexts": [f"{i}?"], "target": 0, "scores": {"acc": score}}
            for i, score in enumerate(scores)
        ]
        disk.write_lines(path / "generations/model/arc.logp.jsonl", lines)
        record = {"arm": "model", "benchmark": "arc", "kind": "capability", "metric": "acc.logp"}
        record |= {"value": 0.5, "lo": 0.1, "hi": 0.9, "n": 2, "seed": 0}
        disk.write_lines(path / "results.jsonl", [record])
    found = opening.read([tmp_path / "a", tmp_path / "b"])
    a, b = (matching.find(source, source.lead, "arc", "logp") for source in found)
    assert matching.differ(a, b, "acc").change[0] == -1.0
    assert np.isnan(matching.means(b, "acc")["arc", b.parts["arc"].prompts["1"]])


def test_one_base_in_two_runs_is_one(tmp_path):
    paths = [run(tmp_path / name, {"base": FOUR, "student": ONE}) for name in "ab"]
    found = opening.read(paths)
    a, b = (matching.find(source, source.models[0], "attacks", "greedy") for source in found)
    assert matching.same(a, b, "asr")
    student = matching.find(found[1], found[1].lead, "attacks", "greedy")
    assert not matching.same(a, student, "asr")


def test_the_base_is_the_model_that_adapters_are_compared_with(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for name in ("b.safetensors", "a.safetensors", "config.json"):
        (model / name).write_text(name)

    path = run(tmp_path / "a", {"student": FOUR})
    disk.write_json(path / "meta.json", {"files": identity.model_digests(model)})
    assert opening._base_of(Run(path)) == model_fingerprint(model)
    disk.write_json(path / "meta.json", {})
    assert opening._base_of(Run(path)) == ""


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["a"], "--compare: got 'a'; allowed: two runs or more"),
        (["a", "b", "a"], "got 'a'; allowed: each run once: this one is named before"),
        (["a", "./b/../a"], "each run once"),
        (["a", "nowhere"], "got 'nowhere'; allowed: an existing directory"),
        (["a", "empty"], "got 'empty'; allowed: a run with results"),
        (["a", "torn"], "got 'torn'; allowed: a run with results"),
        (["a", "broken"], "eval.json"),
        (["a", "unfinished"], "this one has results of its base alone"),
    ],
)
def test_bad_input_is_a_line(tmp_path, monkeypatch, names, line):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        run(tmp_path / name, {"student": shares(3)})
    run(tmp_path / "unfinished", {"base": shares(3)})
    for name in ("empty", "torn", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "torn/results.jsonl").write_text('{"arm": "stu')
    (tmp_path / "broken/eval.json").write_text('{"sets": ')
    with pytest.raises(UsageError) as error:
        opening.read([tmp_path.joinpath(n).relative_to(tmp_path) for n in names])
    assert line in str(error.value) and "\n" not in str(error.value)


def test_labels_tell_runs_apart(tmp_path):
    for name in ("x/run", "y/run", "z"):
        run(tmp_path / name, {"student": {TASK: [1, 0]}})
    found = opening.read([tmp_path / name for name in ("x/run", "y/run")])
    assert [source.label for source in found] == ["x/run", "y/run"]
    found = opening.read([tmp_path / name for name in ("x/run", "z")])
    assert [source.label for source in found] == ["run", "z"]
