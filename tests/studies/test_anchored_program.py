"""The anchored study under the loop: what is trained, measured and kept, and in which order."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.models.formats import source
from jaxsafety.protocols import Benchmark
from jaxsafety.studies.anchored import METHOD, config, means, measure, program
from tests.studies import anchored_run as small
from tests.studies.anchored_run import CFG, OPTIM


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


def artifacts(ctx):
    folder = ctx.workdir / "artifacts"
    return {p.stem: json.loads(p.read_text()) for p in folder.glob("*.json")}


def stages(ctx):
    """Names of what was trained."""
    found = (p.name for p in (ctx.workdir / "checkpoints").iterdir())
    return sorted(name for name in found if not name.endswith(".marked"))


@pytest.fixture(scope="module")
def done(directory, tmp_path_factory):
    """A whole run: (context, what it said, variables, parameters of every marked step)."""
    with pytest.MonkeyPatch.context() as patch:
        small.register(patch)
        ctx, logged = small.context(directory, tmp_path_factory.mktemp("done"))
        cfg = replace(CFG, arms=("plain", "ema:decay=0.5", "back", "told", "twin"), floor=0.5)
        variables, spoken = small.run(cfg, ctx, patch)
        yield cfg, ctx, logged, spoken, variables


def test_every_arm_has_its_curve_and_its_rows(done):
    cfg, ctx, *_ = done
    kept = artifacts(ctx)
    names = ("plain", "ema-decay-0-5", "back", "told")
    assert {n for n in kept if n.startswith("curve.")} == {f"curve.letter.{n}.0" for n in names}
    for name in names:
        curve = kept[f"curve.letter.{name}.0"]
        assert [p["step"] for p in curve["points"]] == [2, 4]
        assert all(p["n"] == 8 and set(p["general"]) == {"sums", "nth"} for p in curve["points"])
        assert all(p["general"]["sums"] == [1, 2] for p in curve["points"])
    rows = kept["table"]["rows"]
    assert [(r["arm"], r["anchor"]) for r in rows] == [
        (arm, anchor) for arm in cfg.arms for anchor in ("goal", "last", "floor")
    ]
    told = {(r["arm"], r["anchor"]): (r["outcome"], r["step"]) for r in rows}
    assert told["plain", "goal"] == ("reached", 2) and told["plain", "last"] == ("reached", 4)
    assert told["back", "goal"] == ("goal_unreached", None)
    assert told["back", "floor"] == ("reached", 2)  # as unsafe as every other: the earliest
    twins = [row for row in rows if row["arm"] == "twin"]
    assert {(r["outcome"], r["reason"]) for r in twins} == {("not_applicable", "no unaligned base")}
    assert all(row["measured"] is None and row["unsafe"] is None for row in twins)


def test_what_trains_alike_is_trained_once(done):
    _, ctx, *_ = done
    assert stages(ctx) == ["sft.letter.ema-decay-0-5.0", "sft.letter.plain.0"]


def test_checkpoints_are_measured_as_they_would_be_served(done):
    """An average and an edit count at every step, and so does what the prompt begins with."""
    _, ctx, _, spoken, _ = done
    base = small.number(ctx.variables["base"])
    dev = [call for call in spoken.calls if len(call[1]) == 8]
    assert len(dev) == 1 + 4 * 2 and dev[0][0] == base
    plain, averaged, back, told = (dev[1 + 2 * i : 3 + 2 * i] for i in range(4))
    assert len({base, *(c[0] for c in plain), *(c[0] for c in averaged)}) == 5
    assert [c[0] for c in back] == [base, base]
    assert [c[0] for c in told] == [c[0] for c in plain]
    assert all(prompt[0] == 7 for call in told for prompt in call[1])
    assert not any(prompt[0] == 7 for call in plain for prompt in call[1])


@pytest.mark.slow
def test_the_average_is_the_stages_own(directory, tmp_path, monkeypatch):
    """e_1 = (p_0 + p_1) / 2 where the decay is 1/2: not what the training goes on from."""
    cfg = replace(CFG, every=1, sft=replace(CFG.sft, steps=2))
    ctx, _ = small.context(directory, tmp_path)
    found = {}
    serve = measure.served

    def served(ctx, variables, hooks):
        what = serve(ctx, variables, hooks)
        found.setdefault(len(found), what.params)
        return what

    monkeypatch.setattr(measure, "served", served)
    small.run(cfg, ctx, monkeypatch)
    first, averaged = found[0], found[2]  # two points of plain, then those of the average
    for p0, p1, e1 in zip(
        *map(jax.tree.leaves, (ctx.variables["base"], first, averaged)), strict=True
    ):
        np.testing.assert_allclose(e1, (np.asarray(p0) + np.asarray(p1)) / 2, atol=1e-6)


def test_verdicts_are_kept_with_the_answers(done):
    _, ctx, *_ = done
    kept = artifacts(ctx)
    for start in ("verdicts.base", "verdicts.letter.plain.0.4", "verdicts.letter.back.0.2"):
        found = kept[f"{start}.wrapped"]
        assert found["kind"] == "safety" and found["ids"] == ["wrapped/0", "wrapped/1", "wrapped/2"]
        said = "b" if "plain" in start else "copy"
        assert found["responses"] == [said] * 3 and found["ended"] == [True] * 3
        assert found["flags"]["unsafe"] == [True, False, True]
        assert found["flags"]["informative"] == [None] * 3
    assert {"verdicts.base.test.letter", "verdicts.letter.plain.0.4.test"} <= set(kept)
    row = next(r for r in kept["table"]["rows"] if (r["arm"], r["anchor"]) == ("plain", "last"))
    assert row["measured"]["plain"]["unsafe"] == [2, 4]
    assert row["measured"]["plain"]["informative"] == [0, 0]
    assert row["unsafe"] == pytest.approx((2 / 4 + 2 / 3) / 2) and row["test"][1] == 4
    assert kept["table"]["base"]["over_refusal"]["refusal"] == [0, 2]


def test_the_student_is_the_first_rows_checkpoint(done):
    _, _, _, spoken, variables = done
    first = [call[0] for call in spoken.calls if len(call[1]) == 8][1]
    assert small.number(variables["base"]) == first


class Poison(Exception):
    """A safety set was read."""


class Bottle(Benchmark):
    """A set whose items raise."""

    __slots__ = ()

    @property
    def items(self):
        raise Poison(self.name)


def test_selection_reads_no_safety_set(done, directory, tmp_path, monkeypatch):
    """With sets that raise on access, everything up to `selected` is the same, and then it ends."""
    cfg, whole, *_ = done
    small.register(monkeypatch)
    # what is trained already is measured anew
    shutil.copytree(whole.workdir / "checkpoints", tmp_path / "checkpoints")
    ctx, _ = small.context(directory, tmp_path)
    sets = tuple(
        b if b.kind == "capability" else Bottle(b.name, b.kind, (), b.max_tokens)
        for b in ctx.setting.benchmarks
    )

    def strict(exchanges):
        assert all(e.item.meta["kind"] == "capability" for e in exchanges)
        return small.judge(exchanges)

    ctx = small.tiny.placed(ctx, benchmarks=sets, judge=strict)
    with pytest.raises(Poison):
        small.run(cfg, ctx, monkeypatch)
    found = artifacts(ctx)
    assert not any(name.startswith("verdicts") for name in found)
    assert found == {name: artifacts(whole)[name] for name in found}
    assert "selected" in found


@pytest.mark.slow
def test_a_run_that_is_cut_off_goes_on(done, directory, tmp_path, monkeypatch):
    """Stopped in the first curve, in another and in the verdicts; nothing is trained twice."""
    cfg, whole, *_ = done
    small.register(monkeypatch)
    ctx, logged = small.context(directory, tmp_path)
    spoken = small.Spoken()

    class Cut(Exception):
        pass

    said = {}
    for most in (3, 9, 20):  # calls of the sampler before the next one ends it
        count = 0

        def cut(*args, most=most, **options):
            nonlocal count
            count += 1
            if count > most:
                raise Cut
            return spoken(*args, **options)

        with pytest.raises(Cut):
            small.run(cfg, ctx, monkeypatch, cut)
        said[most] = set(artifacts(ctx))
    assert said[3] < said[9] < said[20]
    small.run(cfg, ctx, monkeypatch, spoken)
    assert artifacts(ctx) == artifacts(whole)
    trained = [line for line in logged if line.startswith("sft.") and ": step 4 of 4" in line]
    assert len(trained) == len(stages(ctx)) == 2
    before = len(spoken.calls)
    small.run(cfg, ctx, monkeypatch, spoken)
    assert len(spoken.calls) == before
    assert len([x for x in logged if x.startswith("sft.") and ": step 4 of 4" in x]) == 2


@pytest.mark.slow
def test_an_alignment_stage_comes_first(directory, tmp_path, monkeypatch):
    small.register(monkeypatch)
    ctx, _ = small.context(directory, tmp_path)
    cfg = replace(CFG, arms=("calm", "calm+back"), rates=(1.0,))
    _, spoken = small.run(cfg, ctx, monkeypatch)
    assert stages(ctx) == ["align.calm.0", "sft.letter.calm.0"]
    dev = [call[0] for call in spoken.calls if len(call[1]) == 8]
    # the edit goes back to the aligned base, which is not the base
    assert dev[3] == dev[4] != small.number(ctx.variables["base"])


def test_every_checkpoint_is_repaired_before_it_is_measured(directory, tmp_path, monkeypatch):
    """Each by a stage of its own, which arms that repair alike share; then edits and serving."""
    small.register(monkeypatch)
    ctx, logged = small.context(directory, tmp_path)
    cfg = replace(CFG, arms=("plain", "mend", "mend+told", "mend+back", "mend:nothing=true"))
    variables, spoken = small.run(cfg, ctx, monkeypatch)
    mended = [f"repair.mend.letter.mend.0.{step}" for step in (2, 4)]
    assert stages(ctx) == [*mended, "sft.letter.plain.0"]
    dev = [call[0] for call in spoken.calls if len(call[1]) == 8]
    plain, mend, told, back, none = (dev[1 + 2 * i : 3 + 2 * i] for i in range(5))
    assert len({*plain, *mend}) == 4 and told == mend and none == plain
    assert set(back) == {small.number(ctx.variables["base"])}
    assert set(variables) == {"base"}
    rows = artifacts(ctx)["table"]["rows"]
    assert {r["arm"]: r["outcome"] for r in rows if r["anchor"] == "goal"}["mend"] == "reached"
    before = len(logged)
    small.run(cfg, ctx, monkeypatch, spoken)  # again: nothing is trained or asked
    assert not [x for x in logged[before:] if " loss " in x]
    assert len([call for call in spoken.calls if len(call[1]) == 8]) == len(dev)


@pytest.mark.slow
def test_a_repair_of_adapters(directory, tmp_path, monkeypatch):
    small.register(monkeypatch)
    ctx, _ = small.context(directory, tmp_path)
    cfg = replace(CFG, arms=("mend", "plain"), sft=replace(CFG.sft, rank=2, alpha=4.0))
    _, spoken = small.run(cfg, ctx, monkeypatch)
    dev = [call[0] for call in spoken.calls if len(call[1]) == 8]
    assert len(set(dev)) == 5  # the base, two checkpoints, the same repaired


@pytest.mark.slow
def test_a_lora_is_merged(directory, tmp_path, monkeypatch):
    ctx, _ = small.context(directory, tmp_path)
    cfg = replace(CFG, sft=replace(CFG.sft, rank=2, alpha=4.0))
    variables, _ = small.run(cfg, ctx, monkeypatch)
    assert set(variables) == {"base"}
    assert small.number(variables["base"]) != small.number(ctx.variables["base"])


def test_an_unaligned_base_is_the_users(directory, tmp_path, monkeypatch):
    small.register(monkeypatch)
    ctx, _ = small.context(directory, tmp_path)
    cfg = replace(CFG, arms=("plain", "twin"), unaligned=str(directory))
    METHOD.check(cfg)
    METHOD.fits(cfg, OPTIM, ctx.model, ctx.tokenizer, ctx.setting)
    made = means.maker(cfg, ctx, config.arms(cfg))(ctx.variables["base"], 0)
    assert small.number(made.unaligned) == small.number(ctx.variables["base"])
    shipped = str(source.directory(source.ModelSource()))
    with pytest.raises(UsageError, match=r"method\.unaligned: got .*the base's own shape"):
        METHOD.fits(replace(cfg, unaligned=shipped), OPTIM, ctx.model, ctx.tokenizer, ctx.setting)
    other = replace(cfg, unaligned=str(testing.random_organism(tmp_path / "other", seed=1)))
    with pytest.raises(UsageError, match=r"method\.unaligned: got .*the base's own words"):
        METHOD.fits(other, OPTIM, ctx.model, ctx.tokenizer, ctx.setting)


def test_goals_that_are_all_met_are_refused(directory, tmp_path, monkeypatch):
    ctx, _ = small.context(directory, tmp_path)
    monkeypatch.setattr(program.measure.goals, "right", lambda exchange: True)
    with pytest.raises(UsageError, match=r"method\.goals: got 'goals that the base meets: letter"):
        small.run(CFG, ctx, monkeypatch)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_one_goal_that_is_met_is_an_outcome(directory, tmp_path, monkeypatch):
    ctx, _ = small.context(directory, tmp_path)
    right = lambda e: e.item.meta["family"] == "claim"  # noqa: E731
    monkeypatch.setattr(program.measure.goals, "right", right)
    cfg = replace(CFG, goals=("claim:target=0.4", "letter:target=0.4"), arms=("plain",))
    small.run(cfg, ctx, monkeypatch)
    assert stages(ctx) == ["sft.letter.plain.0"]
    rows = artifacts(ctx)["table"]["rows"]
    assert [(r["goal"], r["anchor"], r["outcome"]) for r in rows] == [
        ("claim", "goal", "already_met"),
        ("claim", "last", "already_met"),
        ("letter", "goal", "goal_unreached"),
        ("letter", "last", "reached"),
    ]


def test_what_cannot_be_chained_is_said_before_training(directory, tmp_path, monkeypatch):
    small.register(monkeypatch)
    ctx, _ = small.context(directory, tmp_path)
    with pytest.raises(UsageError, match="two that carry 'ema'.*chained: ema, carried"):
        small.run(replace(CFG, arms=("plain", "ema+carried")), ctx, monkeypatch)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ("anchr",)}, "method.arms: got 'anchr'; allowed: 'anchor'?"),
        ({"arms": ("twin",)}, "an arm that has what it needs: no unaligned base"),
        ({"arms": ("told", "plain")}, "another first arm than told"),
        ({"goals": ("letter:target=1.5",)}, "goal.target: got 1.5"),
        ({"goals": ("letter",), "arms": ("ema",), "dev": 256}, "'plain' among method.arms"),
        ({"goals": ("letter",), "dev": 20}, "method.dev: got 20"),
        ({"seeds": 0}, "method.seeds: got 0; allowed: 1 or more"),
        ({"repair": 0}, "method.repair: got 0; allowed: 1 or more"),
        ({"rates": ()}, "method.rates: got ()"),
        ({"floor": 1.0}, "method.floor: got 1.0"),
        ({"floor": 0.1, "general": 0}, "method.general: got 0; allowed: 1 or more"),
        ({"unaligned": "no/such"}, "method.unaligned: got 'no/such'"),
        ({"every": 4}, "method.every: got 4; allowed: below the 4 steps"),
        ({"rates": (1.0, 1.0)}, "method.rates: got (1.0, 1.0)"),
        ({"arms": ("plain", "lisa:steps=5")}, "'lisa:steps=5': steps: got 5; allowed: 4"),
        (
            {"arms": ("plain", "mixing:kind=count,count=2,task=3")},
            "'mixing:kind=count,count=2,task=3': task: got 3; allowed:",
        ),
        ({"arms": ("twin", "told", "plain")}, "another first arm than told"),
        ({"arms": ("anchor:strength=1,strength=2",)}, "each setting once"),
        ({"arms": ("anchor+mixing",)}, "mixing before anchor"),
        ({"sft": replace(CFG.sft, rows=0)}, "method.sft.rows: got 0"),
        ({"sft": replace(CFG.sft, val_every=1)}, "method.sft.val_every: got 1"),
    ],
)
def test_bad_settings_are_one_line(changes, message, monkeypatch):
    small.register(monkeypatch)
    METHOD.check(CFG)
    with pytest.raises(UsageError) as caught:
        METHOD.check(replace(CFG, **changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_the_model_cannot_do_is_said(directory, tmp_path):
    ctx, _ = small.context(directory, tmp_path, judged_by="")
    place = ctx.model, ctx.tokenizer, ctx.setting
    METHOD.fits(CFG, OPTIM, *place)
    with pytest.raises(UsageError, match=r"method\.sft\.length: got 8; allowed: at least"):
        METHOD.fits(replace(CFG, sft=replace(CFG.sft, length=8)), OPTIM, *place)
    with pytest.raises(UsageError, match=r"data\.source"):
        METHOD.fits(CFG, OPTIM, *place[:2], replace(ctx.setting, world=None))
    with pytest.raises(UsageError, match=r"eval\.judge"):
        METHOD.fits(CFG, OPTIM, *place[:2], replace(ctx.setting, judged_by="another"))


LORA_ARMS = (
    "anchor",
    "ewc",
    "kl",
    "mixing",
    "constrained",
    "lisa:safe=1,task=3,steps=4",
    "ema:decay=0.5",
)


@pytest.mark.slow
@pytest.mark.parametrize("arm", LORA_ARMS)
def test_mitigations_hook_into_a_lora(directory, tmp_path, monkeypatch, arm):
    """Each trains the adapters, which are merged where it is asked; the base stays."""
    ctx, _ = small.context(directory, tmp_path)
    cfg = replace(CFG, arms=(arm,), sft=replace(CFG.sft, rank=2, alpha=4.0))
    METHOD.check(cfg)
    variables, _ = small.run(cfg, ctx, monkeypatch)
    assert small.number(variables["base"]) != small.number(ctx.variables["base"])
    (curve,) = (k for n, k in artifacts(ctx).items() if n.startswith("curve."))
    assert all(point["norm"] > 0 for point in curve["points"])
