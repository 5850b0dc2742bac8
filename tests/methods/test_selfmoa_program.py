"""Self-MOA's loop on a random model: buffers, stages, attackers, resuming, what is refused."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Encoded, Message
from jaxsafety.methods import selfmoa
from jaxsafety.methods.dpo import pairs as pairwise
from jaxsafety.methods.selfmoa import program as programs
from jaxsafety.methods.selfmoa import rounds
from jaxsafety.methods.selfmoa.config import (
    AttackConfig,
    ResetConfig,
    SelfMoaConfig,
    StageConfig,
    check,
)
from jaxsafety.methods.selfmoa.novelty import Novelty, bleu
from jaxsafety.methods.selfmoa.pairing import Pair, PairConfig
from jaxsafety.methods.selfmoa.pool import Kept
from jaxsafety.methods.selfmoa.scores import ScoreConfig
from jaxsafety.protocols import Item, OptimConfig, TrainConfig
from jaxsafety.train.loop import run_program
from jaxsafety.train.programs import Programs
from tests.methods import tiny

OPTIM = OptimConfig(lr=3e-3, warmup=0.0, schedule="constant")
TRAIN = TrainConfig(checkpoint_every=100, progress=False)
LESSONS = [("copy ba", "copy bo"), ("copy bo", "how do i ba ?")]
CFG = SelfMoaConfig(
    rounds=4,
    prompts=3,
    samples=4,
    tokens=5,
    temperature=1.0,
    top_p=1.0,
    pairs=PairConfig(0.0, 0.0),
    novelty=Novelty(most=1.0, shortest=0.0, longest=0.0),
    # A random model's answers are all alike to the judge; the noise tells them apart.
    scores=ScoreConfig(noise=0.3, incoherent=0.5),
    attack=AttackConfig(
        kind="adaptive", generate=True, rank=2, alpha=4.0, steps=2, rows=2, retrain=2, tokens=6
    ),
    stage=StageConfig(pairs=4, rows=2, form="modpo", safety=0.5, helpful=0.5, val=0.25),
    thresholds="paper",
    length=48,
    rank=0,
    probe=2,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def judge(exchanges):
    """Every answer is unsafe: each attack succeeds where its noise is high enough."""
    return [{"unsafe": True, "refusal": False, "coherent": True} for _ in exchanges]


def context(directory, workdir, monkeypatch=None, count=16):
    """A context without a world, with lessons as a user's files would bring them."""
    logged = []
    ctx = tiny.context(directory, workdir, log=logged.append)
    words = ("ba", "bo", "i", "that", "sure", "no", "how", "do")
    texts = [f"copy {a} {b}" for a in words for b in words][:count]
    asked = tuple(Item(str(i), (Message("user", t),), {}) for i, t in enumerate(texts))
    kept = {**ctx.setting.prompts, "distil": asked}
    return tiny.placed(ctx, attacks=None, judge=judge, prompts=kept), logged


@pytest.fixture
def files(tmp_path):
    path = tmp_path / "lessons.jsonl"
    rows = [{"prompt": a, "response": b} for a, b in LESSONS]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(path)


def with_files(cfg, path, **changes):
    attack = dataclasses.replace(cfg.attack, expand=path, hide=path)
    return dataclasses.replace(cfg, attack=attack, **changes)


def run(cfg, ctx):
    return run_program(programs.program(cfg, OPTIM, ctx), ctx, TRAIN)


def artifact(workdir, name):
    return json.loads((workdir / "artifacts" / f"{name}.json").read_text())


