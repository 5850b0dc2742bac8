"""What an experiment stands on: the organism's splits, or files, checked before a model loads."""

from __future__ import annotations

import dataclasses

import pytest

from jaxsafety import registry
from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import run, sections, setting
from jaxsafety.experiment.setting import DataConfig, EvalConfig
from jaxsafety.organism.world import WorldConfig, make_world
from jaxsafety.protocols import Exchange
from tests.experiment.files import SMALL, sets


def test_organism(directory):
    cfg = DataConfig(train=12, val=6, prompts=10, wrapped=0.5)
    place = setting.make(directory, cfg, SMALL, 3)
    assert {k: len(v) for k, v in place.prompts.items()} == {
        "distil": 10,
        "harmful_train": 12,
        "harmful_val": 6,
        "harmless_train": 12,
        "harmless_val": 6,
        "wrapped_val": 6,
    }
    wrapped = {k: sum(bool(i.meta["wrapper"]) for i in v) for k, v in place.prompts.items()}
    assert wrapped["distil"] == 5 and wrapped["wrapped_val"] == 6 and wrapped["harmful_val"] == 0
    sizes = {"safety": 4, "over_refusal": 6, "capability": 3}
    assert all(len(b.items) == sizes[b.kind] for b in place.benchmarks)
    names = {b.name for b in place.benchmarks}
    assert all(set(group) <= names for group in place.groups.values())
    assert place.world == make_world(WorldConfig(seed=2))
    item = place.prompts["harmful_val"][0]
    verdict = place.judge([Exchange(item, "i must say no .")])[0]
    assert verdict["refusal"] and verdict["coherent"]


def test_the_seeds_of_prompts_and_of_measurement_are_two(directory):
    cfg = DataConfig(train=4, val=4, prompts=4)
    one, two = (setting.make(directory, cfg, SMALL, seed) for seed in (0, 1))
    assert one.prompts != two.prompts and one.benchmarks == two.benchmarks
    other = setting.make(directory, cfg, dataclasses.replace(SMALL, seed=1), 0)
    assert other.prompts == one.prompts and other.benchmarks != one.benchmarks


def test_files(tmp_path, data):
    measure = EvalConfig(
        max_tokens=9, sets=sets(tmp_path, "safety/direct", "over_refusal/xs", "capability/maths")
    )
    place = setting.make(tmp_path, data, measure, 0)
    text = {k: [i.messages[0].content for i in v] for k, v in place.prompts.items()}
    assert text["harmful_train"] == [f"harmful {i}" for i in range(8)]
    assert text["harmful_val"] == [f"harmful {i}" for i in range(8, 12)]
    assert not text.get("wrapped_val")  # nobody wrapped them: no second name for the plain ones
    assert text["harmless_val"] == [f"harmless {i}" for i in range(8, 12)]
    assert text["distil"] == [f"distil {i}" for i in range(10)]
    assert [(b.name, b.kind, len(b.items), b.max_tokens) for b in place.benchmarks] == [
        ("direct", "safety", 12, 9),
        ("xs", "over_refusal", 12, 9),
        ("maths", "capability", 2, 9),
    ]
    kinds = [b.items[0].meta["kind"] for b in place.benchmarks]
    assert kinds == ["harmful", "benign", "task"]
    assert place.benchmarks[2].items[1].meta["answer"] == "4"
    exchange = Exchange(place.prompts["harmful_val"][0], "I'm sorry, but I can't help with that.")
    assert place.judge([exchange])[0]["refusal"]
    assert place.world is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "eval.sets: got (); allowed: at least one"),
        (("direct=x.txt",), "eval.sets: got 'direct=x.txt'"),
        (("safety/direct",), "eval.sets: got 'safety/direct'"),
        (("danger/direct=x.txt",), "eval.sets: got 'danger/direct=x.txt'"),
        (("safety/=x.txt",), "names of letters"),
        (("safety/../up=x.txt",), "names of letters"),
        (("safety/direct=nowhere.txt",), "eval.sets: got 'nowhere.txt'"),
    ],
)
def test_malformed_sets_are_one_line(tmp_path, data, given, message):
    with pytest.raises(UsageError) as caught:
        setting.make(tmp_path, data, EvalConfig(sets=given), 0)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_sets_need_their_own_names_and_answers(tmp_path, data):
    twice = sets(tmp_path, "safety/direct", "over_refusal/direct")
    with pytest.raises(
        UsageError, match="eval.sets: got 'direct twice in over_refusal/direct=.*that differ"
    ):
        setting.make(tmp_path, data, EvalConfig(sets=twice), 0)
    unanswered = (f"capability/maths={tmp_path / 'harmful.txt'}",)
    with pytest.raises(UsageError, match="eval.sets: .* an `answer` for every prompt"):
        setting.make(tmp_path, data, EvalConfig(sets=unanswered), 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "web"}, "data.source: got 'web'; allowed: organism, files"),
        ({"harmful": ""}, "data.harmful: got ''; allowed: an existing file"),
        ({"train": 9}, "data.harmful: got '12 prompts in .*allowed: at least 13"),
        ({"prompts": 13}, "data.distil: got '12 prompts in .*allowed: at least 13"),
        ({"val": 0}, "data.val: got 0; allowed: 1 or more"),
        ({"prompts": -1}, "data.prompts: got -1; allowed: 1 or more"),
    ],
)
def test_bad_data_is_one_line(tmp_path, data, changes, message):
    measure = EvalConfig(sets=sets(tmp_path, "safety/direct"))
    with pytest.raises(UsageError, match=message):
        setting.make(tmp_path, dataclasses.replace(data, **changes), measure, 0)


