"""Ten thousand bodies: each is a request we know, or one refusal in one line."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette")

import jaxsafety
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import Served
from jaxsafety.serving.protocol import CHAT, FIELDS, TEXT, USUAL, Limits, Refusal, Wish, parse, read

LIMITS = Limits(body=4096, prompts=8, answer=8)
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["a", "user", "\ud800", 0, 1, 5, 1.0]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={"role": st.sampled_from(["user", "system", "x"]) | ANY, "content": ANY, "name": ANY},
)
GOOD = {
    "prompt": st.text(min_size=1, max_size=5)
    | st.lists(st.integers(0, 300), min_size=1, max_size=5)
    | st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3),
    "messages": st.lists(MESSAGE, max_size=3)
    | st.just([{"role": "user", "content": "what is 1 plus 2 ?"}]),
    "max_tokens": st.integers(0, 6),
    "temperature": st.floats(0, 2),
    "n": st.integers(1, 3),
    "stop": st.text(max_size=2) | st.lists(st.text(max_size=2), max_size=3),
    "logprobs": st.integers(0, 6) | st.booleans(),
}


def bodies(kind):
    values = {name: GOOD.get(name, ANY) | ANY for name in (*FIELDS[kind], *USUAL, "other")}
    needed = "messages" if kind == CHAT else "prompt"
    first = {needed: GOOD[needed]}
    optional = {name: value for name, value in values.items() if name != needed}
    near = st.dictionaries(st.sampled_from(sorted(optional)), st.none(), max_size=4).flatmap(
        lambda names: st.fixed_dictionaries(first | {name: optional[name] for name in names})
    )
    return near | st.dictionaries(st.text(max_size=5), ANY, max_size=3) | ANY


def check(kind, body):
    """Whether it was read; else the refusal is one line."""
    raw = json.dumps(body).encode()
    try:
        wish = parse(kind, read(raw), LIMITS)
    except Refusal as refusal:
        told = refusal.body()["error"]
        json.dumps(told)
        assert 400 <= refusal.status < 500 and "\n" not in told["message"]
        assert told["message"] and len(told["message"]) < 600
        return False
    assert isinstance(wish, Wish) and wish.prompts
    assert len(wish.prompts) * wish.answers <= LIMITS.prompts
    assert wish.temperature >= 0 and 0 < wish.top_p <= 1 and all(wish.stops)
    return True


@pytest.mark.parametrize("kind", [TEXT, CHAT])
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_bodies_are_read_or_refused(kind, data):
    check(kind, data.draw(bodies(kind)))


PLAIN = (None, True, False, 0, 1, 5, -1, 1.0, 0.3, float("nan"), float("inf"), "", "a", "user")
PLAIN = (*PLAIN, "\ud800", "x\ny", 2**70, -(2**70), 300)
CLOSE = {
    "prompt": ("a", "ab c", [1, 2, 300], [0], ["a", "b"], [[1], [2, 3]]),
    "messages": (
        [{"role": "user", "content": "what is 1 plus 2 ?"}],
        [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
        [{"role": "x", "content": "b"}],
    ),
    "max_tokens": range(7),
    "temperature": (0, 0.5, 1, 2.0),
    "n": (1, 2, 3),
    "stop": ("a", "", ["a", "b"], []),
    "logprobs": (0, 1, 6, True, False),
}


def anything(rng, depth=3):
    """A value of any JSON type, nested at most `depth` deep."""
    kind = rng.random() if depth else 0.0
    if kind < 0.6:
        return rng.choice(PLAIN)
    if kind < 0.8:
        return [anything(rng, depth - 1) for _ in range(rng.randrange(4))]
    names = (rng.choice(("role", "content", "a", "")) for _ in range(rng.randrange(4)))
    return {name: anything(rng, depth - 1) for name in names}


def body_of(rng, kind):
    """Half of them are nearly right: what is needed, and some other fields, right or wrong."""
    if rng.random() < 0.2:
        return anything(rng)
    known = sorted({*FIELDS[kind], *USUAL, "other"})
    few = rng.sample(known, rng.choice((0, 0, 1, 1, 2, 4)))
    names = {"messages" if kind == CHAT else "prompt", *few}
    return {
        name: rng.choice(CLOSE[name]) if name in CLOSE and rng.random() < 0.8 else anything(rng)
        for name in sorted(names)
    }


@pytest.mark.parametrize("kind", [TEXT, CHAT])
def test_ten_thousand_bodies(kind):
    """Of a seed each, which makes them in a fiftieth of the time that drawing takes."""
    read_well = 0
    for seed in range(5000):
        body = body_of(random.Random(seed), kind)
        try:
            read_well += check(kind, body)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {body!r}") from error
    assert 500 < read_well < 4500


@given(st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_no_json(raw):
    try:
        assert isinstance(read(raw), dict)
    except Refusal as refusal:
        assert refusal.status == 400


@pytest.fixture(scope="module")
def client():
    from starlette.testclient import TestClient

    from jaxsafety.serving.batcher import Batcher
    from jaxsafety.serving.server import Server

    model, params, tokenizer = jaxsafety.load()
    what = Served(params, LayerInputs(), "all", encode_prompt)
    batcher = Batcher(model, tokenizer, what, rows=4, context=64)
    yield TestClient(Server({"organism": batcher}, LIMITS).app()), batcher
    batcher.close()


@pytest.mark.parametrize("kind", [TEXT, CHAT])
def test_the_server_answers_every_body(client, kind):
    """Also those that were refused later: ids that the model has not, prompts that do not fit."""
    asked, batcher = client
    path = "/v1/chat/completions" if kind == CHAT else "/v1/completions"
    seen = set()

    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def one(data):
        raw = json.dumps(data.draw(bodies(kind)))
        told = asked.post(path, content=raw, headers={"content-type": "application/json"})
        seen.add(told.status_code)
        assert told.status_code in (200, 400, 404, 413), told.text
        if "event-stream" not in told.headers["content-type"]:
            found = told.json()
            assert ("error" in found) == (told.status_code != 200)

    one()
    words = {"messages": [{"role": "user", "content": "hi"}]} if kind == CHAT else {"prompt": "hi"}
    assert asked.post(path, json={**words, "max_tokens": 2}).status_code == 200
    assert 400 in seen and not batcher.counts.failed
    assert batcher.load == (0, 0)
