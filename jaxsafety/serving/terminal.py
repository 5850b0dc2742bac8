"""The screen of a conversation: commands, answers as they come, Ctrl-C, and marks.

Without a terminal there is nothing but answers on stdout, each when it is whole, so that scripts
can read them; marks and complaints are on stderr.
"""

from __future__ import annotations

import contextlib
import io
import re
import signal
import sys
import threading
from collections.abc import Mapping
from typing import TextIO

from jaxsafety.core import signals
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.serving.chat import Chat, Reply

COMMANDS = {
    "/help": "lists the commands",
    "/reset": "forgets the conversation",
    "/compare": "the model of --compare answers too, or no longer",
    "/quit": "leaves; Ctrl-C does too, but while an answer is said it stops the answer only",
}
PATIENCE = 1.0  # seconds of silence before a reader is told why


class Terminal:
    """Who talks with the models, line by line."""

    def __init__(self, chats: Mapping[str, Chat], source: TextIO, sink: TextIO):
        """Reads nothing yet.

        Args:
          chats: by name; all of them answer each message, in order, until `/compare`.
          source: lines. Whether it is a terminal decides what is on the screen.
          sink: answers.
        """
        if isinstance(source, io.TextIOWrapper):  # bytes that are no text spoil one line, not all
            source.reconfigure(errors="surrogateescape")
        self._chats, self._source, self._sink = dict(chats), source, sink
        self._tty, self._all = source.isatty(), len(chats) > 1

    def talk(self) -> None:
        """Answers line by line until `/quit` or the end of the source."""
        if self._tty:
            self._print("/help lists the commands, /quit leaves")
        while True:
            if self._tty:
                self._print("you> ", end="")
            line = self._source.readline()
            text = line.strip()
            if not line or text == "/quit":
                if self._tty and not line:  # Ctrl-D leaves the cursor behind the prompt
                    self._print()
                return
            if re.match(r"/[A-Za-z]*(\s|$)", text):
                self._command(text)
            elif text:
                for name in list(self._chats) if self._all else list(self._chats)[:1]:
                    self._answer(name, text)

    def _command(self, text: str) -> None:
        """Does it, and says so to a reader; a script hears of mistakes only."""
        if text == "/reset":
            for chat in self._chats.values():
                chat.reset()
            self._tell("the conversation is forgotten")
        elif text == "/help":
            lines = [f"{name:9} {what}" for name, what in COMMANDS.items()]
            print("\n".join(lines), file=self._sink if self._tty else sys.stderr, flush=True)
        elif text == "/compare" and len(self._chats) > 1:
            self._all = not self._all
            first, *others = self._chats
            both = f"{', '.join([first, *others])} answer"
            self._tell(both if self._all else f"{first} answers, alone")
        elif text == "/compare":
            _complain(bad("/compare", "one model", "with `chat --compare=OTHER`"))
        else:
            _complain(bad("command", text, ", ".join(COMMANDS)))

    def _answer(self, name: str, text: str) -> None:
        """One model's answer on the screen, or why there is none."""
        chat, label = self._chats[name], f"{name}> " if self._all else ""
        try:
            if self._tty:
                reply = self._live(chat, text, label)
            else:  # Ctrl-C ends it: nobody waits at a prompt for a second one
                reply = chat.reply(text)
                self._print(f"{label}{reply.text}")
        except UsageError as error:
            _complain(error)
            return
        if reply.ended == "cut":
            why = "half of the context" if chat.limit == chat.most else "--max-tokens"
            print(f"[cut at {chat.limit} tokens; {why}]", file=sys.stderr, flush=True)
        elif reply.ended == "stopped":
            what = "stopped" if reply.text else "stopped; this message is forgotten"
            print(f"[{what}]", file=sys.stderr, flush=True)

    def _live(self, chat: Chat, text: str, label: str) -> Reply:
        """Each piece as it comes. Ctrl-C is a flag that is asked for between two tokens.

        An exception could come in the middle of JAX's own code, where a program is traced or a
        cache is given away.
        """
        stopped, waiting, begun = False, False, False

        def show(piece: str) -> None:
            nonlocal begun
            slow.cancel()
            self._print(piece if begun else f"{label}{piece}", end="")
            begun = True

        def act(number: int) -> None:
            nonlocal stopped
            stopped = True

        def told(number: int) -> str:
            again = "stopping once it is compiled; Ctrl-C again leaves at once"
            return again if waiting and not begun else ""

        def fresh() -> None:
            nonlocal waiting
            waiting = True
            if sys.stderr.isatty():
                slow.start()

        slow = threading.Timer(PATIENCE, _compiling)
        slow.daemon = True
        with contextlib.ExitStack() as stack:
            stack.callback(slow.cancel)
            stack.enter_context(signals.watch(told, act, (signal.SIGINT,)))
            reply = chat.reply(text, show, lambda: stopped, fresh)
        if begun or not reply.ended:  # an empty answer has a line too
            self._print("" if begun else label)
        return reply

    def _tell(self, line: str) -> None:
        if self._tty:
            self._print(line)

    def _print(self, text: str = "", end: str = "\n") -> None:
        print(text, end=end, file=self._sink, flush=True)


def _compiling() -> None:
    print(
        "compiling ... (once for conversations of about this length)", file=sys.stderr, flush=True
    )


def _complain(error: UsageError) -> None:
    print(f"jaxsafety: error: {error}", file=sys.stderr, flush=True)
