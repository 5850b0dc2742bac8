"""Requests of the OpenAI protocol: what a body may say, and the one shape of an error.

Fields that change an answer and that we do not have are refused rather than ignored; those that
say "as usual" (a penalty of 0, n of 1) are taken. The protocol is the one that lm-eval
(`local-completions`) and inspect_ai (`openai-api`) speak.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.schema import Message
from jaxsafety.protocols import Exchange, Item
from jaxsafety.serving.scores import TOP

STOPS = 16  # stop strings of a request, each of at most
STOP_LENGTH = 256
CHAT, TEXT = "chat.completion", "text_completion"
# Fields that are taken with these values alone.
USUAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (None, 1),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
    "suffix": (None, ""),
    "response_format": (None, {"type": "text"}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "parallel_tool_calls": (None, True, False),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "metadata": (None, {}),
}
SHARED = ("model", "max_tokens", "temperature", "top_p", "n", "stream", "stop", "seed", "user")
SHARED = (*SHARED, "stream_options", "logprobs")
FIELDS = {
    TEXT: (*SHARED, "prompt", "echo"),
    CHAT: (*SHARED, "messages", "max_completion_tokens", "top_logprobs"),
}


@dataclass(frozen=True)
class Limits:
    """Of a request and of the server.

    Attributes:
      body: bytes of a request.
      prompts: prompts times answers of a request.
      answer: tokens of a chat answer where the request names no number.
      rows: requests that are answered at once.
      queue: that may wait beside them.
    """

    body: int = 4 << 20
    prompts: int = 128
    answer: int = 512
    rows: int = 16
    queue: int = 512

    def __post_init__(self) -> None:
        """Rejects what serves nobody."""
        for name in ("body", "prompts", "answer", "rows", "queue"):
            if getattr(self, name) < 1:
                raise bad(f"serve.{name}", getattr(self, name), "1 or more")


class Refusal(Exception):
    """A request that is not answered: an HTTP status and a line."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None):
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def body(self) -> dict[str, Any]:
        """The error object, the same for every refusal."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        told = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": told}


@dataclass(frozen=True)
class Wish:
    """What a request asks for.

    Attributes:
      kind: `CHAT` or `TEXT`.
      model: its name; "" is the first one.
      prompts: texts or token ids; of a chat its messages.
      most: tokens of an answer; None is what the server gives.
      temperature: 0 is greedy.
      top_p: 1 is off.
      answers: to each prompt.
      stream: whether pieces are sent as they come.
      usage: whether the last piece of a stream tells the tokens.
      stops: strings that end an answer.
      seed: of the random numbers.
      top: how many likely tokens are told beside each; None: no log-probabilities.
      echo: whether the prompt is part of the answer.
    """

    kind: str
    model: str
    prompts: tuple[Any, ...]
    most: int | None
    temperature: float
    top_p: float
    answers: int
    stream: bool
    usage: bool
    stops: tuple[str, ...]
    seed: int
    top: int | None
    echo: bool


def read(raw: bytes) -> dict[str, Any]:
    """A body as an object.

    Raises:
      Refusal: it is none, or says a number that JSON does not have.
    """

    def never(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number of JSON")

    try:
        found = json.loads(raw, parse_constant=never)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refusal(400, f"body: not JSON ({why[:200]})", "invalid_json") from None
    if not isinstance(found, dict):
        raise Refusal(400, f"body: got {type(found).__name__}; allowed: an object", "invalid_json")
    return found


def parse(kind: str, body: Mapping[str, Any], limits: Limits) -> Wish:
    """What a body asks for.

    Raises:
      Refusal: a field that we do not know, or a value out of range.
    """
    try:
        return _parse(kind, body, limits)
    except UsageError as error:
        field = str(error).partition(":")[0]
        raise Refusal(400, str(error), "invalid_value", field) from None


def parse_exchange(body: Mapping[str, Any]) -> Exchange:
    """A chat and the answer to it, of {"messages", "response"}.

    Raises:
      Refusal: it is neither.
    """
    try:
        (messages,) = _messages(body)
        response = body.get("response")
        if not isinstance(response, str) or set(body) - {"messages", "response"}:
            raise bad("response", _short(response), "a text, beside messages alone")
    except UsageError as error:
        field = str(error).partition(":")[0]
        raise Refusal(400, str(error), "invalid_value", field) from None
    turns = tuple(Message(m["role"], m["content"]) for m in messages)
    return Exchange(Item("page", turns, {}), response)


def _parse(kind: str, body: Mapping[str, Any], limits: Limits) -> Wish:
    for name, value in body.items():
        if name in USUAL:
            if not any(value == usual and type(value) is type(usual) for usual in USUAL[name]):
                if not (value == 0 and 0 in USUAL[name] and not isinstance(value, bool)):
                    raise bad(name[:40], _short(value), "what is usual: we have no such setting")
        elif name not in FIELDS[kind]:
            raise bad("field", name[:40], ", ".join(FIELDS[kind]))
    chat = kind == CHAT
    most = _whole(body, "max_tokens", None, 0)
    if chat and body.get("max_completion_tokens") is not None:
        most = _whole(body, "max_completion_tokens", None, 0)
    if most is None and not chat:
        most = 16  # the protocol's own
    top, echo = _top(body, chat), _flag(body, "echo")
    if most == 0 and not echo:
        raise bad("max_tokens", 0, "1 or more, or 0 with echo")
    answers = _whole(body, "n", 1, 1)
    prompts = _messages(body) if chat else _prompts(body)
    if len(prompts) * answers > limits.prompts:
        given = f"{len(prompts)} with {answers} answers each"
        raise bad("messages" if chat else "prompt", given, f"{limits.prompts} answers at most")
    stream = _flag(body, "stream")
    if stream and (echo or (top is not None and not chat)):
        raise bad("stream", True, "false with echo or logprobs")
    if stream and top is not None:
        raise bad("stream", True, "false with logprobs")
    return Wish(
        kind=kind,
        model=_text(body, "model"),
        prompts=prompts,
        most=most,
        temperature=_real(body, "temperature", 1.0, 0.0, math.inf),
        top_p=_real(body, "top_p", 1.0, 0.0, 1.0),
        answers=answers,
        stream=stream,
        usage=_usage(body),
        stops=_stops(body),
        seed=_seed(body),
        top=top,
        echo=echo,
    )


def _short(value: Any) -> Any:
    text = repr(value)
    return value if len(text) <= 80 else text[:80] + "..."


def _whole(body: Mapping[str, Any], name: str, usual: Any, least: int) -> Any:
    value = body.get(name)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise bad(name, _short(value), f"a whole number, {least} or more")
    return value


def _seed(body: Mapping[str, Any]) -> int:
    """The request's, or a new one: asked twice without a seed, a question has two answers."""
    value = body.get("seed")
    if value is None:
        return secrets.randbits(31)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise bad("seed", _short(value), "a whole number of 32 bits, 0 or more")
    return value


