"""`--template=raw` of chat, serve and eval: a base model without a template, by itself."""

from __future__ import annotations

import io
import json

import pytest

from jaxsafety import cli
from jaxsafety.core import disk
from jaxsafety.core.settings import SampleConfig
from jaxsafety.data.items import Item
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.models.formats import hf, load
from jaxsafety.sampling.ask import ask
from jaxsafety.serving import serve as server
from jaxsafety.testing import tiny_model

RAW = "--template=raw"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base")
    tokenizer = ByteTokenizer(chat_template=None)
    hf.save(path, *tiny_model("mistral"), dtype="float32", tokenizer=tokenizer)
    return path


@pytest.fixture
def asked(tmp_path):
    file = tmp_path / "asked.txt"
    file.write_text("Why?\nIs it late?\n")
    return f"--data=safety/asked={file}"


def test_eval_asks_texts_as_they_are(base, asked, tmp_path, capsys):
    argv = ["eval", f"--model={base}", asked, f"--out={tmp_path / 'out'}", "--max-tokens=5"]
    assert cli.main(argv) == 2
    line = capsys.readouterr().err
    assert "without a chat template'; allowed: a chat model, or --template=raw" in line
    assert line.count("\n") == 1 and not (tmp_path / "out").exists()
    assert cli.main([*argv, RAW]) == 0, capsys.readouterr().err
    said = disk.read_lines(tmp_path / "out" / "generations" / "model" / "asked.greedy.jsonl")
    model, params, tokenizer = load.load(base, template="raw")
    assert encode_prompt(tokenizer, [Message("user", "Why?")]) == tokenizer.encode("Why?\n")
    items = [Item(x["id"], (Message("user", x["messages"][-1]["content"]),), {}) for x in said]
    config = SampleConfig(5, 0.0, stop=tuple(tokenizer.eos_ids))
    alone = ask(model, params, tokenizer, items, config, seed=0)
    assert [x["response"] for x in said] == [x.response for x in alone]


def test_another_template_is_another_model(base, asked, tmp_path, capsys):
    """A chat model asked raw, into the directory of its chat answers: refused, nothing is mixed."""
    out = tmp_path / "out"
    argv = ["eval", asked, f"--out={out}", "--max-tokens=3", "--limit=1"]
    assert cli.main([*argv, f"--model={base}", RAW]) == 0
    kept = (out / "eval.json").read_bytes()
    facts = json.loads(kept)
    assert "raw" not in facts.get("variables", "")
    other = tmp_path / "chat"
    hf.save(other, *tiny_model("mistral"), dtype="float32", tokenizer=ByteTokenizer())
    capsys.readouterr()
    assert cli.main([*argv, f"--model={other}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and (out / "eval.json").read_bytes() == kept


def test_chat_answers_raw_texts(base, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Why?\n"))
    assert cli.main(["chat", f"--model={base}", "--max-tokens=4"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "--template=raw" in line
    monkeypatch.setattr("sys.stdin", io.StringIO("Why?\n"))
    assert cli.main(["chat", f"--model={base}", "--max-tokens=4", RAW]) == 0
    capsys.readouterr()


def test_serve_gets_the_form_of_every_model(base, monkeypatch):
    seen = []
    monkeypatch.setattr(server, "serve", lambda places, **_: seen.extend(places))
    assert cli.main(["serve", f"--model={base}", f"--compare={base}", RAW]) == 0
    assert [place.options["template"] for place in seen] == ["raw", "raw"]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["chat", "--template=alpaca"], "--template: got 'alpaca'; allowed: raw"),
        (["serve", "--template=alpaca"], "--template: got 'alpaca'; allowed: raw"),
        (["chat", RAW], "--template: got 'raw'; allowed: a model that is no organism"),
        (["serve", RAW], "--template: got 'raw'; allowed: a model that is no organism"),
        (["chat", "--model=nobody/none-such", "--template=x"], "--template: got 'x'"),
        (["eval", "--model=nobody/none-such", "--out=x", "--template=x"], "--template: got 'x'"),
        (["eval", "--workdir=.", RAW], "--template: got 'raw'; allowed: only with --model"),
        (["eval", "--rejudge", "--out=.", RAW], "--template: got 'raw'; allowed: not with --rej"),
        (["eval", "--model=x", "--out=y", RAW], "--template: got 'raw'; allowed: with --suite"),
        (
            ["eval", "--model=x", "--out=y", "--suite=safety", "--template=odd"],
            "--template: got 'odd'; allowed: raw",
        ),
    ],
)
def test_what_has_no_such_template_is_one_line(argv, line, capsys):
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"jaxsafety: error: {line}") and error.count("\n") == 1
