"""Splits, slices and data sets of the hub wherever a file is taken, and whose run it then is."""

import json

import pytest

from jaxsafety import cli, testing
from jaxsafety.core.config import load_config
from jaxsafety.core.errors import UsageError
from jaxsafety.data.files import located
from jaxsafety.experiment import identity, reading, setting, trained
from jaxsafety.experiment import workdir as wd
from jaxsafety.experiment.setting import DataConfig, EvalConfig
from tests.data.fake_hub import NAME, hub, rows, write

__all__ = ["hub"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def config(model, **data):
    cfg = load_config("configs/sft/organism.py:smoke")
    cfg.model.path = str(model)
    cfg.data.update(source="files", **data)
    return cfg


def put(hub, first=0):
    return hub.put({"train.jsonl": rows(first, first + 20), "test.jsonl": rows(90, 96)})


def refused(run, cfg, model):
    with pytest.raises(UsageError) as caught:
        wd.claim(run, cfg, identity.experiment_fingerprint(cfg, model), model)
    return str(caught.value)


def test_a_resumed_run_refuses_another_slice_and_another_commit(hub, model, tmp_path):
    put(hub)
    cfg = config(model, chats=f"{NAME}:train[:8]")
    run = tmp_path / "run"
    wd.claim(run, cfg, identity.experiment_fingerprint(cfg, model), model)
    assert "data.chats: train.jsonl" in wd.read_meta(run)["files"]
    wd.claim(run, cfg, identity.experiment_fingerprint(cfg, model), model)
    other = config(model, chats=f"{NAME}:train[:9]")
    assert "data.chats was 'owner/name:train[:8]', is 'owner/name:train[:9]'" in refused(
        run, other, model
    )
    put(hub, first=40)
    assert "what these files hold has changed: data.chats: train.jsonl" in refused(run, cfg, model)
    put(hub)
    wd.claim(run, cfg, identity.experiment_fingerprint(cfg, model), model)


def test_a_directory_counts_by_the_files_of_its_split(model, tmp_path):
    write(tmp_path / "set" / "data" / "train.jsonl", rows(0, 9))
    write(tmp_path / "set" / "data" / "test.jsonl", rows(20, 29))
    cfg = config(model, chats=f"{tmp_path / 'set'}:train")
    run = tmp_path / "run"
    wd.claim(run, cfg, identity.experiment_fingerprint(cfg, model), model)
    write(tmp_path / "set" / "data" / "test.jsonl", rows(20, 28))
    wd.claim(run, cfg, identity.experiment_fingerprint(cfg, model), model)
    write(tmp_path / "set" / "data" / "train.jsonl", rows(0, 8))
    assert "has changed: data.chats: train.jsonl" in refused(run, cfg, model)


def test_a_part_that_looks_like_a_hub_id_is_not_asked_for(hub, model, tmp_path):
    (tmp_path / "lr=a").mkdir()
    write(tmp_path / "lr=a" / "b", "x")
    named = identity._named({"data": {"chats": "x=o/n", "mix": ["o/n=2"], "domains": ["d=o/m"]}})
    rows_of = [(field, text) for field, text, whole in named if whole]
    assert rows_of == [("data.chats", "x=o/n"), ("data.mix", "o/n"), ("data.domains", "o/m")]
    named = identity._named({"method": {"unaligned": "o/n", "tasks": ["t=o/m"], "safe": "o/s"}})
    rows_of = [(field, text) for field, text, whole in named if whole]
    assert rows_of == [("method.tasks", "o/m"), ("method.safe", "o/s")]


def test_every_setting_takes_them_and_what_is_used_is_recorded(hub, tmp_path):
    commit = put(hub)
    write(tmp_path / "plain.jsonl", rows(50, 54))
    data = DataConfig(
        source="files",
        harmful=f"{NAME}:train[:6]",
        harmless=f"{NAME}:train[6:12]",
        distil=f"{NAME}:train[12:15]:prompt",
        mix=(f"{NAME}:train[15:18]=0.5", f"{NAME}:train[-2:]=0.5"),
        domains=(f"one={tmp_path / 'plain.jsonl'}[:2]", f"two={tmp_path / 'plain.jsonl'}[2:]"),
        train=4,
        val=2,
        prompts=3,
        overlap="allow",
    )
    measure = EvalConfig(safety=2, sets=(f"safety/own={NAME}:test[:50%]",))
    reads = ("harmful", "harmless", "distil", "chats", "mix", "domains")
    made = setting.make(tmp_path, data, measure, 0, reads=(*reads, "train", "val", "prompts"))
    assert [len(made.prompts[n]) for n in ("harmful_train", "harmful_val", "distil")] == [4, 2, 3]
    told = reading.facts(made, data)
    assert {(row["setting"], row["place"].rpartition("/")[2]): row["rows"] for row in told} == {
        ("data.harmful", "name:train[:6]"): 6,
        ("data.harmless", "name:train[6:12]"): 6,
        ("data.distil", "name:train[12:15]:prompt"): 3,
        ("data.mix", "name:train[15:18]"): 3,
        ("data.mix", "name:train[-2:]"): 2,
        ("data.domains", "plain.jsonl[:2]"): 2,
        ("data.domains", "plain.jsonl[2:]"): 2,
        ("eval.sets own", "name:test[:50%]"): 2,
    }
    assert len(told) == 8 and told[0]["commit"] == commit and told[0]["files"] == ["train.jsonl"]
    assert setting.facts(made, data)["read"] == told
    lines = setting.lines(made, data)
    assert f"data.mix: 3 rows of {NAME}:train[15:18] (train.jsonl, commit {commit[:12]})" in lines
    assert f"data.domains: 2 rows of {tmp_path / 'plain.jsonl'}[2:] (plain.jsonl)" in lines


def test_pairs_and_held_out_dialogues(hub, tmp_path):
    pairs = [{"prompt": f"q {i}", "chosen": "yes", "rejected": "no"} for i in range(6)]
    hub.put({"data/train_prefs-00000-of-00001.parquet": pairs, "data/train.jsonl": rows(0, 4)})
    data = DataConfig(source="files", pairs=f"{NAME}:train_prefs[1:5]", holdout=0.5)
    made = setting.make(tmp_path, data, EvalConfig(), 0, reads=("pairs",), later=True)
    assert [(row["rows"], row["setting"]) for row in reading.facts(made, data)] == [
        (4, "data.pairs")
    ]
    data = DataConfig(source="files", chats=f"{NAME}@main/data/train.jsonl[:3]", holdout=1)
    made = setting.make(tmp_path, data, EvalConfig(), 0, reads=("chats",), later=True)
    assert [row["rows"] for row in reading.facts(made, data)] == [3]


def test_files_that_are_whole_are_no_lines(tmp_path):
    write(tmp_path / "plain.jsonl", rows(0, 4))
    data = DataConfig(source="files", chats=str(tmp_path / "plain.jsonl"))
    made = setting.make(tmp_path, data, EvalConfig(), 0, reads=("chats",), later=True)
    assert not reading.lines(reading.facts(made, data))


def test_the_same_slice_stands_once_in_a_mixture(tmp_path, monkeypatch):
    write(tmp_path / "a.jsonl", rows(0, 4))
    monkeypatch.chdir(tmp_path)
    mix = ("a.jsonl[:2]=1", f"{tmp_path / 'a.jsonl'}[:2]=1")
    data = DataConfig(source="files", mix=mix)
    with pytest.raises(UsageError, match="each file once"):
        setting.make(tmp_path, data, EvalConfig(), 0, reads=("chats", "mix"), later=True)


@pytest.mark.parametrize(
    ("chats", "words"),
    [
        ("gone.jsonl", "data.chats: got 'gone.jsonl'; allowed: an existing file or directory"),
        ("owner/gone", "data.chats: got 'owner/gone'; allowed: a directory here, or a data set"),
        ("owner/name", "data.chats: got 'owner/name'; allowed: one split of train, test"),
        ("owner/name:train[1]", "data.chats: got 'owner/name:train[1]'; allowed: a slice such as"),
        ("owner/name:train[:3]:no", "row 1 of owner/name:train[:3]:no'; allowed: a column of pr"),
    ],
)
def test_a_run_says_what_is_wrong_before_it_begins(hub, model, tmp_path, capsys, chats, words):
    put(hub)
    run = ["run", "--config=configs/sft/organism.py:smoke", f"--workdir={tmp_path / 'run'}"]
    more = [f"--config.model.path={model}", f"--config.data.chats={chats}"]
    assert cli.main([*run, *more, "--config.data.source=files"]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and not (tmp_path / "run").exists()


def test_what_was_missing_besides_is_told_with_it(tmp_path):
    data = DataConfig(source="files", chats="owner/name:train", harmful="gone.jsonl")
    with pytest.raises(UsageError, match=r"data.distil, data.harmful: got \('', 'gone.jsonl'\)"):
        setting.make(
            tmp_path, data, EvalConfig(sets=("safety/a=o/n",)), 0, reads=("harmful", "distil")
        )


def test_eval_measures_a_split_of_the_hub(hub, model, tmp_path, capsys):
    commit = put(hub)
    out = tmp_path / "out"
    sets = [f"--data=capability/own={NAME}:test[:2]", f"--data=safety/bare={NAME}:test[2:]:prompt"]
    command = ["eval", f"--model={model}", f"--out={out}", "--max-tokens=4", "--judges=rules"]
    assert cli.main([*command, *sets]) == 0, capsys.readouterr()
    facts = json.loads((out / "eval.json").read_text())["sets"]
    assert facts["own"]["file"] == f"{NAME}:test[:2]" and facts["own"]["commit"] == commit
    assert (facts["own"]["rows"], facts["bare"]["rows"]) == (2, 4)
    assert facts["own"]["sha256"] == located.locate(f"{NAME}:test[:2]").sha256
    hub.put({"test.jsonl": rows(60, 63), "train.jsonl": rows(0, 1)})
    assert cli.main([*command, sets[0]]) == 2
    assert "set own: sha256 was" in capsys.readouterr().err


def test_a_public_set_of_the_hub(hub, model, tmp_path, capsys):
    lines = [{"question": "2 + 2?", "answer": "4\n#### 4"}, {"question": "1?", "answer": "#### 1"}]
    hub.put({"main/test-00000-of-00001.parquet": lines, "socratic/test.jsonl": lines})
    out = tmp_path / "out"
    command = ["eval", f"--model={model}", f"--out={out}", "--max-tokens=4", "--judges=rules"]
    assert cli.main([*command, f"--data=gsm8k={NAME}/main:test"]) == 0, capsys.readouterr()
    facts = json.loads((out / "eval.json").read_text())["sets"]["gsm8k"]
    assert (facts["rows"], facts["layout"], facts["version"]) == (2, "GSM8K layout", None)


def test_what_a_run_of_the_hub_was_trained_on_is_found_again(hub, model, tmp_path):
    put(hub)
    cfg = config(model, chats=f"{NAME}:train[:8]")
    wd.claim(tmp_path / "run", cfg, identity.experiment_fingerprint(cfg, model), model)
    (tmp_path / "run" / "student").mkdir()
    learnt = trained.find(tmp_path / "run" / "student")
    assert [(name, len(told)) for name, told in learnt.prompts] == [("run: data.chats", 8)]
    put(hub, first=7)
    assert "data.chats: train.jsonl has changed" in trained.find(tmp_path / "run" / "student").cause
