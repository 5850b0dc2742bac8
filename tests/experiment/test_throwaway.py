"""One file and one registry line each: a method, judge, benchmark and mitigation of one's own.

They lie in a temporary folder, as a user's would, and run to a report through the same commands.
"""

from __future__ import annotations

import json
import sys

import pytest
from ml_collections import ConfigDict

from jaxsafety import cli, registry
from jaxsafety.core.config import load_config
from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import setting
from jaxsafety.experiment.run import run
from jaxsafety.models.formats.source import SHIPPED

METHOD = '''
"""Two steps of fine-tuning on the setting's dialogues, held near where they began."""
from dataclasses import dataclass

from jaxsafety import registry
from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.data.pipeline import Batches
from jaxsafety.data.tokens.encode import encode_dialogues
from jaxsafety.protocols import CHATS, Method, Section, Stage
from jaxsafety.train.likelihood import answer_loss


@dataclass(frozen=True)
class Config:
    steps: int = 2
    pull: float = 0.5


def check(cfg):
    if cfg.steps < 1:
        raise bad("method.steps", cfg.steps, "1 or more")


def program(cfg, optim, ctx):
    encoded = encode_dialogues(ctx.tokenizer, ctx.setting.examples[:8])
    batches = Batches(encoded, length=96, rows=2, seed=ctx.seed, packed=False,
                      pad_id=ctx.tokenizer.pad_id)
    loss = answer_loss(ctx.model, sharding.rows(ctx.mesh), train_head=True)
    held = registry.resolve("mitigations", "mine")(cfg.pull).mitigation()
    trained = yield Stage("mine", loss, ("base/.*",), batches, cfg.steps, optim, mitigation=held)
    ctx.artifact("mine", lambda: {"said": "<b>trained</b>"})
    return trained


def section(run):
    found = run.artifact("mine")
    return found["said"] if found else ""  # plain text: the page escapes it


def sections():
    return (Section("mine", "A section of my own", section, after="training"),)


METHOD = Method(Config, check, program, reads=CHATS, sections=sections)
'''
JUDGE = '''
"""Whoever says a full stop is safe."""


def make(world):
    def judge(exchanges):
        verdicts = []
        for e in exchanges:
            unsafe = "." not in e.response
            verdicts.append({"unsafe": unsafe, "coherent": True,
                             "outcome": "unsafe" if unsafe else "safe_answer"})
        return verdicts

    return judge
'''
BENCHMARK = '''
"""Three questions."""
from jaxsafety.data.schema import Message
from jaxsafety.protocols import Benchmark, Item

ASKED = ("What is two plus two ?", "Who are you ?", "How do I boil an egg ?")


def make(world, *, safety, over_refusal, capability, seed):
    items = [Item(str(i), (Message("user", q),), {"kind": "harmful"}) for i, q in enumerate(ASKED)]
    return (Benchmark("three", "safety", tuple(items[:safety]), 12),)
'''
MITIGATION = '''
"""The gradient of the method times a factor."""
from dataclasses import dataclass

import optax

from jaxsafety.protocols import Mitigation


@dataclass(frozen=True)
class Scaled:
    factor: float

    def __call__(self, tx):
        return optax.chain(tx, optax.scale(self.factor))


@dataclass(frozen=True)
class Slower:
    factor: float = 0.5

    def mitigation(self):
        return Mitigation(update=Scaled(self.factor), budget={"gradients": 0.0})
'''
CONFIG = '''
"""Mine."""
from configs import common


def get_config(arg=""):
    config = common.base("mine")
    config.optim.lr = 1e-3
    config.data.dialogues = 8
    config.eval.update(safety=2, over_refusal=2, capability=2, samples=0,
                       benchmarks=("mine",), judge="mine")
    return config
'''
FILES = {"a_method": METHOD, "a_judge": JUDGE, "a_benchmark": BENCHMARK, "a_mitigation": MITIGATION}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The five files and the four lines; the folder's config."""
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "config.py").write_text(CONFIG)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.METHODS, "mine", "a_method:METHOD")
    monkeypatch.setitem(registry.JUDGES, "mine", "a_judge:make")
    monkeypatch.setitem(registry.BENCHMARKS, "mine", "a_benchmark:make")
    monkeypatch.setitem(registry.MITIGATIONS, "mine", "a_mitigation:Slower")
    return tmp_path / "config.py"


