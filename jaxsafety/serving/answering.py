"""From a request to tickets, and from tokens to the protocol's answer, whole or in pieces."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxsafety.core.errors import UsageError
from jaxsafety.data.tokens.growing import Growing
from jaxsafety.serving.batcher import FAILED, LENGTH, STOP, Ask, Batcher, Busy, Ticket
from jaxsafety.serving.protocol import CHAT, Limits, Refusal, Wish
from jaxsafety.serving.scores import Scored


@dataclass(eq=False)
class Choice:
    """One answer that is being made.

    Attributes:
      index: of it, among all of the request.
      prompt: what it answers.
      text: what it has said.
      ticket: of the batcher; None where the prompt's scores say all.
      heard: what the ticket tells.
      end: why it ended.
      scored: of prompt and answer, where log-probabilities are asked for.
    """

    index: int
    prompt: Prompt
    text: Growing
    ticket: Ticket | None
    heard: asyncio.Queue[tuple[int, float, str]]
    end: str = ""
    scored: Scored | None = None


class Prompt(NamedTuple):
    """Token ids, how many tokens the answer may have, and the text where one was given."""

    ids: list[int]
    most: int
    text: str | None


def prepare(wish: Wish, batcher: Batcher, limits: Limits) -> list[Prompt]:
    """Every prompt of a request.

    Raises:
      Refusal: a prompt that cannot be rendered or does not fit.
    """
    found = []
    try:
        for prompt in wish.prompts:
            ids = _encoded(wish, prompt, batcher)
            most = wish.most
            if most is None:
                most = max(1, min(limits.answer, batcher.context - len(ids)))
            batcher.check(len(ids), most)
            found.append(Prompt(ids, most, prompt if isinstance(prompt, str) else None))
    except UsageError as error:
        name = "messages" if wish.kind == CHAT else "prompt"
        raise Refusal(400, str(error), "invalid_value", name) from None
    return found


def _encoded(wish: Wish, prompt: Any, batcher: Batcher) -> list[int]:
    tokenizer = batcher.tokenizer
    if wish.kind == CHAT:
        return list(batcher.what.encode(tokenizer, prompt))
    if isinstance(prompt, str):  # no token is added: log-likelihoods are cut by the caller's count
        return list(tokenizer.encode(prompt))
    vocabulary = batcher.model.config.vocab_size
    wrong = next((i for i in prompt if i >= vocabulary), None)
    if wrong is not None:
        raise Refusal(400, f"prompt: got id {wrong}; allowed: 0..{vocabulary - 1}", "invalid_value")
    return list(prompt)


class Answering:
    """A request in the works."""

    def __init__(self, wish: Wish, prompts: Sequence[Prompt], batcher: Batcher):
        """Nothing is asked yet."""
        self.wish, self.batcher = wish, batcher
        # One greedy token with log-probabilities is what the scores of its prompt say.
        greedy = wish.temperature == 0 and wish.top is not None and wish.answers == 1
        self._scored_only = (
            greedy and all(prompt.most <= 1 for prompt in prompts) and not wish.stops
        )
        self.choices = [
            Choice(
                index * wish.answers + sample,
                prompt,
                Growing(batcher.tokenizer, wish.stops, strip=False),
                self._ticket(prompt, sample),
                asyncio.Queue(),
            )
            for index, prompt in enumerate(prompts)
            for sample in range(wish.answers)
        ]
        self.prompted = sum(len(prompt.ids) for prompt in prompts)
        self.id = f"{'chatcmpl' if wish.kind == CHAT else 'cmpl'}-{uuid.uuid4().hex[:24]}"
        self.made = int(time.time())

    def _ticket(self, prompt: Prompt, sample: int) -> Ticket | None:
        if self._scored_only or prompt.most == 0:
            return None
        wish, knobs = self.wish, (self.wish.temperature, self.wish.top_p)
        return Ticket(prompt.ids, prompt.most, _nobody, *knobs, seed=wish.seed, sample=sample)

    def begin(self) -> None:
        """Puts all its tickets into the queue.

        Raises:
          Refusal: there is no room.
        """
        loop = asyncio.get_running_loop()
        tickets: list[Ticket | Ask] = []
        for choice in self.choices:
            if choice.ticket is not None:
                choice.ticket.tell = _into(loop, choice.heard)
                tickets.append(choice.ticket)
        self._submit(tickets)

    def _submit(self, tickets: Sequence[Ticket | Ask]) -> None:
        try:
            if tickets:
                self.batcher.submit(tickets)
        except Busy:
            raise Refusal(429, "the queue is full: ask again later", "queue_full") from None

    def cancel(self) -> None:
        """Nobody waits any more."""
        for choice in self.choices:
            if choice.ticket is not None:
                choice.ticket.cancel()

    async def pieces(self, choice: Choice) -> AsyncIterator[str]:
        """What an answer says, as it is settled; `choice.end` is set at its end.

        Raises:
          Refusal: the model failed.
        """
        assert choice.ticket is not None
        while not choice.end:
            token, _, end = await choice.heard.get()
            piece = choice.text.add(token) if token >= 0 else ""
            if choice.text.stopped:
                choice.ticket.cancel()
                end = STOP
            elif end in (STOP, LENGTH):
                piece += choice.text.end()
                end = STOP if choice.text.stopped else end
            elif end:
                raise _failed(end)
            if piece:
                yield piece
            choice.end = end

    async def whole(self) -> dict[str, Any]:
        """The answer as one object.

        Raises:
          Refusal: the model failed, or there is no room for scores.
        """
        try:
            for choice in self.choices:
                if choice.ticket is None:
                    continue
                async for _ in self.pieces(choice):
                    pass
            if self.wish.top is not None:
                await self._score()
        except BaseException:
            self.cancel()
            raise
        return self._object([self._told(choice) for choice in self.choices])

    async def _score(self) -> None:
        heard: list[asyncio.Queue[Scored | None]] = [asyncio.Queue() for _ in self.choices]
        loop = asyncio.get_running_loop()
        asks: list[Ticket | Ask] = [
            Ask([*choice.prompt.ids, *choice.text.ids], _into_one(loop, queue))
            for choice, queue in zip(self.choices, heard, strict=True)
        ]
        self._submit(asks)
        for choice, queue in zip(self.choices, heard, strict=True):
            choice.scored = await queue.get()
            if choice.scored is None:
                raise _failed(FAILED)
            if choice.ticket is None and self.wish.most != 0:
                self._first_of(choice)
        return

    def _first_of(self, choice: Choice) -> None:
        """The one greedy token, from the scores; a stop id is told and not said."""
        assert choice.scored is not None
        token, logp = choice.scored.next[0]
        choice.scored.logp.append(logp)
        choice.scored.top.append(choice.scored.next)
        choice.end = STOP if token in self.batcher.tokenizer.eos_ids else LENGTH
        choice.text.ids = [token]
        if choice.end == LENGTH:
            choice.text.said = self.batcher.tokenizer.decode([token])

    def _object(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.head(), "choices": choices, "usage": self.usage()}

    def head(self, piece: bool = False) -> dict[str, Any]:
        """What every answer and every piece of it begins with."""
        kind = f"{CHAT}.chunk" if piece and self.wish.kind == CHAT else self.wish.kind
        told = {"id": self.id, "object": kind, "created": self.made, "model": self.wish.model}
        return {**told, "seed": self.wish.seed}

    def usage(self) -> dict[str, int]:
        """Tokens of prompts and answers, stop tokens not counted."""
        said = sum(len(choice.text.ids) for choice in self.choices)
        whole = self.prompted + said
        return {
            "prompt_tokens": self.prompted,
            "completion_tokens": said,
            "total_tokens": whole,
        }

    def _told(self, choice: Choice) -> dict[str, Any]:
        text, tokenizer = choice.text.said, self.batcher.tokenizer
        base = {"index": choice.index, "finish_reason": choice.end or LENGTH}
        if self.wish.kind == CHAT:
            told = {**base, "message": {"role": "assistant", "content": text}}
            told["logprobs"] = None if self.wish.top is None else self._chat_logprobs(choice)
            return told
        if self.wish.echo:
            told = choice.prompt.text
            text = (tokenizer.decode(choice.prompt.ids, False) if told is None else told) + text
        return {**base, "text": text, "logprobs": self._logprobs(choice)}

    def _logprobs(self, choice: Choice) -> dict[str, Any] | None:
        """Of the echoed prompt and the answer; nothing is known of a first token."""
        scored, top = choice.scored, self.wish.top
        if scored is None or top is None:
            return None
        ids = [*choice.prompt.ids, *choice.text.ids]
        skip = 0 if self.wish.echo else len(choice.prompt.ids)
        words = [self.batcher.tokenizer.decode([i], skip_special=False) for i in ids]
        logps: list[float | None] = list(scored.logp)
        tops: list[dict[str, float] | None] = [
            self._named(likely[:top], own, logp)
            for own, logp, likely in zip(ids, scored.logp, scored.top, strict=True)
        ]
        logps[0], tops[0] = None, None
        offsets, at = [], 0
        for word in words[skip:]:
            offsets.append(at)
            at += len(word)
        return {
            "tokens": words[skip:],
            "token_logprobs": logps[skip:],
            "top_logprobs": tops[skip:],
            "text_offset": offsets,
        }

    def _named(self, likely: list[tuple[int, float]], own: int, logp: float) -> dict[str, float]:
        """By text, the token itself among them with its very number; two of one text both stay."""
        found: dict[str, float] = {}
        pairs = likely if any(i == own for i, _ in likely) else [*likely, (own, logp)]
        for token, value in pairs:
            name = self.batcher.tokenizer.decode([token], skip_special=False)
            value = logp if token == own else value
            found[name if name not in found else f"token_id:{token}"] = value
        return found

    def _chat_logprobs(self, choice: Choice) -> dict[str, Any]:
        assert choice.scored is not None and self.wish.top is not None
        skip, top = len(choice.prompt.ids), self.wish.top

        def entry(token: int, logp: float) -> dict[str, Any]:
            word = self.batcher.tokenizer.decode([token], skip_special=False)
            return {"token": word, "logprob": logp, "bytes": list(word.encode())}

        rows = zip(
            choice.text.ids, choice.scored.logp[skip:], choice.scored.top[skip:], strict=True
        )
        content = [
            {**entry(own, logp), "top_logprobs": [entry(*pair) for pair in likely[:top]]}
            for own, logp, likely in rows
        ]
        return {"content": content}


def _failed(end: str) -> Refusal:
    if end == FAILED:
        return Refusal(500, "the model failed on this batch: ask again", "model_failed")
    return Refusal(503, "the server is shutting down", "closing")


def _nobody(token: int, logp: float, end: str) -> None:
    """A ticket that was not begun tells nobody."""


def _into(loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Any]) -> Any:
    def tell(token: int, logp: float, end: str) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, (token, logp, end))

    return tell


def _into_one(loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Any]) -> Any:
    def tell(scored: Scored | None) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, scored)

    return tell
