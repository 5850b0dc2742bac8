"""A chat model behind an OpenAI-compatible endpoint: asked with patience, once, within a budget.

`POST URL/chat/completions` with model, messages, temperature 0 and max_tokens; of the reply
`choices[0].message.content` is read. A reply is kept in a sqlite file under the sha256 of model,
messages and settings, so that judging again costs nothing and a kill loses no answer that was paid
for. 408, 409, 429 and 5xx, and a connection that fails, are tried again with growing pauses
(`Retry-After` is minded); what cannot be had is None with a cause, and an endpoint that answers
nobody ends the work in one line. The key is read from the environment (`OPENAI_API_KEY`) and goes
nowhere else.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.core.errors import bad

AGAIN = (408, 409, 429, 500, 502, 503, 504, 529)
REFUSED = (400, 401, 403, 404, 405)  # nobody will be answered: the key, the model or the path
IN_A_ROW = 5  # failures after which the endpoint counts as dead
KEY = "OPENAI_API_KEY"
LONGEST = 60.0  # seconds that an endpoint may ask to wait


class Reply(NamedTuple):
    """text: what the model said; None, with the cause, where nothing could be had."""

    text: str | None
    cause: str = ""


@dataclass
class Endpoint:
    """One model at one place, and what was asked of it so far.

    Attributes:
      url: up to and without "/chat/completions".
      model: as the endpoint calls it.
      cache: sqlite file of replies.
      calls: how many may be made in all; what is in the cache costs none.
      retries: of one question.
      pause: seconds before the first of them; each waits twice as long.
      timeout: seconds of one call.
      max_tokens: of a reply.
      sleep: how to wait.
      made: calls so far.
    """

    url: str
    model: str
    cache: Path
    calls: int = 2000
    retries: int = 4
    pause: float = 1.0
    timeout: float = 120.0
    max_tokens: int = 512
    sleep: Callable[[float], None] = time.sleep
    made: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)

    def ask(self, messages: Sequence[dict[str, str]]) -> Reply:
        """What the model says to a dialogue, from the cache where it was asked before.

        Raises:
          UsageError: the endpoint refuses the key, the model or the path, or has answered nobody
            several times in a row.
        """
        body = {
            "model": self.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        name = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        with closing(_open(self.cache)) as store:
            row = store.execute("SELECT text FROM replies WHERE name = ?", (name,)).fetchone()
            if row is not None:
                return Reply(row[0])
            reply = self._call(body)
            if reply.text is not None:
                with store:
                    store.execute(
                        "INSERT OR REPLACE INTO replies VALUES (?, ?)", (name, reply.text)
                    )
        return reply

    def _call(self, body: dict[str, Any]) -> Reply:
        cause = ""
        for attempt in range(self.retries + 1):
            if self.made >= self.calls:
                return Reply(None, f"the budget of {self.calls} calls is spent")
            self.made += 1
            wait = self.pause * 2**attempt
            try:
                text = _content(self._post(body))
            except urllib.error.HTTPError as error:
                cause = f"the endpoint answered {error.code}"
                if error.code in REFUSED:
                    raise bad("judge endpoint", f"{self.url}: {cause}", self._allowed()) from None
                if error.code not in AGAIN:
                    break
                wait = max(wait, _seconds(error.headers.get("Retry-After")))
            except (OSError, http.client.HTTPException) as error:
                cause = f"no connection ({type(error).__name__})"
            except ValueError as error:  # HTML, or JSON of another form: asking again may help
                cause = str(error)
            else:
                self.failed = 0
                return Reply(text)
            if attempt < self.retries:
                self.sleep(wait)
        self.failed += 1
        if self.failed >= IN_A_ROW:
            given = f"{self.url}: {cause}, {self.failed} questions in a row"
            raise bad("judge endpoint", given, "an endpoint that answers; replies so far are kept")
        return Reply(None, cause)

    def _post(self, body: dict[str, Any]) -> bytes:
        request = urllib.request.Request(
            f"{self.url}/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **_authorisation()},
        )
        with urllib.request.urlopen(request, timeout=self.timeout) as reply:
            return reply.read()

    def _allowed(self) -> str:
        return f"an endpoint that knows the model {self.model!r}, and {KEY} where it asks for a key"


def parse(name: str, where: str) -> tuple[str, str]:
    """(URL, model) of `URL#MODEL`.

    Raises:
      UsageError: another form.
    """
    url, _, model = where.partition("#")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or not model.strip():
        allowed = f"{name}=URL#MODEL, such as http://localhost:8000/v1#my-model"
        raise bad(f"judge {name}", where or "nothing", allowed)
    url = url.rstrip("/").removesuffix("/chat/completions")
    return url, model.strip()


def default_cache() -> Path:
    """Where replies are kept: under XDG_CACHE_HOME, else ~/.cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "jaxsafety" / "replies.sqlite"


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store = sqlite3.connect(path, timeout=60)
        with store:
            store.execute("CREATE TABLE IF NOT EXISTS replies (name TEXT PRIMARY KEY, text TEXT)")
    except (sqlite3.Error, OSError) as error:
        raise bad("judge cache", f"{path} ({error})", "a sqlite file that can be written") from None
    return store


def _authorisation() -> dict[str, str]:
    key = os.environ.get(KEY, "")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _content(reply: bytes) -> str:
    """The answer's text.

    Raises:
      ValueError: what the reply is instead.
    """
    try:
        text = json.loads(reply)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise ValueError("the endpoint's reply is no chat completion") from None
    if not isinstance(text, str):
        raise ValueError("the endpoint's reply has no text")
    return text


def _seconds(given: str | None) -> float:
    """Of a Retry-After in seconds; dates and nonsense are 0."""
    try:
        seconds = float(given or 0)
    except ValueError:
        return 0.0
    return min(seconds, LONGEST) if seconds > 0 else 0.0