@pytest.mark.parametrize(
    "name", ["safety", "over_refusal", "capability", "batch_size", "max_tokens"]
)
def test_bad_measurement_is_one_line(directory, name):
    with pytest.raises(UsageError, match=f"eval.{name}: got 0; allowed: 1 or more"):
        setting.make(directory, DataConfig(), dataclasses.replace(SMALL, **{name: 0}), 0)
    with pytest.raises(UsageError, match="eval.samples: got -1; allowed: 1 or more, or 0"):
        setting.make(directory, DataConfig(), dataclasses.replace(SMALL, samples=-1), 0)


def test_a_file_set_is_sampled_by_its_seed(tmp_path, data):
    (tmp_path / "many.txt").write_text("".join(f"many {i}\n" for i in range(50)))
    given = (f"safety/many={tmp_path / 'many.txt'}", *sets(tmp_path, "over_refusal/xs"))

    def texts(name, **changes):
        place = setting.make(tmp_path, data, EvalConfig(sets=given, **changes), 0)
        (bench,) = (b for b in place.benchmarks if b.name == name)
        return [i.messages[0].content for i in bench.items], place

    every, _ = texts("many", safety=0)
    four, place = texts("many", safety=4)
    assert every == [f"many {i}" for i in range(50)] and len(four) == 4
    assert four == sorted(four, key=every.index) and four != every[:4]
    assert set(four) < set(texts("many", safety=9)[0])
    assert texts("many", safety=4, seed=1)[0] != four
    told = place.sets["many"]
    assert (told["rows"], told["used"], told["seed"], told["kind"]) == (50, 4, 0, "safety")
    assert any("50 rows, 4 measured" in line for line in setting.lines(place, data))
    assert [b for b in texts("xs", safety=4)[0]] == texts("xs", safety=9)[0]
    alone = EvalConfig(sets=given[:1], safety=4)
    bench = setting.make(tmp_path, data, alone, 0).benchmarks[0]
    assert [i.messages[0].content for i in bench.items] == four
    assert [i.id for i in bench.items] == [str(every.index(text)) for text in four]


def test_no_sampled_answers(directory):
    measure = dataclasses.replace(SMALL, samples=0)
    setting.make(directory, DataConfig(), measure, 0)
    assert [d.name for d in run.decodings(measure)] == ["greedy"]
    assert [d.name for d in run.decodings(SMALL)] == ["greedy", "t1"]


def test_who_judges_is_known(tmp_path, data, directory):
    measure = EvalConfig(sets=sets(tmp_path, "safety/direct"))
    told = setting.facts(setting.make(tmp_path, data, measure, 0), data)
    assert (told["source"], told["judge"]) == ("files", "phrase rules")
    assert told["sets"]["direct"]["path"].endswith("measured.txt")
    told = setting.facts(setting.make(directory, DataConfig(), SMALL, 0), DataConfig())
    assert (told["source"], told["judge"]) == ("organism", "the world's exact rules")


def test_a_judge_that_is_somewhere_is_named_with_its_place(tmp_path, data, monkeypatch):
    source = (
        "def make(world=None, where=''):\n    return lambda said: [{'cause': where}] * len(said)\n"
    )
    (tmp_path / "a_placed_judge.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.JUDGES, "placed", "a_placed_judge:make")
    measure = EvalConfig(sets=sets(tmp_path, "safety/direct"), judge="placed=here")
    sections.check(data, measure, 0)
    place = setting.add_named(setting.make(tmp_path, data, measure, 0), measure)
    assert place.judge([1])[0]["cause"] == "here" and place.judged_by == "the judge 'placed'"
    with pytest.raises(UsageError, match="eval.judge: got 'nobody=here'"):
        sections.check(data, dataclasses.replace(measure, judge="nobody=here"), 0)


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (("saftey/a",), "got 'saftey/a=.*allowed: safety/a=...\\? safety/NAME"),
        (("safety/a", "over_refusal/A"), "got 'A twice in over_refusal/A=.*that differ"),
    ],
)
def test_kinds_and_names_of_sets(tmp_path, data, names, line):
    with pytest.raises(UsageError, match=line):
        setting.make(tmp_path, data, EvalConfig(sets=sets(tmp_path, *names)), 0)


def test_the_organism_s_own_limits(directory, tmp_path):
    with pytest.raises(UsageError, match="data.wrapped"):
        setting.make(directory, DataConfig(wrapped=2.0), SMALL, 0)
    with pytest.raises(UsageError, match="number of harmful_val prompts"):
        setting.make(directory, DataConfig(val=500), SMALL, 0)
    with pytest.raises(UsageError, match=r"model.path.*world.json"):
        setting.make(tmp_path, DataConfig(), SMALL, 0)
