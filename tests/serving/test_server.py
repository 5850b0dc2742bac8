"""The endpoint over the protocol: answers are those of `sample`, refusals are one object."""

from __future__ import annotations

import asyncio
import json

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety
from jaxsafety import protocols
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.losses.logprobs import token_logp
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import SampleConfig, Served

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from jaxsafety.serving.batcher import Batcher
from jaxsafety.serving.protocol import Limits
from jaxsafety.serving.server import Server

QUESTION = [{"role": "user", "content": "what is 11 plus 10 ?"}]
ASKED = ["what is 11 plus 10 ?", "what is 7 plus 5 ?", "tell me about the sea"]


@pytest.fixture(scope="module")
def loaded():
    return jaxsafety.load()


@pytest.fixture(scope="module")
def batcher(loaded):
    model, params, tokenizer = loaded
    what = Served(params, LayerInputs(), "all", encode_prompt)
    made = Batcher(model, tokenizer, what, rows=4, queue=64, context=96)
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(batcher):
    server = Server({"organism": batcher}, Limits(body=20_000, prompts=8, answer=24))
    return TestClient(server.app(), raise_server_exceptions=True)


def alone(loaded, ids, most, seed=0, temperature=0.0, top_p=1.0):
    """What `sample` says: (text, ids, finished)."""
    model, params, tokenizer = loaded
    cfg = SampleConfig(most, temperature, top_p, stop=tuple(tokenizer.eos_ids))
    [[answer]] = jaxsafety.generate(model, params, tokenizer, [ids], cfg, seed=seed)
    return tokenizer.decode(answer.ids), answer.ids, answer.finished


def chat(client, **body):
    return client.post("/v1/chat/completions", json={"messages": QUESTION, **body})


def complete(client, **body):
    return client.post("/v1/completions", json=body)


def streamed(response):
    lines = [x.removeprefix("data: ") for x in response.text.split("\n\n") if x]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_chat_answer_is_that_of_sample_whole_and_in_pieces(client, loaded, temperature):
    settings = {"temperature": temperature, "seed": 3, "max_tokens": 24}
    text, ids, finished = alone(loaded, encode_prompt(loaded[2], QUESTION), 24, 3, temperature)
    told = chat(client, **settings).json()
    (choice,) = told["choices"]
    assert choice["message"] == {"role": "assistant", "content": text}
    assert choice["finish_reason"] == ("stop" if finished else "length")
    assert told["usage"]["completion_tokens"] == len(ids)
    pieces = streamed(chat(client, stream=True, stream_options={"include_usage": True}, **settings))
    assert pieces[-1]["usage"] == told["usage"]
    deltas = [piece["choices"][0] for piece in pieces[:-1]]
    assert "".join(d["delta"].get("content", "") for d in deltas) == text
    assert [d["finish_reason"] for d in deltas if d["finish_reason"]] == [choice["finish_reason"]]
    assert {piece["object"] for piece in pieces} == {"chat.completion.chunk"}


def test_several_prompts_and_answers_are_each_their_own(client, loaded):
    prompts = [encode_prompt(loaded[2], [{"role": "user", "content": text}]) for text in ASKED]
    told = complete(client, prompt=prompts, max_tokens=12, temperature=0.9, seed=5, n=2).json()
    assert [choice["index"] for choice in told["choices"]] == list(range(6))
    model, params, tokenizer = loaded
    cfg = SampleConfig(12, 0.9, stop=tuple(tokenizer.eos_ids))
    for number, ids in enumerate(prompts):
        [both] = jaxsafety.generate(model, params, tokenizer, [ids], cfg, seed=5, samples=2)
        said = [choice["text"] for choice in told["choices"][2 * number : 2 * number + 2]]
        assert said == [tokenizer.decode(answer.ids) for answer in both]


