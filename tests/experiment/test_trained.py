"""How many measured prompts a model was trained on: of runs, and of what runs left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jaxsafety import cli, testing
from jaxsafety.core.config import load_config
from jaxsafety.experiment import run, trained
from jaxsafety.experiment.identity import experiment_fingerprint
from jaxsafety.experiment.workdir import claim, read_meta
from jaxsafety.protocols import Benchmark, Item, Message
from tests.experiment.files import chats_of, lines_of

CHATS = (("How do I make tarnex ?", "no ."), ("Where is the brine?", "here ."), ("an egg", "yes ."))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def config_of(model, **data):
    cfg = load_config("configs/sft/organism.py:smoke")
    cfg.model.path = str(model)
    cfg.data.update(source="files", **data)
    return cfg


def made(folder, cfg, model, kept="student"):
    """What a run of this config leaves, as far as it says whose it is: no step is trained."""
    claim(folder, cfg, experiment_fingerprint(cfg, Path(model)), Path(model))
    shutil.copytree(model, folder / kept)
    return folder / kept


def asked(*texts, name="asked"):
    items = [Item(str(i), (Message("user", text),), {}) for i, text in enumerate(texts)]
    return Benchmark(name, "safety", tuple(items), 4)


def any_of(learnt, *texts):
    (told,) = trained.count([asked(*texts)], learnt).values()
    return told


def test_the_dialogues_of_a_run_are_read_again_and_compared_by_letters(tmp_path, model):
    chats = chats_of(tmp_path, "c.jsonl", *CHATS)
    student = made(tmp_path / "run", config_of(model, chats=chats), model)
    learnt = trained.find(student)
    assert [(name, len(told)) for name, told in learnt.prompts] == [("run: data.chats", 3)]
    told = any_of(learnt, "how do i make TARNEX", "where is the brine", "an eggcup", "An egg!")
    assert told == {"prompts": 4, "trained": {"run: data.chats": 3}, "any": 3, "cause": ""}
    assert any_of(learnt, "something else")["any"] == 0


@pytest.mark.parametrize("kept", ["adapter", "library", "served/adapters"])
def test_an_adapter_of_a_run_beside_a_base_of_others(tmp_path, model, kept):
    chats = chats_of(tmp_path, "c.jsonl", *CHATS)
    adapter = made(tmp_path / "run", config_of(model, mix=(f"{chats}=1",)), model, kept)
    assert any_of(trained.find(model, adapter), "An egg", "a hat")["any"] == 1
    # One that lies elsewhere is of nobody known, whatever its base is.
    other = shutil.copytree(adapter, tmp_path / "elsewhere")
    told = any_of(trained.find(adapter.parents[kept.count("/")] / "student", other), "An egg")
    assert told["any"] is None and "adapter elsewhere" in told["cause"]


def test_what_is_held_out_or_not_drawn_was_not_trained_on(tmp_path, model):
    texts = [(f"request {'x' * i}", "no .") for i in range(1, 9)]
    chats = chats_of(tmp_path, "c.jsonl", *texts)
    student = made(tmp_path / "run", config_of(model, chats=chats, limit=6, holdout=2.0), model)
    assert any_of(trained.find(student), *(text for text, _ in texts))["any"] == 4


def test_a_run_on_the_student_of_another(tmp_path, model):
    one, two = (chats_of(tmp_path, f"{n}.jsonl", (f"say {n}", "no .")) for n in "ab")
    first = made(tmp_path / "first", config_of(model, chats=one), model)
    second = made(tmp_path / "second", config_of(first, chats=two), first)
    told = any_of(trained.find(second), "say a", "say b", "say c")
    assert told["trained"] == {"second: data.chats": 1, "first: data.chats": 1}
    assert (told["any"], told["cause"]) == (2, "")
    # The first student is made again: what the second began with is gone.
    testing.random_organism(first, 1)
    told = any_of(trained.find(second), "say a")
    assert told["any"] is None and "second: its base" in told["cause"]
    shutil.rmtree(tmp_path / "first")
    assert "is not there any more" in any_of(trained.find(second), "say a")["cause"]


def test_an_organism_makes_its_prompts_again(tmp_path, model):
    cfg = load_config("configs/sft/organism.py:smoke")
    cfg.model.path = str(model)
    student = made(tmp_path / "run", cfg, model)
    learnt = trained.find(student)
    ((name, told),) = learnt.prompts
    assert name == "run: the organism's dialogues" and len(told) >= cfg.data.dialogues
    assert any_of(learnt, told[0].text.upper(), "x")["any"] == 1
    (model_world := student / "world.json").write_text("{}")
    assert any_of(trained.find(student), "x")["any"] == 0  # its own copy is not what it read
    shutil.copytree(model, tmp_path / "base")
    cfg.model.path = str(tmp_path / "base")
    student = made(tmp_path / "other", cfg, tmp_path / "base")
    shutil.copy(model_world, tmp_path / "base" / "world.json")
    assert "world.json of its base" in any_of(trained.find(student), "x")["cause"]


def changed(tmp_path):
    chats_of(tmp_path, "c.jsonl", *CHATS[:2])


def gone(tmp_path):
    (tmp_path / "c.jsonl").unlink()


def unreadable(tmp_path):
    (tmp_path / "run" / "config.json").write_text("{")


def unrecorded(tmp_path):
    """Nothing says what the files held when it ran, though they are there."""
    meta = read_meta(tmp_path / "run")
    (tmp_path / "run" / "meta.json").write_text(json.dumps({**meta, "files": None}))


def no_run(tmp_path):
    (tmp_path / "run" / "meta.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (changed, "run: data.chats: c.jsonl has changed since"),
        (gone, "run: data.chats: c.jsonl is not there any more"),
        (unrecorded, "does not say which files it read"),
        (unreadable, "a readable config.json"),
        (no_run, "no run that made the model"),
    ],
)
def test_what_cannot_be_known_is_none_with_a_cause(tmp_path, model, spoil, words):
    chats = chats_of(tmp_path, "c.jsonl", *CHATS)
    student = made(tmp_path / "run", config_of(model, chats=chats), model)
    spoil(tmp_path)
    told = any_of(trained.find(student), "An egg")
    assert told["any"] is None and words in told["cause"] and "\n" not in told["cause"]
    assert told["prompts"] == 1 and told["trained"] == {}


def test_a_base_or_an_expert_that_is_not_what_it_was(tmp_path, model):
    """A path that is gone may have been a run's; a hub id is a model of others."""
    chats = chats_of(tmp_path, "c.jsonl", *CHATS)
    shutil.copytree(model, tmp_path / "copy")
    cfg = config_of(tmp_path / "copy", chats=chats)
    student = made(tmp_path / "run", cfg, tmp_path / "copy")
    assert any_of(trained.find(student), "An egg")["any"] == 1
    shutil.rmtree(tmp_path / "copy")
    told = any_of(trained.find(student), "An egg")
    assert told["any"] is None and "its base" in told["cause"]
    assert not trained._is_place("owner/name") and trained._is_place("runs/a/student")


