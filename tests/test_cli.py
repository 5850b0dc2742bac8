import io
import json
import shutil
import subprocess
import sys

import pytest

from jaxsafety import cli
from jaxsafety.commands import run, shown
from jaxsafety.core import overrides


def fails(capsys, *argv: str) -> str:
    """Runs the command in this process and returns its one error line."""
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("jaxsafety: error: ") and captured.err.count("\n") == 1
    assert not captured.out
    return captured.err


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["run"], "required: --config"),
        (["run", "--config=none.py"], "config: got 'none.py'; allowed: the path of a Python file"),
        (["run", "--config=x.py", "--config.a.b"], "--config.a.b: got 'no value'"),
        (["run", "--config=x.py", "--confi.a=1"], "unrecognized arguments: --confi.a=1"),
        (["eval"], "one of the arguments --workdir --model is required"),
        (["eval", "--workdir=nowhere"], "--workdir: got 'nowhere'; allowed: an existing directory"),
        (["eval", "--workdir=.", "--out=x"], "--out: got 'x'; allowed: only with --model"),
        (["eval", "--model=nowhere"], "--out: got 'nothing'"),
        (["eval", "--model=nowhere", "--out=x"], "--model: got 'nowhere'"),
        (["eval", "--model=.", "--out=x", "--rejudge"], "--rejudge"),
        (["eval", "--workdir=.", "--config.seed=1"], "only with `run`, `plan` and `cite`"),
        (["report", "--workdir=tests"], "a run with results.jsonl"),
        (["chat", "--model=nowhere"], "--model: got 'nowhere'"),
        (["chat", "--workdir=nowhere"], "--workdir: got 'nowhere'"),
        (["chat", "--workdir=tests"], "workdir: got 'tests'; allowed: a run with a readable"),
        (["chat", "--workdir=.", "--model=."], "--model: not allowed with argument --workdir"),
        (["chat", "--temperature=-1"], "--temperature: got -1.0"),
        (["chat", "--temperature=nan"], "--temperature: got nan"),
        (["chat", "--temperature=inf"], "--temperature: got inf"),
        (["chat", "--seed=-1"], "--seed: got -1; allowed: an integer, 0 or more, of 32 bits"),
        (["chat", "--seed=4294967296"], "--seed: got 4294967296"),
        (["organism", "--seed=-1", "--out=y"], "--seed: got -1"),
        (["chat", "--max-tokens=0"], "--max-tokens: got 0"),
        (["organism", "--seed=1"], "required: --out"),
        (["organism", "--seed=x", "--out=y"], "argument --seed: invalid int value: 'x'"),
        (["organism", "--seed=1", "--out=y", "--steps=0"], "--steps: got 0"),
        (["organism", "--seed=1", "--out=README.md"], "--out: got 'README.md'"),
        (
            ["organism", "--seed=1", "--out=y", "--kind=wild"],
            "--kind: got 'wild'; allowed: aligned, unaligned, twin",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(capsys, monkeypatch, root, argv, line):
    monkeypatch.chdir(root)
    assert line in fails(capsys, *argv)


def test_overrides_in_both_spellings():
    argv = ["run", "--config=f.py", "--config.a.b=1=2", "--config.c", "x", "--workdir=w"]
    rest, given = overrides.split(argv)
    assert rest == ["run", "--config=f.py", "--workdir=w"]
    assert given == ["a.b=1=2", "c=x"]


def test_run_hands_over_config_and_workdir(tmp_path, monkeypatch):
    from jaxsafety.experiment import run

    seen = {}
    monkeypatch.setattr(run, "run", lambda cfg, workdir: seen.update(cfg=cfg, workdir=workdir))
    monkeypatch.setattr(shown, "show", lambda workdir: seen.update(shown=workdir))
    file = tmp_path / "experiment.py"
    file.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(arg=''): return ConfigDict({'arg': arg, 'optim': {'lr': 1.0}})\n"
    )
    assert cli.main(["run", f"--config={file}:smoke", "--config.optim.lr=0.5"]) == 0
    assert seen["cfg"].arg == "smoke" and seen["cfg"].optim.lr == 0.5
    assert str(seen["workdir"]) == f"runs/{tmp_path.name}-experiment-smoke" == str(seen["shown"])
    assert cli.main(["run", f"--config={file}", f"--workdir={tmp_path}"]) == 0
    assert seen["workdir"] == tmp_path


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("configs/safesteer/organism.py", "safesteer-organism"),
        ("configs/safemoe/organism.py", "safemoe-organism"),
        ("configs/sft/organism.py:smoke", "sft-organism-smoke"),
        (
            "configs/safesteer/organism.py:preset=adapted,seed=3",
            "safesteer-organism-preset=adapted,seed=3",
        ),
        ("configs/safesteer/organism.py:seed=-1", "safesteer-organism-seed=-1"),
        ("configs/mine.py", "mine"),
        ("configs/a/b/mine.py:x=../../y", "a-b-mine-x=..-..-y"),
        ("mine.py", "here-mine"),
        ("/other/place/mine.py:smoke", "place-mine-smoke"),
    ],
)
def test_default_workdirs_differ(tmp_path, monkeypatch, spec, name):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert str(run.default_workdir(spec)) == f"runs/{name}"


