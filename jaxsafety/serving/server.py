"""The endpoint: routes, limits, the token, streams. What answers is in answering.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jaxsafety.judges.judging import judged
from jaxsafety.protocols import Judge
from jaxsafety.serving.answering import Answering, Choice, prepare
from jaxsafety.serving.batcher import Batcher
from jaxsafety.serving.protocol import (
    CHAT,
    TEXT,
    Limits,
    Refusal,
    Wish,
    parse,
    parse_exchange,
    read,
)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
USUAL = Limits()
NO_JUDGES: Mapping[str, Judge] = MappingProxyType({})
PAGE = Path(__file__).with_name("page.html")
# The page is one file: it loads nothing, and asks nobody but this server.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
POLICY += "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
Handler = Callable[[Request], Awaitable[Response]]


class Server:
    """Models by name behind the routes of the protocol."""

    def __init__(
        self,
        models: Mapping[str, Batcher],
        limits: Limits = USUAL,
        *,
        token: str = "",
        hosts: tuple[str, ...] = (),
        judges: Mapping[str, Judge] = NO_JUDGES,
    ):
        """Args are kept; nothing is started.

        Args:
          models: by the name that requests call them; the first serves requests that name none.
          limits: of requests.
          token: that requests have to bear; "" asks for none.
          hosts: names that a request may call this machine; () takes any. A page of somewhere else
            whose name leads here is kept out by it.
          judges: by name, of the answers on the page.
        """
        self.models, self.limits, self.hosts = dict(models), limits, hosts
        self._token, self._judges = token.encode(), dict(judges)

    def app(self) -> Starlette:
        """The ASGI application; when it ends, so do the batchers."""

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            del app
            yield
            for batcher in self.models.values():
                await run_in_threadpool(batcher.close)

        guarded = self._guarded
        routes = [
            Route("/", _answered(page)),
            Route("/health", _answered(self.health)),
            Route("/judge", guarded(self.judge), methods=["POST"]),
            Route("/v1/models", guarded(self.list_models)),
            Route("/v1/completions", guarded(self.complete(TEXT)), methods=["POST"]),
            Route("/v1/chat/completions", guarded(self.complete(CHAT)), methods=["POST"]),
        ]
        handlers = {HTTPException: _no_such}
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)  # type: ignore[arg-type]

    def _guarded(self, handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            self._check(request)
            return await handler(request)

        return _answered(checked)

    def _check(self, request: Request) -> None:
        host = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]").lower()
        if self.hosts and host not in self.hosts:
            raise Refusal(403, f"host: got {host!r}; allowed: {', '.join(self.hosts)}", "host")
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        kind, _, token = given.partition(b" ")
        right = kind.lower() == b"bearer" and secrets.compare_digest(token.strip(), self._token)
        if self._token and not right:
            raise Refusal(401, "authorization: a bearer token is needed", "invalid_token")

    async def health(self, request: Request) -> Response:
        """Whether it serves, and how much it has to do."""
        del request
        load = {name: batcher.load for name, batcher in self.models.items()}
        told = {name: {"served": a, "waiting": b} for name, (a, b) in load.items()}
        return _json({"status": "ok", "models": told})

    async def list_models(self, request: Request) -> Response:
        """Their names, as the protocol lists them."""
        del request
        data = [
            {"id": name, "object": "model", "owned_by": "jaxsafety", "max_model_len": m.context}
            for name, m in self.models.items()
        ]
        return _json({"object": "list", "data": data, "judges": list(self._judges)})

    async def judge(self, request: Request) -> Response:
        """Every judge's verdict on the answer to a chat."""
        exchange = parse_exchange(read(await self._body(request)))
        told = {
            name: (await run_in_threadpool(judged, judge, [exchange]))[0]
            for name, judge in self._judges.items()
        }
        return _json({"verdicts": {name: _plain(verdict) for name, verdict in told.items()}})

    def complete(self, kind: str) -> Handler:
        """The handler of a kind of request."""

        async def handle(request: Request) -> Response:
            wish = parse(kind, read(await self._body(request)), self.limits)
            wish, batcher = self._model(wish)
            prompts = await run_in_threadpool(prepare, wish, batcher, self.limits)
            answering = Answering(wish, prompts, batcher)
            answering.begin()
            if wish.stream:
                return StreamingResponse(_events(answering), media_type="text/event-stream")
            return _json(await _unless_gone(request, answering))

        return handle

    async def _body(self, request: Request) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # what a page of somewhere else may send without asking
            line = f"content-type: got {kind[:60]!r}; allowed: application/json"
            raise Refusal(415, line, "content_type")
        found = bytearray()
        async for part in request.stream():
            found += part
            if len(found) > self.limits.body:
                line = f"body: got more than {self.limits.body} bytes; allowed: at most that"
                raise Refusal(413, line, "body_too_large")
        return bytes(found)

    def _model(self, wish: Wish) -> tuple[Wish, Batcher]:
        name = wish.model or next(iter(self.models))
        if name not in self.models:
            line = f"model: got {name[:80]!r}; allowed: {', '.join(self.models)}"
            raise Refusal(404, line, "model_not_found", "model")
        return replace(wish, model=name), self.models[name]