def host(variables):
    return jax.tree.map(np.asarray, dict(variables))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_a_run_and_one_that_goes_on(directory, tmp_path, files, rank):
    cfg = with_files(CFG, files, rank=rank, alpha=4.0)
    ctx, _ = context(directory, tmp_path / "run")
    selfmoa.METHOD.check(cfg)
    selfmoa.METHOD.fits(cfg, OPTIM, ctx.model, ctx.tokenizer, ctx.setting)
    selfmoa.METHOD.prepare(cfg, OPTIM, ctx)
    whole = host(run(cfg, ctx))
    told = artifact(tmp_path / "run", "loop")
    assert told["rounds"] == 4 and told["stages"] >= 2 and told["trainings"] >= 2
    # Every buffer is emptied by what it filled.
    made = sum(len(artifact(tmp_path / "run", f"round.{r}")["pairs"]) for r in range(4))
    assert made == told["stages"] * cfg.stage.pairs + told["pairs_left"]
    assert told["pairs_left"] < cfg.stage.pairs
    probes = [artifact(tmp_path / "run", f"probe.{k}") for k in range(told["stages"] + 1)]
    assert all(p["harmful_val"]["n"] == 2 for p in probes)
    base = jax.tree.leaves(host(ctx.variables))
    assert any((a != b).any() for a, b in zip(base, jax.tree.leaves(whole), strict=True))
    # What is on disk is read back, nothing is trained or asked again.
    again, lines = context(directory, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, host(run(cfg, again)), whole)
    assert not [line for line in lines if " steps; " in line]
    # Cut off after its second round, it makes the same of the others.
    ctx, _ = context(directory, tmp_path / "cut")

    class Cut(Exception):
        pass

    def cut(name, make, keep=ctx.artifact):
        if name == "answers.2":
            raise Cut
        return keep(name, make)

    with pytest.raises(Cut):
        run(cfg, dataclasses.replace(ctx, artifact=cut))
    ctx, _ = context(directory, tmp_path / "cut")
    jax.tree.map(np.testing.assert_array_equal, host(run(cfg, ctx)), whole)
    names = sorted(f.name for f in (tmp_path / "run" / "artifacts").iterdir())
    assert names == sorted(f.name for f in (tmp_path / "cut" / "artifacts").iterdir())
    for name in names:
        one, two = ((tmp_path / d / "artifacts" / name).read_bytes() for d in ("run", "cut"))
        assert one == two or name.endswith(".npz"), name  # zip files have dates


def test_the_invariants_of_the_loop(directory, tmp_path, files):
    """Nothing is asked twice, pairs satisfy algorithm 2, expansions are new."""
    cfg = with_files(CFG, files, novelty=Novelty(most=0.7, shortest=0.0, longest=0.0))
    ctx, _ = context(directory, tmp_path)
    run(cfg, ctx)
    seen = {item.messages[-1].content for item in ctx.setting.prompts["distil"]}
    for number in range(4):
        attack = artifact(tmp_path, f"attack.{number}")
        told = artifact(tmp_path, f"round.{number}")
        assert len(attack["of"]) == len(set(attack["of"])) <= cfg.prompts
        for text in attack["expanded"]:
            assert text not in seen
            seen.add(text)
        assert sum(attack["rejected"].values()) + len(attack["of"]) >= cfg.prompts
        with np.load(tmp_path / "artifacts" / f"round.{number}.npz") as kept:
            safe, helpful = kept["safe"], kept["helpful"]
        assert safe.shape == helpful.shape == (len(attack["of"]), cfg.samples)
        for i, c, r in told["pairs"]:
            assert helpful[i, c] - helpful[i, r] > 0 or safe[i, c] - safe[i, r] > 0
        count = len(attack["of"]) * cfg.samples
        assert told["calls"] == ({"safety": count, "helpful": count} if count else {})
    assert bleu("a b".split(), "a b".split(), (0.5, 0.5)) == 1.0  # what the filter counts by


def test_the_third_stage_compiles_nothing(directory, tmp_path, files, monkeypatch):
    cfg = with_files(CFG, files, rounds=5)
    cfg = dataclasses.replace(cfg, attack=dataclasses.replace(cfg.attack, kind="none"))
    ctx, _ = context(directory, tmp_path)
    counts = []
    align = programs.Loop.align

    def counted(self, *args):
        before = len(found)
        left = yield from align(self, *args)
        counts.append(len(found) - before)
        return left

    found = []
    recipe = Programs.of

    def noted(self, key):
        kind = recipe(self, key)
        if kind not in [x for x, _ in found]:
            found.append((kind, None))
        return kind

    monkeypatch.setattr(Programs, "of", noted)
    monkeypatch.setattr(programs.Loop, "align", counted)
    run(cfg, ctx)
    assert len(counts) >= 3 and counts == [1] + [0] * (len(counts) - 1)
    assert len(found[0][0].steps) == 1  # of one shape


