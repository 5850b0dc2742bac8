"""What makes two runs the same experiment: settings and the content of each file they read."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict

from jaxsafety.core import config as configs
from jaxsafety.core import disk
from jaxsafety.core.config import load_config
from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import identity
from tests.experiment.claimed import config, weights


@pytest.fixture
def model(tmp_path):
    return weights(tmp_path)


def test_the_fingerprint_is_of_settings_and_weights(model, tmp_path):
    mine = identity.experiment_fingerprint(config(), model)
    assert mine == identity.experiment_fingerprint(config(), model)
    assert mine == identity.experiment_fingerprint(config(train__progress=False), model)
    assert mine == identity.experiment_fingerprint(config(model__path="elsewhere"), model)
    assert mine != identity.experiment_fingerprint(config(seed=1), model)
    assert mine == identity.experiment_fingerprint(config(train__keep=3), model)
    assert mine != identity.experiment_fingerprint(config(train__max_skips=3), model)
    (model / "model.safetensors").write_bytes(b"weighty")
    assert mine != identity.experiment_fingerprint(config(), model)
    with pytest.raises(UsageError, match="model.path.*safetensors"):
        identity.experiment_fingerprint(config(), tmp_path)


def test_the_fingerprint_is_of_what_the_files_hold(model, tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("a\n")
    two.write_text("b\n")
    data = {"harmful": str(one), "harmless": "", "distil": ""}
    three, twin = tmp_path / "three.txt", tmp_path / "twin"
    three.write_text("c\n")
    twin.mkdir()
    (twin / "model.safetensors").write_text("d\n")
    method = {"tasks": (f"mine={three}",), "unaligned": str(twin), "arms": (str(one),)}
    cfg = config(data=data, eval={"sets": (f"safety/mine={two}",)}, method=method)
    mine = identity.experiment_fingerprint(cfg, model)
    assert mine == identity.experiment_fingerprint(cfg, model)
    read = (one, two, three, twin / "model.safetensors")
    for path in (*read, model / "world.json", model / "tokenizer.json"):
        path.write_text("changed\n")
        changed = identity.experiment_fingerprint(cfg, model)
        assert changed != mine, path
        mine = changed


def test_files_that_sections_of_a_method_name_count(model, tmp_path):
    """Lessons of attackers, dialogues of a reset, judges' weights; a judge's name is no file."""
    names = ("expand", "hide", "reset", "votes", "first", "second")
    paths = {name: tmp_path / f"{name}.json" for name in names}
    for path in paths.values():
        path.write_text("a\n")
    method = {
        "attack": {"expand": str(paths["expand"]), "hide": str(paths["hide"])},
        "reset": {"path": str(paths["reset"])},
        "scores": {
            "safety": f"weak={paths['votes']}",
            "helpful": f"outcomes=weak=combined={paths['first']}+classifier={paths['second']}",
        },
    }
    cfg = config(method=method)
    mine = identity.experiment_fingerprint(cfg, model)
    for path in paths.values():
        path.write_text("changed\n")
        changed = identity.experiment_fingerprint(cfg, model)
        assert changed != mine, path
        mine = changed


def counted(monkeypatch):
    """Counts how often files are read whole."""
    real, seen = disk.hashlib.file_digest, []

    def digest(stream, kind):
        seen.append(stream.name)
        return real(stream, kind)

    monkeypatch.setattr(disk.hashlib, "file_digest", digest)
    return seen


def test_weights_are_read_once_per_start(model, monkeypatch):
    (model / "config.json").write_text("{}")
    seen = counted(monkeypatch)
    first = identity.experiment_fingerprint(config(), model)
    base = identity.model_fingerprint(model)
    assert identity.experiment_fingerprint(config(seed=1), model) != first
    assert identity.model_fingerprint(model) == base
    assert sorted(seen) == sorted(str(f.resolve()) for f in model.iterdir())


def test_a_file_that_changed_is_read_again(model):
    """Also when its size and the second of its change are the same."""
    import os

    (model / "config.json").write_text("{}")
    file = model / "model.safetensors"
    before = identity.model_fingerprint(model)
    now = file.stat()
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(now.st_atime_ns, now.st_mtime_ns + 1))
    changed = identity.model_fingerprint(model)
    assert changed != before
    other = model / "other"
    other.write_bytes(b"weights")
    os.utime(other, ns=(now.st_atime_ns, now.st_mtime_ns + 1))
    other.replace(file)  # the same size and time, another inode
    assert identity.model_fingerprint(model) == before


def test_names_are_no_files_and_later_settings_no_other_run(tmp_path, monkeypatch):
    """A file called `rules` in the current directory is not what `eval.judge` names."""
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "a.safetensors").write_bytes(b"1")
    old = {"data": {"source": "files", "harmful": "h.txt"}, "eval": {"safety": 2}}
    (tmp_path / "h.txt").write_text("one")
    new = {
        "data": {**old["data"], "domains": ()},
        "eval": {**old["eval"], "benchmarks": (), "judge": ""},
    }
    before = identity.experiment_fingerprint(ConfigDict(old), model)
    assert identity.experiment_fingerprint(ConfigDict(new), model) == before
    named = {
        "data": {**old["data"], "domains": ("tea=tea.txt",)},
        "eval": {**old["eval"], "judge": "rules", "benchmarks": ("mine",)},
    }
    (tmp_path / "tea.txt").write_text("a")
    then = identity.experiment_fingerprint(ConfigDict(named), model)
    assert then != before
    for name in ("files", "rules", "mine", "tea"):
        (tmp_path / name).write_text("not asked for")
    assert identity.experiment_fingerprint(ConfigDict(named), model) == then
    (tmp_path / "tea.txt").write_text("b")
    assert identity.experiment_fingerprint(ConfigDict(named), model) != then


@pytest.mark.parametrize("where", ["{0}", "{0}[:100]", "{0}:answer"])
@pytest.mark.parametrize(
    "setting", ["eval.judge=classifier={}", "eval.judge=combined=classifier={}+rules", "scores"]
)
def test_what_a_judge_is_made_of_is_part_of_the_experiment(tmp_path, setting, where):
    """Also a file of which a slice or a column is named, and a run of before goes on."""
    model, file = tmp_path / "model", tmp_path / "labels.jsonl"
    model.mkdir()
    (model / "a.safetensors").write_bytes(b"1")
    place = where.format(file)
    if setting == "scores":
        cfg = ConfigDict({"method": {"scores": {"safety": f"classifier={place}"}}})
    else:
        cfg = ConfigDict({"eval": {"judge": setting.partition("=")[2].format(place)}})
    file.write_text("one")
    mine, older = identity.experiment_fingerprint(cfg, model), identity.before(cfg, model)
    file.write_text("two")
    other = identity.experiment_fingerprint(cfg, model)
    assert mine != other
    assert mine not in identity.before(cfg, model)
    if setting != "scores" or where != "{0}":  # in these it did not count
        assert older & identity.before(cfg, model)


def test_a_judge_of_a_directory_counts_too(tmp_path):
    model, judge = tmp_path / "model", tmp_path / "judge"
    for place in (model, judge):
        place.mkdir()
        (place / "a.safetensors").write_bytes(b"1")
    cfg = ConfigDict({"method": {"judges": (f"classifier={judge}", "rules")}})
    mine = identity.experiment_fingerprint(cfg, model)
    assert "method.judges: a.safetensors" in identity.file_digests(cfg, model)
    (judge / "a.safetensors").write_bytes(b"2")
    assert identity.experiment_fingerprint(cfg, model) != mine


def test_a_run_of_before_a_teacher_could_be_chosen_goes_on(tmp_path):
    """The defaults of later settings of SafeSteer, also as a study's base, are what was before."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "a.safetensors").write_bytes(b"1")
    old = {"variant": "full", "tokens": {"kind": "votes"}}
    new = {**old, "tokens": {"kind": "votes", "revote": 0}, "teacher": "steered", "context": ""}

    def mark(method):
        return identity.experiment_fingerprint(ConfigDict({"method": method}), model)

    for wrap in (lambda x: x, lambda x: {"base": x}):
        assert mark(wrap(new)) == mark(wrap(old))
        for changed in ({"teacher": "context"}, {"context": "x"}, {"tokens": {"revote": 5}}):
            assert mark(wrap({**new, **changed})) != mark(wrap(old))


@pytest.mark.parametrize(
    ("spec", "section"), [("safesteer/organism.py", ""), ("safesteer/controls.py", "base.")]
)
def test_settings_of_the_publication_change_no_run_of_before(root, spec, section):
    """Each stands under its name in the config, at the value that counts as none."""
    cfg = load_config(str(root / "configs" / spec))
    names = [f"method.{section}{n}" for n in ("direction.opener_ids", "direction.system")]
    names += [f"method.{section}max_prompt", "optim.warmup_rule", "model.template"]
    plain = configs.plain(cfg)
    given = dict(identity.flat(plain))
    assert {name: given[name] for name in names} == {name: identity.LATER[name] for name in names}
    whole = identity._identify(cfg, {})
    for name in names:
        *path, last = name.split(".")
        place = plain
        for key in path:
            place = place[key]
        del place[last]
    assert identity._identify(ConfigDict(plain), {}) == whole
    cfg.optim.warmup_rule = "transformers"
    assert identity._identify(cfg, {}) != whole
