"""Items of form "choices" as token ids: what a model reads, and what its probability is asked of.

Tokenised as lm-eval 0.4.13 does it (read from the installed package, `lm_eval/api/model.py`:
`TemplateLM._encode_pair` and `loglikelihood`, and `lm_eval/api/task.py`: `construct_requests`):

- context and continuation are encoded together, and the continuation is what follows as many ids as
  the context alone has, so that a token never spans both silently;
- white space at the end of the context goes to the continuation first;
- between the two stands a delimiter, " ", which no length counts;
- with a chat template the context is the user's turn and the header of the answer, the delimiter is
  "", and the header's last newline is therefore scored with the continuation;
- the tokenizer's own special tokens are added, unless the text begins with the first of them;
- an empty context is the token that begins a text, or ends one.

What differs: an item that does not fit is not cut from the left but unscored, with the cause.

meta of an item: "context", a text, or a list of texts, one per choice (WinoGrande: several
contexts, one continuation); "continuations", texts; "target", the index of the right one, or a list
of 0 and 1 (TruthfulQA's mc2); "description", a text in front of the context, the system's turn in a
chat; "delimiter", where it is not " ".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens import render
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.protocols import Item


class Question(NamedTuple):
    """An item as texts.

    Attributes:
      contexts: one per choice.
      continuations: one per choice, without the delimiter.
      target: index of the right one, or a label of 0 or 1 per choice.
      description: in front of every context.
      delimiter: between context and continuation without a chat template.
    """

    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    target: int | tuple[int, ...]
    description: str = ""
    delimiter: str = " "

    @property
    def several(self) -> bool:
        """Whether the choices stand in the contexts."""
        return len(set(self.contexts)) > 1


class Stem(NamedTuple):
    """A context and what may follow it; `choices` says which of the item's choices these are."""

    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    choices: tuple[int, ...]


def question(item: Item, where: str) -> Question:
    """What an item asks.

    Args:
      item: with the entries of meta that the file's head names.
      where: how an error names the set.

    Raises:
      UsageError: an entry that is missing or of another form.
    """
    meta = item.meta
    texts: Any = meta.get("continuations")
    given: Any = meta.get("context")
    if not _texts(texts) or not texts:
        raise bad(where, f"item {item.id}", "meta['continuations']: a list of texts")
    if not isinstance(given, str) and not _texts(given):
        raise bad(where, f"item {item.id}", "meta['context']: a text, or a list of texts")
    contexts = [given] * len(texts) if isinstance(given, str) else list(given)
    if len(texts) == 1 < len(contexts):
        texts = list(texts) * len(contexts)
    if len(texts) != len(contexts) or len(texts) < 2:
        said = f"item {item.id}: {len(contexts)} contexts, {len(texts)} continuations"
        raise bad(where, said, "2 choices or more: one context, or one of each per choice")
    words = [meta.get("description", ""), meta.get("delimiter", " ")]
    if not _texts(words):
        raise bad(where, f"item {item.id}", "texts in meta['description'] and meta['delimiter']")
    return Question(tuple(contexts), tuple(texts), _target(item, len(texts), where), *words)


def _texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)


def _target(item: Item, count: int, where: str) -> int | tuple[int, ...]:
    """The index of the right choice, or its labels."""
    target = item.meta.get("target")
    if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < count:
        return target
    if isinstance(target, (list, tuple)) and len(target) == count and {*target} <= {0, 1}:
        return tuple(int(one) for one in target)
    allowed = f"meta['target']: 0 to {count - 1}, or {count} labels of 0 and 1"
    raise bad(where, f"item {item.id}, target {str(target)[:40]}", allowed)


def stems(tokenizer: Tokenizer, asked: Question, *, chat: bool, system: str = "") -> list[Stem]:
    """The ids of a question, each context once.

    Args:
      tokenizer: encodes, and has a chat template where `chat` asks for one.
      asked: the texts.
      chat: whether the context is a user's turn of the chat template.
      system: what the model is served with as a system message, "" for nothing.

    Returns:
      One stem, or one per context where there are several. Ids may be empty: see `unscorable`.

    Raises:
      UsageError: no chat template, or one that refuses the turn; half a surrogate pair.
    """
    found: dict[str, list[int]] = {}
    for index, context in enumerate(asked.contexts):
        found.setdefault(context, []).append(index)
    delimiter = "" if chat else asked.delimiter
    made = []
    for context, choices in found.items():
        text = asked.description + context
        if chat:
            text = _chat(tokenizer, asked, context, system)
        pairs = [encode_pair(tokenizer, text, delimiter + asked.continuations[i]) for i in choices]
        # White space moved to the continuation is the same for all: they share the context's ids.
        if len({tuple(first) for first, _ in pairs}) == 1:
            every = tuple(tuple(second) for _, second in pairs)
            made.append(Stem(tuple(pairs[0][0]), every, tuple(choices)))
        else:  # an empty context, of which a continuation gives its first token
            for index, (first, second) in zip(choices, pairs, strict=True):
                made.append(Stem(tuple(first), (tuple(second),), (index,)))
    return made