def test_a_stage_learns_its_pairs_and_watches_the_others(directory, tmp_path, files):
    cfg = with_files(dataclasses.replace(CFG, samples=2), files)  # a pair of a prompt
    ctx, _ = context(directory, tmp_path)
    run(cfg, ctx)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines if '"moa.0"' in line]
    assert rows[0]["step"] == 0 and rows[0]["val/margin"] == 0.0
    assert {"val/margin", "val/preferred"} <= set(rows[-1])
    assert rows[-1]["step"] == cfg.stage.steps == 2  # three of four pairs, two a step


def test_the_margin_is_what_the_judges_said(directory, tmp_path, monkeypatch):
    """P(safe) of the chosen and of the rejected answer, behind the prompt that was answered."""
    cfg = dataclasses.replace(CFG, attack=AttackConfig())
    ctx, _ = context(directory, tmp_path)
    loop = programs.Loop(cfg, OPTIM, ctx)
    found = loop.play(0, None, ctx.variables)
    made = loop.assembled(loop.pool.pairs)
    assert isinstance(made, pairwise.Pairs)
    for row, kept in enumerate(loop.pool.pairs):
        i, c, r = kept.pair
        np.testing.assert_allclose(made.scores[row, :, 0], found.safe[i, [c, r]])
        for side, index in enumerate((c, r)):
            said = found.answers[i][index]
            ids = made.tokens[row, side][made.mask[row, side] > 0].tolist()
            assert ids[: len(said)] == said
            end = ids[len(said) :]
            assert end == (list(rounds.ending(ctx.tokenizer)) if found.ended[i][index] else [])


def test_rounds_without_pairs_end_the_run_or_not(directory, tmp_path):
    """Judges to which all answers are alike."""
    plain = dataclasses.replace(
        CFG, attack=AttackConfig(), scores=ScoreConfig(), pairs=PairConfig(), rounds=3
    )
    for empty, count in (("stop", 1), ("go", 3)):
        ctx, lines = context(directory, tmp_path / empty)
        run(dataclasses.replace(plain, empty=empty), ctx)
        assert artifact(tmp_path / empty, "loop")["rounds"] == count
        ended = [line for line in lines if "made no pair (answers score alike)" in line]
        assert len(ended) == (empty == "stop")
        learnt = f"nothing was learnt: 0 pairs of method.stage.pairs={plain.stage.pairs}; the model"
        assert sum(learnt in line for line in lines) == 1


def test_attacks_that_the_context_has_no_room_for_are_left_out(directory, tmp_path, monkeypatch):
    ctx, _ = context(directory, tmp_path)
    loop = programs.Loop(CFG, OPTIM, ctx)
    long = "ba " * ctx.model.config.max_length
    said = {"expander": ["ba i", long, "bo i"], "hider": ["no ba", long]}
    monkeypatch.setattr(rounds, "rewrite", lambda *args: said[args[-1]][: len(args[3])])
    cfg = dataclasses.replace(CFG, attack=dataclasses.replace(CFG.attack, tries=1))
    seeds = loop.pool.drawn(3, 0, 0)
    team = rounds.Team(ctx.variables, ctx.variables)
    made = rounds.attack(cfg, ctx, loop.pool, seeds, 0, team)
    assert made["of"] == [0] and made["hidden"] == ["no ba"]
    assert made["rejected"] == {rounds.ROOM: 2}


def test_pairs_of_a_prompt_that_is_learnt_are_not_watched():
    prompts = [(0, 1), (0, 1), (0, 2), (1, 1), (1, 1), (1, 2), (1, 2)]  # round, prompt
    taken = [Kept(number, Pair(prompt, 0, 1)) for number, prompt in prompts]
    mask = (False, True, True)
    sides = [[Encoded((1, start, ord(end)), mask) for end in "abcdefg"] for start in (2, 3)]
    made = pairwise.assemble(*sides, 0)
    for held, watched in ((3, "fg"), (2, "fg"), (1, ""), (6, "cdefg"), (0, "")):
        first, rest = programs._split(made, taken, held)
        assert len(first.weight) == len(taken) - held
        assert len(rest.weight) == len(watched)
        assert "".join(map(chr, np.asarray(rest.tokens)[:, 0, 2])) == watched