async def page(request: Request) -> Response:
    """The page to talk to all models at once."""
    del request
    headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
    return Response(PAGE.read_bytes(), media_type="text/html", headers=headers)


def _plain(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict without what JSON does not have: an unknown flag is null."""
    found: dict[str, Any] = {}
    for name, value in verdict.items():
        if isinstance(value, bool | np.bool_):
            found[name] = bool(value)
        elif isinstance(value, int | float | np.number):
            found[name] = float(value) if np.isfinite(value) else None
        else:
            found[name] = None if value is None else str(value)
    return found


def _json(told: Any, status: int = 200) -> Response:
    """ASCII alone: half of a surrogate pair is no UTF-8, but it can be said in JSON."""
    return Response(json.dumps(told), status, media_type="application/json")


def _refused(refusal: Refusal) -> Response:
    response = _json(refusal.body(), refusal.status)
    if refusal.status == 429:
        response.headers["retry-after"] = "1"
    return response


def _answered(handler: Handler) -> Handler:
    """Refusals as the one error object."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            return _refused(refusal)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it

    return answer


async def _no_such(request: Request, error: HTTPException) -> Response:
    line = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return _refused(Refusal(error.status_code, line, "no_such_route"))


async def _unless_gone(request: Request, answering: Answering) -> dict[str, Any]:
    """The answer; where the client goes away its rows are freed at once."""
    work = asyncio.ensure_future(answering.whole())
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        for task in (work, gone):
            task.cancel()
        answering.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(answering: Answering) -> AsyncIterator[bytes]:
    """Server-sent events of all choices, in the order of their pieces."""
    chat, queue = answering.wish.kind == CHAT, asyncio.Queue()

    async def follow(choice: Choice) -> None:
        try:
            async for piece in answering.pieces(choice):
                await queue.put((choice, piece, None))
            await queue.put((choice, "", choice.end))
        except Refusal as refusal:
            await queue.put((choice, "", refusal))

    tasks = [asyncio.ensure_future(follow(choice)) for choice in answering.choices]
    try:
        if chat:
            for choice in answering.choices:
                yield _event(answering, choice, {"role": "assistant", "content": ""}, None)
        left = len(tasks)
        while left:
            choice, piece, end = await queue.get()
            if isinstance(end, Refusal):
                yield f"data: {json.dumps(end.body())}\n\n".encode()
                left = 0
                break
            left -= end is not None
            yield _event(answering, choice, {"content": piece} if piece else {}, end)
        if answering.wish.usage:
            told = {**answering.head(piece=True), "choices": [], "usage": answering.usage()}
            yield f"data: {json.dumps(told)}\n\n".encode()
        yield b"data: [DONE]\n\n"
    finally:  # also where the client went away in the middle
        answering.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _event(answering: Answering, choice: Choice, delta: dict[str, str], end: str | None) -> bytes:
    told: dict[str, Any] = {"index": choice.index, "finish_reason": end, "logprobs": None}
    if answering.wish.kind == CHAT:
        told["delta"] = delta
    else:
        told["text"] = delta.get("content", "")
    line = json.dumps({**answering.head(piece=True), "choices": [told]})
    return f"data: {line}\n\n".encode()