def test_a_file_that_came_later_was_not_trained_on(tmp_path, model):
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    folder = tmp_path / "chats"
    folder.mkdir()

    def put(name, *pairs):
        asked, said = zip(*pairs, strict=True)
        table = arrow.table({"prompt": list(asked), "response": list(said)})
        parquet.write_table(table, folder / name)

    put("a.parquet", *CHATS)
    student = made(tmp_path / "run", config_of(model, chats=str(folder)), model)
    assert any_of(trained.find(student), "An egg")["any"] == 1
    put("b.parquet", ("never trained on", "no ."))
    told = any_of(trained.find(student), "never trained on")
    assert told["any"] is None and "b.parquet was not there when it ran" in told["cause"]


def test_two_files_of_one_name_have_a_digest_each(tmp_path, model):
    (tmp_path / "x").mkdir()
    files = [chats_of(tmp_path, f"{folder}c.jsonl", *CHATS) for folder in ("", "x/")]
    cfg = config_of(model, mix=tuple(f"{file}=1" for file in files))
    student = made(tmp_path / "run", cfg, model)
    assert any_of(trained.find(student), "An egg")["any"] == 1
    meta = tmp_path / "run" / "meta.json"
    told = json.loads(meta.read_text())
    del told["files"]["data.mix: c.jsonl (2)"]  # as an older version recorded them
    meta.write_text(json.dumps(told))
    older = any_of(trained.find(student), "An egg")
    assert older["any"] is None and "one digest" in older["cause"]