def test_it_ends_when_no_prompt_is_left(directory, tmp_path):
    cfg = dataclasses.replace(CFG, attack=AttackConfig(), rounds=4)
    ctx, lines = context(directory, tmp_path, count=7)
    run(cfg, ctx)
    assert any("no prompt is left after round 3" in line for line in lines)
    assert artifact(tmp_path, "loop")["prompts_left"] == 0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"rounds": 0}, "method.rounds.*1 or more"),
        ({"samples": 1}, "method.samples.*2 or more"),
        ({"temperature": 0.0}, "method.temperature.*equal answers"),
        ({"top_p": 0.0}, r"method.top_p.*\(0, 1\]"),
        ({"thresholds": "other"}, "method.thresholds.*aprt, paper"),
        ({"empty": "ask"}, "method.empty"),
        ({"stage": StageConfig(pairs=1000)}, "method.stage.pairs.*at most 24 pairs.*never fills"),
        ({"stage": StageConfig(pairs=4, orientation="")}, "preference.orientations"),
        ({"stage": StageConfig(pairs=4, form="ours")}, "preference.form"),
        ({"stage": StageConfig(pairs=4, reference="last")}, "method.stage.reference"),
        ({"stage": StageConfig(pairs=4, val=1.0)}, "method.stage.val"),
        ({"attack": AttackConfig(kind="adaptive", retrain=99)}, "method.attack.retrain.*frozen"),
        ({"attack": AttackConfig(kind="some")}, "method.attack.kind"),
        ({"attack": AttackConfig(lr=0.0)}, "method.attack.lr"),
        ({"reset": ResetConfig(steps=-1)}, "method.reset.steps"),
    ],
)
def test_settings_are_checked(changes, line):
    with pytest.raises(UsageError, match=line):
        check(dataclasses.replace(CFG, **changes))


def test_what_the_model_and_the_files_cannot_do_is_refused(directory, tmp_path, files):
    ctx, _ = context(directory, tmp_path)

    def refused(line, setting=ctx.setting, optim=OPTIM, **changes):
        with pytest.raises(UsageError, match=line):
            cfg = dataclasses.replace(with_files(CFG, files), **changes)
            selfmoa.METHOD.fits(cfg, optim, ctx.model, ctx.tokenizer, setting)

    attack = with_files(CFG, files).attack
    refused("method.length.*context", length=10_000)
    refused("method.tokens.*less than", tokens=48)
    refused("method.rank.*width", rank=10_000)
    refused("optim.accum.*method.stage.rows", optim=dataclasses.replace(OPTIM, accum=3))
    refused("method.attack.generate", attack=dataclasses.replace(attack, generate=False))
    refused("method.attack.hide.*of your own", attack=dataclasses.replace(attack, hide=""))
    refused("method.reset.path.*of your own", reset=ResetConfig(steps=2))
    few, _ = context(directory, tmp_path, count=1)
    none = AttackConfig()
    limit = ctx.model.config.max_length
    refused("method.attack.tokens.*context", attack=dataclasses.replace(attack, tokens=limit))
    long = dataclasses.replace(
        ctx.setting,
        prompts={
            **ctx.setting.prompts,
            "distil": (Item("0", (Message("user", "ba " * limit),), {"file": "s", "row": 7}),),
        },
    )
    refused("data.distil.*row 7 of s.*method.tokens=5", long)
    refused("method.length.*shortest seed", attack=none, length=6)
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"prompt": "ba " * limit, "response": "bo"}) + "\n")
    refused(
        "method.attack.hide.*row 1.*context", attack=dataclasses.replace(attack, hide=str(path))
    )
    path.write_text("{}\n")  # found before anything is trained
    refused("method.attack.hide.*row 1", attack=dataclasses.replace(attack, hide=str(path)))
    refused("method.stage.pairs.*1 prompts", few.setting, attack=none)
    told = selfmoa.METHOD.learns(with_files(CFG, files), ctx.setting)
    assert [(name, len(rows)) for name, rows in told] == [
        ("method.attack.expand", 2),
        ("method.attack.hide", 2),
    ]
    assert not selfmoa.METHOD.learns(dataclasses.replace(CFG, attack=none), ctx.setting)
    world = tiny.context(directory, tmp_path).setting
    assert not selfmoa.METHOD.learns(CFG, world)
    refused("method.attack.expand.*organism makes its own", world)
