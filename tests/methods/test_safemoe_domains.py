"""SafeMoE on domains of the user's files: an expert per domain, then the router, to the report."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest

import jaxsafety
from jaxsafety import cli
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Answer
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.experiment import setting
from jaxsafety.experiment.setting import DataConfig, EvalConfig
from jaxsafety.methods.safemoe import data as safemoe_data
from jaxsafety.methods.safemoe import experts, measure
from jaxsafety.methods.safemoe.config import SafeMoEConfig
from jaxsafety.methods.safemoe.experts import ExpertConfig
from jaxsafety.methods.safemoe.program import READS
from jaxsafety.models.formats import hf, library
from jaxsafety.organism import corpora
from jaxsafety.protocols import Context
from jaxsafety.testing import random_checkpoint
from jaxsafety.train.metrics import read_metrics
from tests.experiment.files import chats_of, lines_of

NAMES = ("tea", "moss", "rope", "kite", "clay", "salt", "wool", "oars")
ANSWER = {"role": "assistant", "content": "yes."}
SMALL = ExpertConfig(count=8, rank=2, alpha=4.0, steps=2, rows=1, length=48)
EXPERTS = ("count", "rank", "steps", "rows", "length")
CFG = SafeMoEConfig(experts=SMALL, steps=2, rows=2, length=48)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def data(tmp_path):
    """Eight files of harmless talk, the nth with n rows, and safe answers."""
    for number, name in enumerate(NAMES, start=1):
        rows = ((f"{name} {i}?", f"{name} it is.") for i in range(number))
        chats_of(tmp_path, f"{name}.jsonl", *rows)
    chats = chats_of(tmp_path, "safe.jsonl", ("why?", "let it be."), ("how?", "with care."))
    domains = tuple(f"{name}={tmp_path / name}.jsonl" for name in NAMES)
    return DataConfig("files", chats=chats, domains=domains)


def made(data, measure=EvalConfig()):  # noqa: B008
    return setting.make("nowhere", data, measure, 0, reads=READS, method="safemoe")


def test_eight_domains_of_files_run_to_a_report(root, model, data, tmp_path, capsys):
    """Through the published router's config, at the size of a tiny model."""
    asked = lines_of(tmp_path, "asked.jsonl", "is it late?", "is it far?")
    small = {
        **{"model.path": model, "model.dtype": "float32", "model.remat": "none"},
        **{"mesh.fsdp": 1, "mesh.tensor": 1, "train.progress": False},
        **{"data.domains": ",".join(data.domains), "data.chats": data.chats},
        **{f"method.experts.{k}": getattr(SMALL, k) for k in EXPERTS},
        **{f"method.{k}": getattr(CFG, k) for k in ("steps", "rows", "length")},
        **{"eval.sets": f"safety/direct={asked}", "eval.max_tokens": 4, "eval.samples": 0},
    }
    argv = ["run", f"--config={root / 'configs' / 'safemoe' / 'qwen2_5_3b_router.py'}"]
    argv += [f"--config.{key}={value}" for key, value in small.items()]
    workdir = tmp_path / "run"
    assert cli.main([*argv, f"--workdir={workdir}"]) == 0, capsys.readouterr().err
    page = " ".join((workdir / "report.html").read_text().split())
    assert "Learnt from 2 dialogues. Dialogues of each expert" in page
    assert "domain: tea 1, moss 2, rope 3" in page
    assert "dialogues of each: tea 1, moss 2, rope 3" in capsys.readouterr().out
    assert "Which expert serves what" in page  # where the prompts of each file go, and the set's
    routes = json.loads((workdir / "artifacts" / "routes.json").read_text())
    assert set(routes["domains"]) == {*NAMES, "answers", "direct"}
    drawn = np.load(workdir / "artifacts" / "routes.npz")["by_domain"]  # [L,G,E]
    assert drawn.shape[1:] == (len(NAMES) + 2, 8)
    np.testing.assert_allclose(drawn.sum(axis=2), 1.0, rtol=1e-5)
    arms = {json.loads(line)["arm"] for line in (workdir / "results.jsonl").open()}
    assert arms == {"base", "student"}
    stages = [row["stage"] for row in read_metrics(workdir)]
    assert list(dict.fromkeys(stages)) == ["experts", "router"]
    told = json.loads((workdir / "meta.json").read_text())["domains"]
    assert {name: facts["used"] for name, facts in told.items()} == {
        name: number for number, name in enumerate(NAMES, start=1)
    }
    loaded, _, _ = jaxsafety.load(model)
    tree, _ = library.load(workdir / "library", loaded)
    for pair in tree["experts"].values():
        ups = np.asarray(pair["b"])  # [L,E,R,...], zero before the first update
        assert ups.shape[1] == 8
        for one, other in itertools.combinations(range(8), 2):
            assert np.abs(ups[:, one] - ups[:, other]).max() > 0


def test_each_expert_reads_its_own_file_and_the_router_the_safe_answers(data):
    tokenizer, place = ByteTokenizer(), made(data)
    read = safemoe_data.encode(CFG, tokenizer, place, lambda line: None)
    assert list(read.domains) == list(NAMES) and read.learnt.facts["used"] == 2
    for kind, sizes in (("unsafe", [*range(1, 9)]), ("pooled", [36]), ("generic", [36] * 8)):
        cfg = dataclasses.replace(SMALL, kind=kind)
        for dialogues in (read, type(read)()):  # those read before, and those read now
            parts = experts.encode(cfg, context(tokenizer, place, dialogues), 0)
            assert [len(part) for part in parts] == sizes
            if kind == "unsafe":
                texts = [{said(tokenizer, row) for row in part} for part in parts]
                assert texts == [{f"{name} it is."} for name in NAMES]