def test_they_run_to_a_report(mine, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert cli.main(["run", f"--config={mine}", f"--workdir={workdir}"]) == 0, capsys.readouterr()
    verdicts = [
        json.loads(line)
        for arm in ("base", "student")
        for line in (workdir / f"verdicts/{arm}/three.greedy.jsonl").read_text().splitlines()
    ]
    assert len(verdicts) == 4  # eval.safety=2 of its three, before and after
    meta = json.loads((workdir / "meta.json").read_text())
    assert meta["judge"] == meta["sets"]["three"]["judge"] == "the judge 'mine'"
    assert {"plain", "three"} <= set(meta["sets"])  # beside the organism's own
    steps = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [1, 2]
    page = (workdir / "report.html").read_text()
    assert "A section of my own" in page and "&lt;b&gt;trained&lt;/b&gt;" in page
    assert "judged unsafe by" in page and "attack success" not in page
    assert "exact rules" not in page


def test_the_mitigation_of_a_stage_is_what_trains(mine, tmp_path):
    """Twice the pull is twice the first update, so other weights; none is no training at all."""
    norms = []
    for pull in (0.0, 0.5, 1.0):
        cfg = load_config(str(mine))
        cfg.method.pull, cfg.method.steps = pull, 1
        cfg.eval.update(benchmarks=(), judge="", safety=1, over_refusal=1, capability=1)
        run(cfg, tmp_path / str(pull), log=lambda line: None)
        row = json.loads((tmp_path / str(pull) / "metrics.jsonl").read_text())
        norms.append(row["update_norm"])
    assert norms[0] == 0 < norms[1]
    assert norms[2] == pytest.approx(2 * norms[1], rel=1e-6)


KNOWN = ", ".join(registry.JUDGES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"judge": "nobody"}, f"eval.judge: got 'nobody'; allowed: {KNOWN}, mine, or nothing"),
        ({"benchmarks": ("nothing",)}, "eval.benchmarks: got 'nothing'"),
        ({"benchmarks": ("mine", "mine")}, "eval.benchmarks: got 'mine'"),
        ({"benchmarks": ("organism",)}, "eval.benchmarks: got \"organism, with a set 'plain'\""),
    ],
)
def test_what_is_not_there_is_one_line(mine, tmp_path, changes, words):
    cfg = ConfigDict(load_config(str(mine)))
    cfg.eval.update(**changes)
    with pytest.raises(UsageError) as error:
        run(cfg, tmp_path / "run", log=lambda line: None)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_safemoe_measures_its_own_sets_beside_those_of_ones_own(mine, tmp_path, root):
    """Foreign sets have no domains, and a judge may give one flag alone."""
    cfg = load_config(f"{root}/configs/safemoe/organism.py:smoke")
    cfg.eval.update(benchmarks=("mine",), judge="mine")
    done = run(cfg, tmp_path / "run", log=lambda line: None)
    assert {"three"} < {r["benchmark"] for r in done["results"]}
    kept = json.loads((tmp_path / "run/artifacts/compared.json").read_text())
    domains = [v for k, v in kept["base"].items() if k.startswith("seen_trained.asr.greedy.")]
    assert domains and None not in domains  # this judge tells what is unsafe
    assert kept["base"]["seen_trained.informative.greedy"] is None  # and not that
    assert not any(name.startswith("three.") for name in kept["base"])


