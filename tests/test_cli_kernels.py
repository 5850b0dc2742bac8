"""`--kernels=int8` of chat, serve and eval: a model by itself, in a quarter of the memory."""

from __future__ import annotations

import io
import json

import pytest

from jaxsafety import cli
from jaxsafety.core import disk
from jaxsafety.core.settings import SampleConfig
from jaxsafety.data.items import Item
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.models.formats import hf, load
from jaxsafety.sampling.ask import ask
from jaxsafety.serving import chat as chatting
from jaxsafety.serving import serve as server
from jaxsafety.testing import tiny_model

INT8 = "--kernels=int8"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base")
    hf.save(path, *tiny_model("llama"), dtype="float32", tokenizer=ByteTokenizer())
    return path


def test_eval_answers_and_scores_in_int8(base, tmp_path, capsys):
    """As what is loaded in int8 does; its directory takes no float answers of the same arm."""
    asked = tmp_path / "asked.txt"
    asked.write_text("Why?\nIs it late?\n")
    quiz = tmp_path / "quiz.jsonl"
    row = {"question": "Which?", "choices": ["this", "that"], "answer": 0}
    quiz.write_text(json.dumps(row) + "\n")
    out = tmp_path / "out"
    argv = ["eval", f"--model={base}", f"--data=safety/asked={asked}", f"--out={out}"]
    argv += [f"--data=capability/quiz={quiz}", "--max-tokens=40"]
    assert cli.main([*argv, INT8]) == 0, capsys.readouterr().err
    facts = disk.read_json(out / "eval.json")["arms"]["model"]
    assert facts["kernels"] == "int8"
    said = disk.read_lines(out / "generations" / "model" / "asked.greedy.jsonl")
    config = SampleConfig(40, 0.0, stop=tuple(ByteTokenizer().eos_ids))
    items = [Item(x["id"], (Message("user", x["messages"][-1]["content"]),), {}) for x in said]
    answers = {}
    for dtype in ("int8", "float32"):
        model, params, tokenizer = load.load(base, param_dtype=dtype)
        alone = ask(model, params, tokenizer, items, config, seed=0)
        answers[dtype] = [x.response for x in alone]
    assert [x["response"] for x in said] == answers["int8"] != answers["float32"]
    kept = (out / "eval.json").read_bytes()
    assert cli.main(argv) == 2
    line = capsys.readouterr().err
    assert "kernels was int8, is nothing" in line and line.count("\n") == 1
    assert (out / "eval.json").read_bytes() == kept
    assert cli.main([*argv, "--arm=float"]) == 0, capsys.readouterr().err
    assert "kernels" not in disk.read_json(out / "eval.json")["arms"]["float"]


def test_chat_and_serve_read_every_model_so(base, monkeypatch, capsys):
    read, load_as_it_is = [], chatting.served.load

    def load_and_tell(path, **options):
        found = load_as_it_is(path, **options)
        read.append(found.model.config.kernels)
        return found

    monkeypatch.setattr(chatting.served, "load", load_and_tell)
    monkeypatch.setattr("sys.stdin", io.StringIO("Why?\n"))
    argv = ["chat", f"--model={base}", f"--compare={base}", "--max-tokens=3"]
    assert cli.main([*argv, INT8]) == 0, capsys.readouterr().err
    assert read == ["int8", "int8"]
    seen = []
    monkeypatch.setattr(server, "serve", lambda places, **_: seen.extend(places))
    assert cli.main(["serve", f"--model={base}", f"--compare={base}", INT8]) == 0
    assert cli.main(["serve", f"--model={base}"]) == 0
    assert [place.options["kernels"] for place in seen] == ["int8", "int8", "float"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["chat", "--kernels=int4"], "--kernels: got 'int4'; allowed: float, int8"),
        (["serve", "--model=nobody/none-such", "--kernels=x"], "--kernels: got 'x'; allowed: fl"),
        (["eval", "--model=x", "--out=y", "--kernels=x"], "--kernels: got 'x'; allowed: float"),
        (["eval", "--workdir=.", INT8], "--kernels: got 'int8'; allowed: only with --model"),
        (["eval", "--rejudge", "--out=.", INT8], "--kernels: got 'int8'; allowed: not with --rej"),
        (["eval", "--model=x", "--out=y", INT8], "--kernels: got 'int8'; allowed: with --suite"),
    ],
)
def test_what_has_no_such_kernels_is_one_line(argv, line, capsys):
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"jaxsafety: error: {line}") and error.count("\n") == 1