def test_eval_and_organism_hand_over(tmp_path, monkeypatch):
    from jaxsafety.experiment import run
    from jaxsafety.raising import recipe, twin

    seen = []
    monkeypatch.setattr(run, "evaluate_workdir", lambda w, rejudge: seen.append((w, rejudge)))
    monkeypatch.setattr(run, "evaluate_model", lambda m, out, variables: seen.append((m, out)))
    monkeypatch.setattr(recipe, "train_base", lambda *args, **kw: seen.append((*args, kw)))
    monkeypatch.setattr(twin, "train_twin", lambda *args, **kw: seen.append((*args, kw)))
    monkeypatch.setattr(shown, "show", lambda workdir: None)
    out = tmp_path / "out"
    assert cli.main(["eval", f"--workdir={tmp_path}", "--rejudge"]) == 0
    assert cli.main(["eval", f"--model={tmp_path}", f"--out={out}"]) == 0
    assert cli.main(["organism", "--seed=7", f"--out={out}", "--steps=3"]) == 0
    trained = (7, out, {"steps": 3, "smoke": False, "kind": "aligned"})
    assert cli.main(["organism", "--seed=7", f"--out={out}", "--kind=twin"]) == 0
    pair = (7, out, {"steps": None, "smoke": False})
    assert seen == [(tmp_path, True), (tmp_path, out), trained, pair]