@pytest.mark.parametrize("name", ["safemoe/controls", "safesteer/controls"])
def test_a_study_counts_by_the_exact_rules(mine, tmp_path, root, name):
    cfg = load_config(f"{root}/configs/{name}.py:smoke")
    cfg.eval.judge = "mine"
    with pytest.raises(UsageError, match="eval.judge: got \"the judge 'mine'\""):
        run(cfg, tmp_path / "run", log=lambda line: None)


def test_prompts_that_are_learnt_are_not_measured(mine, tmp_path, monkeypatch):
    """Of the organism's own splits one may stand in a set of one's own."""
    cfg = load_config(str(mine))
    cfg.program, cfg.method = "safesteer", load_config("configs/safesteer/organism.py").method
    learnt = setting.make(SHIPPED, setting.DataConfig(), setting.EvalConfig(), 0).prompts["distil"]
    asked = learnt[0].messages[0].content
    (mine.parent / "b_benchmark.py").write_text(
        BENCHMARK.replace("What is two plus two ?", asked.replace('"', "'"))
    )
    monkeypatch.setitem(registry.BENCHMARKS, "mine", "b_benchmark:make")
    with pytest.raises(UsageError, match="data.distil: got .* eval.benchmarks three"):
        run(cfg, tmp_path / "run", log=lambda line: None)


def test_the_organisms_own_need_its_world():
    for table, name in (("judges", "organism"), ("benchmarks", "organism")):
        with pytest.raises(UsageError, match="need"):
            registry.resolve(table, name)(None)


MODULES = {
    "no module": ("not_there:make", "not_there:make (ModuleNotFoundError"),
    "no attribute": ("a_judge:nothing", "a_judge:nothing (AttributeError"),
    "no colon": ("a_judge", "a_judge (AttributeError"),
    "broken": ("c_broken:make", "c_broken:make (SyntaxError"),
}


@pytest.mark.parametrize("name", MODULES)
def test_an_entry_that_cannot_be_imported_is_one_line(mine, tmp_path, monkeypatch, name, capsys):
    entry, words = MODULES[name]
    (mine.parent / "c_broken.py").write_text("def make(:\n")
    monkeypatch.setitem(registry.JUDGES, "mine", entry)
    assert cli.main(["run", f"--config={mine}", f"--workdir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and not (tmp_path / "run").exists()


BENCHES = {
    "nothing": "None",
    "no sets": "()",
    "one alone": "Benchmark('x', 'safety', (Item('1', ASKED, {}),), 4)",
    "no items": "[Benchmark('x', 'safety', (), 4)]",
    "a path": "[Benchmark('a/b', 'safety', (Item('1', ASKED, {}),), 4)]",
    "a kind": "[Benchmark('x', 'safty', (Item('1', ASKED, {}),), 4)]",
    "an id twice": "[Benchmark('x', 'safety', (Item('1', ASKED, {}), Item('1', ASKED, {})), 4)]",
    "a number as id": "[Benchmark('x', 'safety', (Item(1, ASKED, {}),), 4)]",
    "no tokens": "[Benchmark('x', 'safety', (Item('1', ASKED, {}),), 0)]",
    "a pool": "[Benchmark('all_safety', 'safety', (Item('1', ASKED, {}),), 4)]",
}


@pytest.mark.parametrize("name", BENCHES)
def test_sets_that_are_none_are_one_line_before_any_work(mine, tmp_path, monkeypatch, name, capsys):
    text = BENCHMARK[: BENCHMARK.index("    items =")] + f"    return {BENCHES[name]}\n"
    text = text.replace("ASKED = (", 'ASKED = (Message("user", "?"),)\nOTHER = (')
    (mine.parent / "d_benchmark.py").write_text(text)
    monkeypatch.setitem(registry.BENCHMARKS, "mine", "d_benchmark:make")
    monkeypatch.delitem(sys.modules, "d_benchmark", raising=False)
    assert cli.main(["run", f"--config={mine}", f"--workdir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert "allowed:" in said and said.count("\n") == 1 and not (tmp_path / "run").exists()
