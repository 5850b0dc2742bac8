"""A conversation in a terminal: history, one prompt per turn, each answer as it is ready."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from jaxsafety.core import signals
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.core.sharding import MeshConfig, scope
from jaxsafety.data.schema import Message
from jaxsafety.experiment import served
from jaxsafety.experiment.beside import NOTHING, Beside
from jaxsafety.models.api import Model
from jaxsafety.models.formats import hf
from jaxsafety.protocols import SampleConfig, Served
from jaxsafety.sampling import decode


class Chat:
    """A model with the messages so far.

    Attributes:
      messages: the history, the system message first if there is one.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Any,
        what: Served,
        *,
        sample: SampleConfig,
        system: str = "",
        seed: int = 0,
    ):
        self._model, self._tokenizer, self._what = model, tokenizer, what
        self._system, self._sample, self._seed = system, sample, seed
        self._turn, self._mesh = 0, None
        self.reset()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        system: str = "",
        temperature: float = 0.0,
        max_tokens: int = 256,
        seed: int = 0,
        beside: Beside = NOTHING,
        dtype: str = "float32",
        mesh: MeshConfig | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Chat:
        """Loads a Hugging Face directory, and what it is served with `beside` it (`beside.find`).

        `dtype` is what it computes in and `mesh` where it lives, both of the run that made it; None
        takes all devices here. `variables` are those of its chat template.

        Raises:
          UsageError: a directory or a template that does not work, before the first line is read.
        """
        where = served.mesh_here(hf.read_config(path)) if mesh is None else served.mesh_of_run(mesh)
        model, tokenizer, what = served.load(
            path, dtype=dtype, mesh=where, beside=beside, variables=variables
        )
        # Half of the context at most, so that a model of a short context still hears the question.
        limit = min(max_tokens, model.config.max_length // 2)
        sample = SampleConfig(limit, temperature, stop=tuple(tokenizer.eos_ids))
        chat = cls(model, tokenizer, what, sample=sample, system=system, seed=seed)
        chat._mesh = where
        what.encode(tokenizer, [*chat.messages, Message("user", "?")])
        return chat

    def reset(self) -> None:
        """Forgets everything but the system message."""
        self.messages = [Message("system", self._system)] if self._system else []

    def ask(self, text: str) -> str:
        """Adds a user message and returns the model's answer, which joins the history too.

        Raises:
          UsageError: the conversation no longer fits the context; the history stays as it was.
        """
        messages = [*self.messages, Message("user", text)]
        prompt = self._what.encode(self._tokenizer, messages)
        room = self._model.config.max_length - self._sample.max_tokens
        if len(prompt) > room:
            raise bad("conversation", f"{len(prompt)} tokens", f"at most {room}; /reset forgets it")
        with scope(self._mesh):
            answers = decode.generate(
                self._model,
                self._what.params,
                self._tokenizer,
                [prompt],
                self._sample,
                seed=self._seed,
                step=self._turn,
                batch_size=1,
                layers=self._what.layers,
                steer=self._what.steer,
            )
        answer = self._tokenizer.decode(answers[0][0].ids).strip()
        self.messages = [*messages, Message("assistant", answer)]
        self._turn += 1
        return answer

    def repl(self, source: TextIO, sink: TextIO) -> None:
        """Answers line by line until `/quit` or the end of `source`."""
        if isinstance(source, io.TextIOWrapper):  # bytes that are no text spoil one line, not all
            source.reconfigure(errors="surrogateescape")
        tty = source.isatty()
        if tty:
            print("/reset forgets the conversation, /quit leaves", file=sink)
        while True:
            if tty:
                print("you> ", end="", file=sink, flush=True)
            line = source.readline()
            text = line.strip()
            if not line or text == "/quit":
                return
            if text == "/reset":
                self.reset()
            elif text:
                try:
                    print(self.ask(text), file=sink, flush=True)
                except UsageError as error:
                    print(f"jaxsafety: error: {error}", file=sys.stderr)
                except KeyboardInterrupt:  # it comes once the batch is through XLA
                    print("(stopped; this message is forgotten)", file=sink, flush=True)
                    signals.settle()