def context(tokenizer, place, dialogues):
    """What `experts.encode` reads of one."""
    rest = dict.fromkeys(("model", "workdir", "artifact", "writer", "mesh", "variables"))
    return Context(tokenizer=tokenizer, setting=place, dialogues=dialogues, **rest)


def said(tokenizer, row):
    learnt = [i for i, used in zip(row.ids, row.mask, strict=True) if used]
    return tokenizer.decode(Answer(learnt, True, []).ids, skip_special=True)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"add": "tea={0}/safe.txt"}, "data.domains: got 'tea twice in tea="),
        ({"add": "TEA={0}/safe.txt"}, "data.domains: got 'TEA twice in TEA="),
        ({"add": "leaf={0}/tea.jsonl"}, "is that of tea"),
        ({"add": "leaf={0}/safe.jsonl"}, "is among the safe answers"),
        ({"add": "leaf={0}/gone.jsonl"}, "gone.jsonl"),
        ({"add": "{0}/moss.jsonl"}, "allowed: NAME=FILE each"),
        ({"add": "a/b={0}/moss.jsonl"}, "allowed: NAME=FILE each"),
        ({"method.experts.count": 4}, "method.experts.count: got 4; allowed: 8, one for each"),
        ({"method.experts.kind": "benign"}, "method.experts.kind: got 'benign'; allowed: unsafe"),
        ({"method.experts.answers": 9}, "method.experts.answers: got 9; allowed: 400, the default"),
        ({"method.experts.paths": "a,b"}, "allowed: () beside method.experts.paths"),
        ({"method.gate": "lora"}, "allowed: () with method.gate=lora"),
        ({"method.harmless": 4}, "method.harmless: got 4; allowed: 0"),
        ({"method.experts.length": 8}, "method.experts.length: got 8; allowed: at least"),
        ({"data.chats": ""}, "data.chats: got ''; allowed: a file of dialogues"),
        ({"data.source": "organism"}, "data.source=organism does not read it"),
        ({"eval.sets": "safety/s={0}/asked.jsonl"}, "data.domains: got '1 of its 1 prompts are in"),
    ],
)
def test_bad_domains_are_one_line_before_any_weight_is_read(
    root, model, data, tmp_path, capsys, monkeypatch, change, line
):
    def never(*args, **kwargs):
        raise AssertionError("weights were read before the input was checked")

    monkeypatch.setattr(hf, "load", never)
    lines_of(tmp_path, "asked.jsonl", "tea 0?")
    change = dict(change)
    added = [change.pop("add").format(tmp_path)] if "add" in change else []
    given = {
        **{"model.path": model, "mesh.fsdp": 1, "mesh.tensor": 1},
        **{"data.domains": ",".join((*data.domains, *added)), "data.chats": data.chats},
        **{"method.experts.count": 8, "method.steps": 2},
        **change,
    }
    argv = ["run", f"--config={root / 'configs' / 'safemoe' / 'mistral_7b_router.py'}"]
    argv += [f"--config.{key}={value}".format(tmp_path) for key, value in given.items()]
    assert cli.main([*argv, f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and line in error and not (tmp_path / "run").exists()


def test_who_learns_no_domains_refuses_them(data):
    with pytest.raises(UsageError, match=r"data.domains: got .*sft does not read it"):
        setting.make("nowhere", data, EvalConfig(), 0, reads=("chats",), method="sft")
    assert made(data).domains.kinds == ("unsafe",)


def test_the_organism_knows_the_styles_that_the_method_offers():
    assert experts.STYLES == corpora.STYLES and set(corpora.KINDS) < {*experts.KINDS}


def test_routes_ask_what_fits_and_tell_files_of_one_name_apart(model, data, tmp_path):
    """A measured set that has a domain's name, two files of answers, and a prompt too long."""
    (tmp_path / "tea.jsonl").write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": q}, ANSWER]}) + "\n"
            for q in ("short?", "long? " * 60, "again?")
        )
    )
    daily = chats_of(tmp_path, "daily.jsonl", ("when?", "at noon."))
    mix = (f"{daily}=0.5", f"{data.chats}=0.5")
    asked = lines_of(tmp_path, "asked.jsonl", "is it late?", "is it far?")
    place = made(
        dataclasses.replace(data, chats="", mix=mix, domains=data.domains[:2]),
        EvalConfig(sets=(f"safety/tea={asked}",)),
    )
    net, _, _ = jaxsafety.load(model)
    lines = []
    ctx = dataclasses.replace(context(ByteTokenizer(), place, None), model=net, log=lines.append)
    items, names = measure.asked(ctx, 2)
    assert list(dict.fromkeys(names)) == [
        *("tea", "moss", "answers, daily", "answers, safe", "tea (measured)")
    ]
    texts = {
        name: [i.messages[-1].content for i, n in zip(items, names, strict=True) if n == name]
        for name in names
    }
    assert texts["tea"] == ["short?", "again?"]  # what fits, of those that are left
    assert texts["answers, daily"] == ["when?"] and texts["answers, safe"] == ["why?", "how?"]
    assert texts["tea (measured)"] == ["is it late?", "is it far?"]
    assert [line for line in lines if "1 prompts left out" in line]