def _chat(tokenizer: Tokenizer, asked: Question, context: str, system: str) -> str:
    """The user's turn with the header of the answer; a set's own system's turn only where allowed.

    What the model is served with stands before it, and has to be shown.
    """
    turns = [Message("user", context)]
    if system:
        whole = "\n\n".join(text for text in (system, asked.description) if text)
        return render.render(tokenizer, [Message("system", whole), *turns], generation=True)
    if asked.description:
        try:
            own = Message("system", asked.description)
            return render.render(tokenizer, [own, *turns], generation=True)
        except UsageError:
            pass  # of a template that knows no system; any other fault is met again below
    return render.render(tokenizer, turns, generation=True)


def encode_pair(
    tokenizer: Tokenizer, context: str, continuation: str
) -> tuple[list[int], list[int]]:
    """Ids of a context and of what follows it; see the head of the file."""
    beginning = _beginning(tokenizer)
    if not context:
        ids = tokenizer.encode(continuation)
        if beginning is None or ids[:1] == [beginning]:
            return ids[:1], ids[1:]
        return [beginning], ids
    bare = context.rstrip()
    context, continuation = bare, context[len(bare) :] + continuation

    def encode(text: str) -> list[int]:
        begun = beginning is not None and text.startswith(_text(tokenizer, beginning))
        return tokenizer.encode(text, add_special=not begun)

    first = encode(context)
    return first, encode(context + continuation)[len(first) :]


def _beginning(tokenizer: Tokenizer) -> int | None:
    """The id that stands for an empty context: what begins a text, else what ends it."""
    for role in ("bos_token", "eos_token"):
        if role in tokenizer.special_tokens:
            return tokenizer.token_id(tokenizer.special_tokens[role])
    return None


def _text(tokenizer: Tokenizer, token: int) -> str:
    return tokenizer.decode([token], skip_special=False)


def firsts(found: Sequence[Stem]) -> dict[int, int]:
    """Choice -> the first one of the same ids after the same ones, itself if there is none.

    Equal choices get one score: read twice, in two places, they would differ by rounding, and that
    would decide which of them is the best.

    Args:
      found: of one item.
    """
    seen: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    every = sorted(
        (choice, stem.context, ids)
        for stem in found
        for choice, ids in zip(stem.choices, stem.continuations, strict=True)
    )
    return {choice: seen.setdefault((context, ids), choice) for choice, context, ids in every}


def without_copies(found: Sequence[Stem]) -> list[Stem]:
    """The stems of one item with the first of equal choices only, see `firsts`."""
    first = firsts(found)
    made = []
    for stem in found:
        keep = [k for k, choice in enumerate(stem.choices) if first[choice] == choice]
        if keep:
            ids = tuple(stem.continuations[k] for k in keep)
            made.append(Stem(stem.context, ids, tuple(stem.choices[k] for k in keep)))
    return made


def unscorable(found: Sequence[Stem], longest: int) -> str:
    """Why the probabilities of these stems cannot be told; "" where they can.

    Args:
      found: of one item.
      longest: tokens that the model reads at once.
    """
    for stem in found:
        if not stem.context:
            return "no token before the continuation"
        if not all(stem.continuations):
            return "a continuation without a token"
        # the last token is predicted, and not read
        most = len(stem.context) + max(map(len, stem.continuations)) - 1
        if most > longest:
            return f"longer than the model's context of {longest} tokens"
    return ""


def settings(tokenizer: Tokenizer, *, chat: bool, system: str = "") -> Mapping[str, Any]:
    """What the ids depend on besides the texts, for files."""
    shown = {"system": system} if system else {}
    return {"chat": chat, "template": tokenizer.chat_template if chat else None, **shown}