def _real(body: Mapping[str, Any], name: str, usual: float, least: float, most: float) -> float:
    value = body.get(name)
    if value is None:
        return usual
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most or value > 1e6 or (name == "top_p" and value == 0):
        allowed = "in (0, 1]" if name == "top_p" else "a number, 0 or more"
        raise bad(name, _short(value), allowed)
    return float(value)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad(name, _short(value), "true or false")
    return bool(value)


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise bad(name, _short(value), "a text")
    return value or ""


def _usage(body: Mapping[str, Any]) -> bool:
    value = body.get("stream_options")
    if value is None:
        return False
    if not isinstance(value, dict) or set(value) - {"include_usage"}:
        raise bad("stream_options", _short(value), "include_usage")
    return _flag(value, "include_usage")


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > STOPS:
        raise bad("stop", _short(value), f"a text or a list of {STOPS} at most")
    for text in texts:
        if not isinstance(text, str) or not 0 < len(text) <= STOP_LENGTH:
            raise bad("stop", _short(text), f"texts of 1 to {STOP_LENGTH} characters")
    return tuple(texts)


def _top(body: Mapping[str, Any], chat: bool) -> int | None:
    if chat:
        wanted, count = _flag(body, "logprobs"), _whole(body, "top_logprobs", 0, 0)
        if count and not wanted:
            raise bad("top_logprobs", count, "nothing without logprobs")
        found = count if wanted else None
    else:
        found = _whole(body, "logprobs", None, 0)
    if found is not None and found > TOP:
        raise bad("top_logprobs" if chat else "logprobs", found, f"0 to {TOP}")
    return found


def _prompts(body: Mapping[str, Any]) -> tuple[Any, ...]:
    """Texts, or lists of ids; one of either is a list of one."""
    value = body.get("prompt")
    allowed = "a text, token ids, or a list of one of both"
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise bad("prompt", _short(value), allowed)
    if all(_is_id(x) for x in value):
        value = [value]
    for one in value:
        ids = isinstance(one, list) and all(map(_is_id, one))
        if not (isinstance(one, str) or ids) or type(one) is not type(value[0]):
            raise bad("prompt", _short(one), allowed)
        if not one:
            raise bad("prompt", one, "1 token or more: an empty prompt has nothing to go on from")
    return tuple(value)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _messages(body: Mapping[str, Any]) -> tuple[Any, ...]:
    """A chat, as one prompt: a list of {"role", "content"}."""
    value = body.get("messages")
    if not isinstance(value, list) or not value:
        raise bad("messages", _short(value), "a list of one message or more")
    found = []
    for message in value:
        if not isinstance(message, dict):
            raise bad("messages", _short(message), "objects with role and content")
        role, content = message.get("role"), message.get("content")
        lost = sorted(set(message) - {"role", "content", "name"})
        if any(message[name] for name in lost):
            raise bad("messages", lost[0][:40], "role and content")
        if isinstance(content, list):
            content = _joined(content)
        if role == "developer":
            role = "system"
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            allowed = "role system, user or assistant, and a content of text"
            raise bad("messages", _short(message), allowed)
        found.append({"role": role, "content": content})
    if found[-1]["role"] != "user":
        raise bad("messages", f"last role {found[-1]['role']}", "user: the answer comes next")
    return (found,)


def _joined(parts: list[Any]) -> str:
    for part in parts:
        text = isinstance(part, dict) and part.get("type") == "text"
        if not text or not isinstance(part.get("text"), str):
            raise bad("messages", _short(part), "parts of type text")
    return "".join(part["text"] for part in parts)