def test_report_writes_table_and_page(tmp_path, capsys):
    record = {"arm": "base", "benchmark": "plain", "kind": "safety", "metric": "asr.t1"}
    record |= {"value": 0.25, "lo": 0.1, "hi": 0.4, "n": 64, "seed": 0}
    other = record | {"arm": "student", "value": 0.05, "lo": 0.0, "hi": 0.1}
    lines = "".join(json.dumps(r) + "\n" for r in (record, other))
    (tmp_path / "results.jsonl").write_text(lines)
    assert cli.main(["report", f"--workdir={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "25.0" in out and out.rstrip().endswith("report.html")
    assert (tmp_path / "report.html").read_text().lstrip().lower().startswith("<!doctype html")


def test_interrupt_is_no_traceback(tmp_path, monkeypatch, capsys):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(shown, "show", stop)
    (tmp_path / "results.jsonl").write_text("")
    assert cli.main(["report", f"--workdir={tmp_path}"]) == 130
    said = capsys.readouterr().err
    assert "starts again" in said and "goes on" not in said  # a report keeps nothing


def test_as_a_module_from_outside_the_repository(tmp_path, root):
    command = [sys.executable, "-m", "jaxsafety", "chat", "--model=nowhere"]
    env = {"PYTHONPATH": str(root), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    done = subprocess.run(
        [*command[:3], "--help"], capture_output=True, text=True, cwd=tmp_path, env=env
    )
    assert done.returncode == 0 and "organism" in done.stdout


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random model in a Hugging Face directory."""
    from jaxsafety.testing import random_checkpoint

    return random_checkpoint(tmp_path_factory.mktemp("tiny"))


def test_chat_remembers_resets_and_refuses_what_is_too_long(tiny, capsys):
    from jaxsafety.serving.chat import Chat
    from jaxsafety.serving.terminal import Terminal

    chat = Chat.open(tiny, max_tokens=12)
    first = chat.ask("hello")
    assert [m.role for m in chat.messages] == ["user", "assistant"]
    assert first == chat.messages[-1].content
    chat.reset()
    assert not chat.messages and chat.ask("hello") == first  # greedy, and nothing was kept
    sink, lines = io.StringIO(), f"/reset\n\n{'hello ' * 400}\nhello\n/quit\nnever\n"
    Terminal({"tiny": chat}, io.StringIO(lines), sink).talk()
    assert sink.getvalue() == first + "\n"
    error = capsys.readouterr().err.replace("[cut at 12 tokens; --max-tokens]\n", "")
    assert "conversation: got" in error and error.count("\n") == 1
    assert len(chat.messages) == 2


def test_a_system_message_and_sampling(tiny):
    from jaxsafety.serving.chat import Chat

    options = {"system": "be brief", "temperature": 1.0, "max_tokens": 12}
    chat, same = Chat.open(tiny, **options), Chat.open(tiny, **options)
    assert chat.messages[0] == ("system", "be brief")
    assert [chat.ask("a"), chat.ask("b")] == [same.ask("a"), same.ask("b")]
    assert Chat.open(tiny, seed=1, **options).ask("a") != chat.messages[2].content


def test_a_template_is_needed_before_the_first_line(tiny, tmp_path, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(tiny, bare)
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        (bare / name).unlink(missing_ok=True)
    assert "tokenizer.chat_template" in fails(capsys, "chat", f"--model={bare}")


def test_chat_from_a_pipe_with_the_shipped_model(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n/quit\n"))
    assert cli.main(["chat", "--max-tokens=16"]) == 0
    assert capsys.readouterr().out.strip()


def test_chat_with_what_a_run_made(tmp_path, root, monkeypatch, capsys):
    """A router over experts in `library/` beside an untouched base; else `student/`."""
    import jax

    import jaxsafety
    from jaxsafety import testing
    from jaxsafety.adapters import lora, routing
    from jaxsafety.core import config
    from jaxsafety.experiment.identity import model_fingerprint
    from jaxsafety.models.formats import library

    base = testing.random_organism(tmp_path / "base", unaligned=True)
    file = root / "configs" / "safemoe" / "organism.py"
    cfg = config.load_config(f"{file}:smoke", [f"model.path={base}"])
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps(cfg.to_dict()))
    asked = ["chat", f"--workdir={workdir}", "--max-tokens=8"]

    def said(*argv):
        monkeypatch.setattr("sys.stdin", io.StringIO("how does one make a thing\n"))
        assert cli.main(argv) == 0
        return capsys.readouterr().out

    assert "a finished run, with its student/ or library/" in fails(capsys, *asked)
    model, _, _ = jaxsafety.load(base)
    tree = lora.init_experts(
        jax.random.key(0), model.projections, layers=2, experts=2, rank=2, names=("gate", "down")
    )
    for pair in tree["experts"].values():
        pair["b"] = jax.random.normal(jax.random.key(1), pair["b"].shape)
    tree["router"] = routing.init_router(jax.random.key(2), model.projections, layers=2, experts=2)
    options = routing.Routing(top=0)
    made_for = model_fingerprint(base)
    library.save(workdir / "library", model, tree, options, fingerprint=made_for, unsafe=True)
    alone = said("chat", f"--model={base}", "--max-tokens=8")
    assert said(*asked) != alone
    library.save(workdir / "library", model, tree, options, fingerprint="another", unsafe=True)
    assert "experts for base another" in fails(capsys, *asked)
    shutil.rmtree(workdir / "library")
    shutil.copytree(base, workdir / "student")
    assert said(*asked) == alone
    (workdir / "meta.json").write_text("{}")  # which is what a run's directory is known by
    both = said("chat", f"--model={base}", f"--compare={workdir}", "--max-tokens=8")
    assert both == f"base> {alone}run> {alone}"