def test_the_echo_has_the_log_probabilities_of_token_logp_and_one_token_more(client, loaded):
    """What lm-eval asks for; the likeliest token's number is the token's own."""
    model, params, tokenizer = loaded
    ids = encode_prompt(tokenizer, QUESTION)
    body = {"max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True, "seed": 1234}
    (choice,) = complete(client, prompt=[ids], **body).json()["choices"]
    found = choice["logprobs"]
    assert len(found["token_logprobs"]) == len(found["tokens"]) == len(ids) + 1
    assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
    text, said, _ = alone(loaded, ids, 1)
    whole = jnp.array([[*ids, *said]])
    hidden = model.apply(params, whole, jnp.arange(whole.shape[1])[None]).hidden
    right = np.asarray(token_logp(hidden, model.head(params), whole))[0]
    np.testing.assert_allclose(found["token_logprobs"][1:], right[1:], atol=1e-5)
    assert choice["text"].endswith(text)
    best = np.asarray(model.unembed(params, hidden)[0].argmax(-1))
    for place in range(1, len(ids) + 1):
        own, top = found["token_logprobs"][place], found["top_logprobs"][place]
        assert (own == max(top.values())) == (whole[0, place] == best[place - 1])
        assert own in top.values()
    (only,) = complete(client, prompt=ids, **{**body, "max_tokens": 0}).json()["choices"]
    assert only["logprobs"]["token_logprobs"][1:] == found["token_logprobs"][1:-1]


def test_log_probabilities_of_answers(client, loaded):
    ids = encode_prompt(loaded[2], QUESTION)
    model, params, tokenizer = loaded
    cfg = SampleConfig(6, 0.0, stop=tuple(tokenizer.eos_ids))
    [[answer]] = jaxsafety.generate(model, params, tokenizer, [ids], cfg, seed=0)
    told = chat(client, max_tokens=6, temperature=0, logprobs=True, top_logprobs=2).json()
    content = told["choices"][0]["logprobs"]["content"]
    logps = [entry["logprob"] for entry in content]
    np.testing.assert_allclose(logps, answer.logp[: len(logps)], atol=1e-5)
    assert all(len(entry["top_logprobs"]) == 2 for entry in content)
    (choice,) = complete(client, prompt=ids, max_tokens=6, temperature=0, logprobs=2).json()[
        "choices"
    ]
    assert choice["logprobs"]["token_logprobs"] == logps
    assert choice["logprobs"]["text_offset"][0] == 0


def test_a_stop_string_ends_the_text_before_it(client, loaded):
    ids = encode_prompt(loaded[2], QUESTION)
    text, _, _ = alone(loaded, ids, 16)
    stop = text[4:7]
    assert stop.strip()
    told = chat(client, max_tokens=16, temperature=0, stop=[stop, "never said"]).json()
    (choice,) = told["choices"]
    assert choice["message"]["content"] == text[: text.find(stop)]
    assert choice["finish_reason"] == "stop"
    pieces = streamed(chat(client, max_tokens=16, temperature=0, stop=stop, stream=True))
    said = "".join(p["choices"][0]["delta"].get("content", "") for p in pieces)
    assert said == text[: text.find(stop)]


REFUSED = [
    ({"prompt": ""}, 400, "an empty prompt"),
    ({"prompt": []}, 400, "prompt"),
    ({"prompt": [[]]}, 400, "an empty prompt"),
    ({"prompt": ["a", [1]]}, 400, "prompt"),
    ({"prompt": [True]}, 400, "prompt"),
    ({"prompt": [99999]}, 400, "got id 99999"),
    ({"prompt": "a b " * 200}, 400, "at most 96 tokens together"),
    ({"prompt": ["a"] * 9}, 400, "8 answers at most"),
    ({"prompt": "a", "n": 9}, 400, "8 answers at most"),
    ({"prompt": "a", "n": 0}, 400, "n: got 0"),
    ({"prompt": "a", "max_tokens": 97}, 400, "at most 96 tokens together"),
    ({"prompt": "a", "max_tokens": 0}, 400, "max_tokens"),
    ({"prompt": "a", "max_tokens": -1}, 400, "max_tokens"),
    ({"prompt": "a", "max_tokens": 1.5}, 400, "max_tokens"),
    ({"prompt": "a", "temperature": -1}, 400, "temperature"),
    ({"prompt": "a", "temperature": "hot"}, 400, "temperature"),
    ({"prompt": "a", "top_p": 0}, 400, "top_p"),
    ({"prompt": "a", "seed": -1}, 400, "seed"),
    ({"prompt": "a", "stop": [""]}, 400, "stop"),
    ({"prompt": "a", "stop": ["x"] * 17}, 400, "stop"),
    ({"prompt": "a", "logprobs": 6}, 400, "logprobs"),
    ({"prompt": "a", "stream": True, "logprobs": 1}, 400, "stream"),
    ({"prompt": "a", "stream": "yes"}, 400, "stream"),
    ({"prompt": "a", "best_of": 2}, 400, "best_of"),
    ({"prompt": "a", "logit_bias": {"1": 5}}, 400, "logit_bias"),
    ({"prompt": "a", "colour": 1}, 400, "colour"),
    ({"prompt": "a", "model": "other"}, 404, "organism"),
    ({"prompt": "a", "model": 1}, 400, "model"),
    ({"prompt": "\ud800"}, 400, "surrogate"),
]


@pytest.mark.parametrize(("body", "status", "line"), REFUSED)
def test_what_is_refused_is_one_error_object(client, body, status, line):
    told = client.post(
        "/v1/completions", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert told.status_code == status, told.text
    error = told.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and line in error["message"]
    assert "\n" not in error["message"] and len(error["message"]) < 500


@pytest.mark.parametrize(
    ("messages", "line"),
    [
        ([], "one message or more"),
        ("hello", "one message or more"),
        ([{"role": "tool", "content": "a"}], "role system, user or assistant"),
        ([{"role": "user"}], "content of text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "parts of type text"),
        ([{"role": "user", "content": "a", "tool_calls": [1]}], "tool_calls"),
        ([*QUESTION, {"role": "assistant", "content": "a"}], "last role"),
    ],
)
def test_messages_that_are_none(client, messages, line):
    told = client.post("/v1/chat/completions", json={"messages": messages})
    assert told.status_code == 400 and line in told.json()["error"]["message"]


def test_bodies_that_are_none(client):
    headers = {"content-type": "application/json"}
    for raw, status, line in (
        (b"", 400, "not JSON"),
        (b"[1]", 400, "an object"),
        (b'{"prompt": "a", "temperature": NaN}', 400, "NaN"),
        (b"[" * 19_000, 400, "nested too deeply"),
        (b'{"prompt": "\xff"}', 400, "not JSON"),
        (b'{"prompt": "' + b"a" * 20_000 + b'"}', 413, "20000 bytes"),
        (b'{"prompt": "a", "seed": 1' + b"0" * 5_000 + b"}", 400, ""),
    ):
        told = client.post("/v1/completions", content=raw, headers=headers)
        assert told.status_code == status and line in told.json()["error"]["message"], raw[:30]
    plain = client.post("/v1/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert plain.status_code == 415
    for path, status in (("/v1/other", 404), ("/v1/completions", 405)):
        told = client.get(path)
        assert told.status_code == status and told.json()["error"]["code"] == "no_such_route"


def test_fields_that_say_as_usual_are_taken(client):
    told = chat(
        client,
        max_completion_tokens=2,
        temperature=0,
        presence_penalty=0.0,
        frequency_penalty=0,
        n=1,
        user="somebody",
        response_format={"type": "text"},
        logit_bias={},
        stop=None,
    )
    assert told.status_code == 200 and told.json()["usage"]["completion_tokens"] <= 2


def test_a_token_and_a_host_are_asked_for(batcher):
    server = Server({"organism": batcher}, token="secret", hosts=("testserver",))
    client = TestClient(server.app())
    assert client.get("/health").status_code == 200
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
        told = client.get("/v1/models", headers=header)
        assert told.status_code == 401 and "bearer token" in told.json()["error"]["message"]
    right = {"authorization": "Bearer secret"}
    assert client.get("/v1/models", headers=right).json()["data"][0]["id"] == "organism"
    told = client.get("/v1/models", headers={**right, "host": "elsewhere.example:80"})
    assert told.status_code == 403


def test_a_full_queue_is_said_and_loses_nothing(loaded):
    model, params, tokenizer = loaded
    what = protocols.Served(params, LayerInputs(), "all", encode_prompt)
    small = Batcher(model, tokenizer, what, rows=2, queue=3, context=96)
    try:
        import httpx

        async def ask():
            server = Server({"organism": small})
            transport = httpx.ASGITransport(app=server.app())
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as c:
                body = {"messages": QUESTION, "max_tokens": 8, "temperature": 0}
                asked = [c.post("/v1/chat/completions", json=body) for _ in range(40)]
                return await asyncio.gather(*asked)

        told = asyncio.run(ask())
        codes = [answer.status_code for answer in told]
        assert set(codes) == {200, 429} and small.load == (0, 0)
        texts = {a.text for a in told if a.status_code == 200}
        said = {json.loads(text)["choices"][0]["message"]["content"] for text in texts}
        assert len(said) == 1
        assert told[codes.index(429)].headers["retry-after"] == "1"
    finally:
        small.close()
