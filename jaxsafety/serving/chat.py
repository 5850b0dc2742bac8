"""A model with a conversation: history, one prompt per turn, each answer as it is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety.core.errors import bad
from jaxsafety.core.sharding import MeshConfig, scope
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.growing import Growing
from jaxsafety.experiment import served
from jaxsafety.experiment.beside import NOTHING, Beside
from jaxsafety.models.api import Model
from jaxsafety.models.formats import hf
from jaxsafety.protocols import SampleConfig, Served
from jaxsafety.sampling.stream import Stream


class Reply(NamedTuple):
    """An answer, and how it ended: "" of itself, "cut" at the limit, or "stopped"."""

    text: str
    ended: str


class Chat:
    """A model with the messages so far.

    Attributes:
      messages: the history, the system message first if there is one.
      limit: tokens of the longest answer.
      most: what `open` makes of a greater one: half of the context.
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
        self._tokenizer, self._what, self._system, self._seed = tokenizer, what, system, seed
        self._stream = Stream(model, what, sample, pad_id=tokenizer.pad_id)
        self._turn, self._mesh = 0, None
        self.limit, self.most = sample.max_tokens, model.config.max_length // 2
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
        template: str = "",
        kernels: str = "float",
    ) -> Chat:
        """Loads a Hugging Face directory, and what it is served with `beside` it (`beside.find`).

        `dtype` is what it computes in and `mesh` where it lives, both of the run that made it; None
        takes all devices here. `variables` are those of its chat template, and `template` is as of
        `jaxsafety.load`; `kernels` is as of `served.load`.

        Raises:
          UsageError: a directory or a template that does not work, before the first line is read.
        """
        where = served.mesh_here(hf.read_config(path)) if mesh is None else served.mesh_of_run(mesh)
        model, tokenizer, what = served.load(
            path,
            dtype=dtype,
            mesh=where,
            beside=beside,
            variables=variables,
            template=template,
            kernels=kernels,
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
        return self.reply(text).text

    def reply(
        self,
        text: str,
        show: Callable[[str], None] | None = None,
        halt: Callable[[], bool] | None = None,
        fresh: Callable[[], None] | None = None,
    ) -> Reply:
        """The same while it is being said.

        Args:
          text: the user's message.
          show: called with each piece of the answer that no later token changes. Joined they are
            the whole answer.
          halt: asked before each token; True stops the answer. What was shown of it is the answer
            then, and joins the history; where nothing was, the message is forgotten, since most
            templates refuse two of the user's in a row.
          fresh: called before an answer whose programs have not run yet: they are compiled first.

        Raises:
          UsageError: as `ask`.
        """
        messages = [*self.messages, Message("user", text)]
        prompt = self._what.encode(self._tokenizer, messages)
        room = self._stream.limit
        if len(prompt) > room:
            raise bad("conversation", f"{len(prompt)} tokens", f"at most {room}; /reset forgets it")
        if fresh is not None and self._stream.fresh(len(prompt)):
            fresh()
        show = show or (lambda piece: None)
        answer, stopped = Growing(self._tokenizer), False
        with scope(self._mesh):
            for token in self._stream.tokens(prompt, seed=self._seed, step=self._turn):
                stopped = halt is not None and halt()
                if stopped:
                    break
                if piece := answer.add(token):
                    show(piece)
        if not stopped and (piece := answer.end()):
            show(piece)
        said = answer.said if stopped else answer.whole
        if said or not stopped:
            self.messages = [*messages, Message("assistant", said)]
            self._turn += 1
        cut = len(answer.ids) == self.limit
        return Reply(said, "stopped" if stopped else "cut" if cut else "")