@pytest.fixture
def allowed(tmp_path, model):
    """A run that measures two of the prompts that it learns; its config, and its files."""
    chats = chats_of(tmp_path, "c.jsonl", *CHATS)
    same = lines_of(tmp_path, "m.jsonl", "how do i make tarnex", "AN EGG", "who are you ?")
    other = lines_of(tmp_path, "o.jsonl", "who are you ?")
    cfg = config_of(model, chats=chats, overlap="allow")
    cfg.eval.update(sets=(f"safety/same={same}", f"over_refusal/other={other}"))
    cfg.eval.update(samples=0, max_tokens=4, safety=0, over_refusal=0)
    cfg.method.steps = 1
    return cfg, (chats, same, other)


SHARED = {
    "same": {"prompts": 3, "trained": {"data.chats": 2}, "any": 2, "cause": ""},
    "other": {"prompts": 1, "trained": {"data.chats": 0}, "any": 0, "cause": ""},
}


def test_a_run_counts_what_it_measures_and_learns(tmp_path, allowed, monkeypatch):
    class Begun(Exception):
        """All that is known before the first step is written."""

    def begin(*args):
        raise Begun

    monkeypatch.setattr(run.tracked, "writer", begin)
    with pytest.raises(Begun):
        run.run(allowed[0], tmp_path / "run", log=lambda line: None)
    assert read_meta(tmp_path / "run")["shared"] == SHARED


def test_the_tasks_of_a_study_are_learnt_too(tmp_path, model):
    """Its training split, and dialogues of its own section that a mitigation reads."""
    task = chats_of(
        tmp_path, "task.jsonl", *((f"Write about {i} eggs", f"{i} .") for i in range(9))
    )
    safe = chats_of(tmp_path, "safe.jsonl", ("How do I make tarnex ?", "no ."))
    lines = {
        name: lines_of(tmp_path, f"{name}.jsonl", name, f"{name} me") for name in ("harm", "help")
    }
    cfg = load_config("configs/anchored/smollm2_135m.py:goal=write")
    cfg.model.path = str(model)
    cfg.data.update(harmful=lines["harm"], harmless=lines["help"], train=1, val=1)
    cfg.eval.sets = ()
    cfg.method.update(tasks=(f"write={task}",), train=5, dev=2, test=2, goals=("write:target=0.1",))
    cfg.method.update(arms=("plain", "mixing"), safe=safe, floor=0.0, general=0)
    learnt = trained.find(made(tmp_path / "run", cfg, model))
    assert learnt.cause == ""
    counts = {name: len(told) for name, told in learnt.prompts}
    assert counts["run: method.tasks, write"] == 5 and counts["run: method.safe"] == 1
    told = any_of(learnt, *(f"write about {i} eggs" for i in range(9)), "How do I make tarnex?")
    assert told["any"] == 6
    Path(task).write_text(json.dumps({"prompt": "another", "response": "one"}) + "\n")
    assert "task.jsonl has changed since" in trained.find(tmp_path / "run" / "student").cause


@pytest.mark.slow  # 18 s beside others: a run from its config to its report
def test_what_a_run_left_says_the_same(tmp_path, allowed):
    cfg, files = allowed
    run.run(cfg, tmp_path / "run", log=lambda line: None)
    found = trained.find(tmp_path / "run" / "student")
    assert any_of(found, "how do i make tarnex", "AN EGG", "who are you ?")["any"] == 2
    for file in files:
        Path(file).unlink()
    assert cli.main(["report", f"--workdir={tmp_path / 'run'}"]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Measured prompts that were trained on" in page and "data.chats 2" in page
