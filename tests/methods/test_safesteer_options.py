"""SafeSteer's settings of the published code: openers by id, whose vote it is, prompts cut."""

from __future__ import annotations

import dataclasses

import pytest

from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.system import without_system
from jaxsafety.methods.safesteer import program as safesteer
from jaxsafety.methods.safesteer import teacher
from tests.methods import tiny


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


@pytest.fixture
def ctx(directory, tmp_path):
    return tiny.context(directory, tmp_path)


def direction(**changes):
    return dataclasses.replace(tiny.METHOD.direction, **changes)


def config(**changes):
    return dataclasses.replace(tiny.METHOD, **changes)


def test_openers_may_be_ids(ctx):
    words = teacher.filter_prompts(tiny.METHOD.direction, ctx)
    assert len(words["refusal_ids"]) == 2
    by_id = direction(openers=(), opener_ids=tuple(words["refusal_ids"]))
    assert teacher.filter_prompts(by_id, ctx) == words


def test_openers_are_words_or_ids_of_the_model(ctx):
    with pytest.raises(UsageError, match=r"^method\.direction\.openers, opener_ids: got .*one of"):
        safesteer.check(config(direction=direction(opener_ids=(7,))))
    for number in (-1, ctx.model.config.vocab_size):
        cfg = config(direction=direction(openers=(), opener_ids=(7, number)))
        with pytest.raises(UsageError, match=rf"^method\.direction\.opener_ids: got {number}; "):
            safesteer.fits(cfg, tiny.OPTIM, ctx.model, ctx.tokenizer, ctx.setting)


def test_the_vote_of_the_prompts_that_were_kept(ctx):
    given = ctx.setting.prompts
    assert teacher.voters("val", ctx) == list(given["harmless_val"])
    assert teacher.voters("all", ctx) == [*given["harmless_train"], *given["harmless_val"]]
    with pytest.raises(UsageError, match=r"^method\.tokens\.prompts: got 'kept'; allowed: val"):
        teacher.voters("kept", ctx)
    found = ctx.artifact("filter", lambda: {"kept": {"harmless_val": [0, 2]}})
    assert found["kept"]["harmless_val"] == [0, 2]
    assert teacher.voters("kept", ctx) == [given["harmless_val"][0], given["harmless_val"][2]]


def test_the_program_lets_the_kept_ones_vote(ctx, monkeypatch):
    asked = []
    found = teacher.filter_prompts(tiny.METHOD.direction, ctx)
    found["kept"]["harmless_val"] = [1, 3]  # a random model refuses none of the four
    ctx.artifact("filter", lambda: found)

    def measure(model, params, tokenizer, prompts, *args, **kwargs):
        asked.append(prompts)
        raise InterruptedError

    monkeypatch.setattr(teacher.votes, "measure", measure)
    cfg = config(tokens=dataclasses.replace(tiny.METHOD.tokens, prompts="kept"))
    with pytest.raises(InterruptedError):
        next(safesteer.program(cfg, tiny.OPTIM, ctx))
    items = ctx.setting.prompts["harmless_val"]
    assert asked == [teacher.encode_items(ctx, [items[1], items[3]])]


def test_long_prompts_are_cut_at_the_left_and_counted(directory, tmp_path):
    said = []
    ctx = tiny.context(directory, tmp_path, log=said.append)
    whole = teacher.encode_items(ctx, ctx.setting.prompts["distil"])
    most = sorted(map(len, whole))[2]
    over = sum(len(ids) > most for ids in whole)
    assert 0 < over < len(whole)
    safesteer.rollout_batches(config(max_prompt=most), ctx)
    assert said == [f"{over} of {len(whole)} prompts cut to their last {most} tokens"]
    assert safesteer.cut(whole, most) == [ids[-most:] for ids in whole]
    assert safesteer.cut(whole, 0) == whole
    batch = safesteer.rollout_batches(config(max_prompt=4), ctx)(ctx.variables, 0)
    assert batch.prompt.sum(axis=1).tolist() == [4] * 4
    room = ctx.model.config.max_length - 4
    long = config(max_tokens=room)
    with pytest.raises(UsageError, match=r"data \(distil\): got 'a prompt of"):
        safesteer.fits(long, tiny.OPTIM, ctx.model, ctx.tokenizer, ctx.setting)
    fitting = dataclasses.replace(long, max_prompt=4)
    safesteer.fits(fitting, tiny.OPTIM, ctx.model, ctx.tokenizer, ctx.setting)


def test_stage_a_alone_has_no_system_turn(ctx, monkeypatch):
    template = ctx.tokenizer.chat_template
    own = template.replace(
        "{% for",
        "{% if messages[0].role != 'system' %}{{ '<|user|>that<|end|>' }}{% endif %}{% for",
        1,
    )
    before = [encode_prompt(ctx.tokenizer, [Message("user", "i can not .")])]
    ctx.tokenizer.chat_template = own
    item = ctx.setting.prompts["harmless_val"][0]
    item = item._replace(messages=(Message("user", "i can not ."),))
    bare = teacher.encode_items(ctx, [item], "none")
    assert bare == before != teacher.encode_items(ctx, [item])
    assert bare == [without_system(ctx.tokenizer, item.messages)]
    seen = []
    monkeypatch.setattr(
        teacher.forward, "last_logits", lambda model, params, ids, **kw: seen.append(ids) or 1 / 0
    )
    for system in ("none", "template"):
        with pytest.raises(ZeroDivisionError):
            teacher.filter_prompts(direction(system=system), ctx)
    bare, whole = seen
    assert [len(a) < len(b) for a, b in zip(bare, whole, strict=True)] == [True] * len(whole)
