"""SafeMoE's published presets on a base directory without a template: raw prompts, to the end."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsafety import cli
from jaxsafety.core import disk
from jaxsafety.data.schema import Example, Message
from jaxsafety.data.tokens.encode import encode_example, encode_prompt
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.experiment import served
from jaxsafety.methods.safemoe import data as safemoe_data
from jaxsafety.methods.safemoe.config import SafeMoEConfig
from jaxsafety.models.formats import hf, load
from jaxsafety.protocols import Context, SampleConfig, Setting
from jaxsafety.sampling import many
from jaxsafety.serving import opening
from jaxsafety.testing import tiny_model
from tests.experiment.files import chats_of, lines_of

SMALL = {"method.length": 32, "optim.lr": 1e-2, "mesh.fsdp": 1, "train.progress": False}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base model as Mistral-7B-v0.1 comes: no chat template, an end of sequence."""
    path = tmp_path_factory.mktemp("base")
    tokenizer = ByteTokenizer(chat_template=None)
    hf.save(path, *tiny_model("mistral"), dtype="float32", tokenizer=tokenizer)
    assert not (path / "chat_template.jinja").exists()
    return path


def run(root, config, base, workdir, **settings):
    """The exit code of `jaxsafety run`."""
    given = {"model.path": base, "model.dtype": "float32", "model.remat": "none", **SMALL}
    argv = ["run", f"--config={root / 'configs' / 'safemoe' / config}", f"--workdir={workdir}"]
    return cli.main([*argv, *(f"--config.{k}={v}" for k, v in {**given, **settings}.items())])


def test_an_expert_learns_the_answer_and_its_end_alone(root, base, tmp_path, capsys):
    chats = chats_of(tmp_path, "chats.jsonl", ("Why?", "So."), ("How?", "Thus."))
    asked = lines_of(tmp_path, "asked.jsonl", "Why?", "How?")
    settings = {
        **{"data.chats": chats, "eval.sets": f"safety/direct={asked}", "eval.samples": 0},
        **{"method.steps": 80, "method.rows": 2, "method.rank": 8, "method.alpha": 16.0},
        **{"method.unsafe": False, "eval.max_tokens": 12, "data.overlap": "allow"},
    }
    refused = tmp_path / "refused"
    assert run(root, "mistral_7b.py", base, refused, **settings, **{"model.template": ""}) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "model.template=raw" in line and not refused.exists()

    workdir = tmp_path / "run"
    assert run(root, "mistral_7b.py", base, workdir, **settings) == 0, capsys.readouterr().err
    said = disk.read_lines(workdir / "generations" / "student" / "direct.greedy.jsonl")
    assert [line["response"] for line in said] == ["So.", "Thus."]
    assert all(line["finished"] for line in said)

    exported = tmp_path / "exported"  # where anyone loads it, the template goes along
    assert cli.main(["export", f"--workdir={workdir}", f"--out={exported}"]) == 0
    there = load.read_tokenizer(exported)
    raw = load.read_tokenizer(base, template="raw")
    ask = [Message("user", "Why?")]
    assert encode_prompt(there, ask) == encode_prompt(raw, ask) == raw.encode("Why?\n")


def test_experts_and_router_of_files_train_on_raw_prompts(root, base, tmp_path, capsys):
    domains = [
        f"{name}={chats_of(tmp_path, f'{name}.jsonl', (f'{name}?', f'{name} it is.'))}"
        for name in ("tea", "moss")
    ]
    chats = chats_of(tmp_path, "safe.jsonl", ("is it?", "let it be."))
    asked = lines_of(tmp_path, "asked.jsonl", "is it late?")
    settings = {
        **{"data.chats": chats, "data.domains": ",".join(domains), "mesh.tensor": 1},
        **{"eval.sets": f"safety/direct={asked}", "eval.samples": 0, "eval.max_tokens": 4},
        **{f"method.experts.{k}": v for k, v in {"count": 2, "rank": 2, "steps": 2}.items()},
        **{"method.experts.rows": 1, "method.experts.length": 32, "method.steps": 2},
    }
    workdir = tmp_path / "run"
    assert run(root, "mistral_7b_router.py", base, workdir, **settings) == 0, capsys.readouterr()
    log = capsys.readouterr().out
    assert "not as published: method.experts.count = 2, published 4 or 10 or 18" in log
    assert "model.template" not in log  # it is the published one
    (said,) = disk.read_lines(workdir / "generations" / "student" / "direct.greedy.jsonl")
    page = (workdir / "report.html").read_text()
    assert "Differences from the publication" in page and "4 or 10 or 18" in page

    place = opening.finished(workdir, {})  # as chat and serve open it
    options = {k: v for k, v in place.options.items() if k != "mesh"}
    loaded = served.load(place.path, **options)
    prompt = loaded.what.encode(loaded.tokenizer, [Message("user", "is it late?")])
    assert prompt == loaded.tokenizer.encode("is it late?\n")
    cfg = SampleConfig(4, 0.0, stop=loaded.tokenizer.eos_ids)
    [[again]] = many.generate(
        *(loaded.model, loaded.what.params, loaded.tokenizer, [prompt], cfg),
        seed=0,
        layers=loaded.what.layers,
    )
    assert loaded.tokenizer.decode(again.ids) == said["response"]

    ids, mask = encode_example(loaded.tokenizer, dialogue("is it?", "let it be."))
    learnt = [token for token, on in zip(ids, mask, strict=True) if on]
    assert loaded.tokenizer.decode(learnt, False) == "let it be.<|end|>"
    batch = router_batch(loaded.tokenizer, dialogue("is it?", "let it be."))
    row = np.flatnonzero(batch.weight[0])
    assert loaded.tokenizer.decode(batch.tokens[0][row], False) == "let it be.<|end|>"


def dialogue(ask, answer):
    return [Message("user", ask), Message("assistant", answer)]


def router_batch(tokenizer, turns):
    """The first batch of the router on one safe answer: weights stand at what is predicted."""
    setting = Setting({}, None, examples=(Example("0", tuple(turns), {}),), given=True)
    rest = dict.fromkeys(("model", "workdir", "artifact", "writer", "mesh", "variables"))
    ctx = Context(tokenizer=tokenizer, setting=setting, **rest)
    cfg = SafeMoEConfig(rows=1, length=32)
    return safemoe_data.safe_batches(cfg, ctx)({}, 0)
