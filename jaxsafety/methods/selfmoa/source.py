"""Where prompts, and what the first attackers and the reset learn from, come from.

The organism makes all of it. With files everything is the user's own: nothing that attacks, and no
answer that harms, is shipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.data.files import located
from jaxsafety.data.files.sources import read_chats
from jaxsafety.data.schema import Example
from jaxsafety.data.tokens.encode import encode_dialogues, encode_prompt, where
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.methods.selfmoa.config import SelfMoaConfig
from jaxsafety.protocols import Item, Setting

EXPAND, HIDE = "expand", "hide"
PROBED = ("harmful_val", "wrapped_val", "harmless_val")


def check(cfg: SelfMoaConfig, setting: Setting) -> None:
    """Refuses attackers and a reset that have nothing to learn from, or were not asked for aloud.

    Raises:
      UsageError: says which.
    """
    attack, reset = cfg.attack, cfg.reset
    if setting.attacks is not None:
        paths = {"attack.expand": attack.expand, "attack.hide": attack.hide}
        for name, path in {**paths, "reset.path": reset.path}.items():
            if path:
                raise bad(f"method.{name}", path, "nothing: the organism makes its own")
        return
    if attack.kind != "none":
        if not attack.generate:
            allowed = "True, which says that attacks may be made of these prompts (they stay in"
            raise bad("method.attack.generate", False, f"{allowed} the workdir), or kind=none")
        for name in (EXPAND, HIDE):
            _there(f"method.attack.{name}", getattr(attack, name), "dialogues of your own")
    if reset.steps:
        _there("method.reset.path", reset.path, "dialogues of your own, or reset.steps=0")


def _there(field: str, path: str, what: str) -> None:
    if not path or not located.is_there(path):
        raise bad(field, path, f"an existing file of {what}")


def learns(cfg: SelfMoaConfig, setting: Setting) -> list[tuple[str, list[Example]]]:
    """Dialogues of files that the target or its attackers learn, see `Method.learns`."""
    if setting.attacks is not None:
        return []
    return [(name, _dialogues(name, path)) for name, path in _read(cfg).items()]


def _read(cfg: SelfMoaConfig) -> dict[str, str]:
    """Files that a run without lessons of its own reads, by their setting."""
    found = {}
    if cfg.attack.kind != "none":
        found |= {f"method.attack.{n}": getattr(cfg.attack, n) for n in (EXPAND, HIDE)}
    if cfg.reset.steps:
        found["method.reset.path"] = cfg.reset.path
    return found


def check_sizes(cfg: SelfMoaConfig, limit: int, tokenizer: Tokenizer, setting: Setting) -> None:
    """Refuses prompts and dialogues that have no room in a context of `limit` tokens.

    Raises:
      UsageError: names the first one's file and row.
    """
    attacked = cfg.attack.kind != "none"
    if attacked and cfg.attack.tokens >= limit:
        raise bad("method.attack.tokens", cfg.attack.tokens, f"less than the context of {limit}")
    for split in ("distil", *PROBED * bool(cfg.probe)):
        for number, item in enumerate(setting.prompts.get(split, ()), start=1):
            asked = [(item.messages, "tokens", cfg.tokens)]
            if attacked and split == "distil":  # attackers see the last turn alone
                asked.append((item.messages[-1:], "attack.tokens", cfg.attack.tokens))
            for messages, name, said in asked:
                _fits(tokenizer, messages, where(item, number), split, limit, name, said)
    for field, dialogues in learns(cfg, setting):
        for number, (one, row) in enumerate(
            zip(dialogues, encode_dialogues(tokenizer, dialogues), strict=True), start=1
        ):
            if len(row.ids) > limit:
                given = f"{where(one, number)}, {len(row.ids)} tokens"
                raise bad(field, given, f"at most the context of {limit}")


def _fits(
    tokenizer: Tokenizer, messages: Any, place: str, split: str, limit: int, name: str, said: int
) -> None:
    size = len(encode_prompt(tokenizer, messages))
    if size + said > limit:
        given = f"{place}, {size} tokens"
        allowed = f"at most {limit - said}: the context of {limit} without method.{name}={said}"
        raise bad(f"data.{split.partition('_')[0]}", given, allowed)


def seeds(setting: Setting) -> Sequence[Item]:
    """A_0: the prompts that the setting has for methods to sample with, each text once."""
    found = {tuple(item.messages): item for item in reversed(setting.prompts["distil"])}
    return tuple(reversed(found.values()))


def lessons(cfg: SelfMoaConfig, setting: Setting, seed: int) -> Mapping[str, Sequence[Example]]:
    """{"expand": (prompt, another of the same intent), "hide": (prompt, its disguise)}."""
    attack, made = cfg.attack, setting.attacks
    if made is not None:
        count = attack.examples
        return {EXPAND: made.expansions(count, seed), HIDE: made.disguises(count, seed)}
    return {
        name: _dialogues(f"method.attack.{name}", getattr(attack, name)) for name in (EXPAND, HIDE)
    }


def harmful(cfg: SelfMoaConfig, setting: Setting, seed: int) -> Sequence[Example]:
    """Dialogues that carry harmful requests out, for the reset."""
    if setting.attacks is not None:
        return setting.attacks.carried_out(cfg.reset.examples, seed)
    return _dialogues("method.reset.path", cfg.reset.path)


def reread(setting: Setting, item: Item, text: str) -> Mapping[str, Any] | None:
    """Meta of what was made of an item; None where it asks for something else.

    Of files nobody can tell: it is taken to ask for what was asked before.
    """
    return item.meta if setting.attacks is None else setting.attacks.reread(text)


def _dialogues(field: str, path: str) -> list[Example]:
    """The dialogues of a file."""
    return [
        Example(str(index), messages, {"file": path, "row": index + 1})
        for index, messages in enumerate(read_chats(path, field))
    ]
