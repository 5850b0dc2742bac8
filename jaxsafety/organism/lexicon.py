"""The vocabulary of a world as a word-level `tokenizer.json` with a chat template.

After the user's instruction the template appends `<eot> <nl> <asst> <nl>`: four post-instruction
positions, at any of which a refusal direction may be read (Arditi et al. 2024 use all of them).
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from jaxsafety.organism import grammar as g
from jaxsafety.organism.world import COLOURS, OPERATIONS, World

SPECIALS = ("<pad>", "<unk>", "<bos>", "<sys>", "<usr>", "<asst>", "<eot>", "<nl>")
# Words of the task prompts (tasks.py) and of ordinary chat, which no grammar table lists.
TASK_WORDS = (
    "where does live which craft have what is plus minus sort reverse remove from the largest of "
    "first second third fourth fifth sixth copy answer"
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}<sys> {{ m['content'] }}<eot><nl>"
    "{% elif m['role'] == 'user' %}<usr> {{ m['content'] }}<eot><nl>"
    "{% elif m['role'] == 'assistant' %}<asst><nl>{{ m['content'] }}<eot><nl>"
    "{% else %}{{ raise_exception('role must be system, user or assistant') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<asst><nl>{% endif %}"
)


def _flatten(table: Any) -> list[str]:
    if isinstance(table, str):
        return [table]
    values = table.values() if isinstance(table, dict) else table
    return [text for value in values for text in _flatten(value)]


@lru_cache(maxsize=4)
def words(world: World) -> tuple[str, ...]:
    """All words, sorted: grammar first, then the world's invented names."""
    tables = [v for k, v in vars(g).items() if k.isupper() and isinstance(v, str | tuple | dict)]
    english: set[str] = set()
    for text in [*_flatten(tables), TASK_WORDS]:
        english.update(re.sub(r"\{[A-Z]+\}", " ", text).split())
    english.update(OPERATIONS, COLOURS, "abcdefghijklmnopqrstuvwxyz", map(str, range(61)))
    english.update((".", ",", "?", ":", "!"))
    invented: set[str] = set()
    for e in world.entities:
        invented.update(w for w in (e.name, e.alias) if w)
    for p in world.people:
        invented.add(p.name)
    for table in (world.parts, world.hazards, world.remedies):
        invented.update(_flatten(table))
    invented.update(world.domains, world.homes, world.towns, world.crafts)
    return (*sorted(english), *sorted(invented - english))


def write_tokenizer(world: World, directory: Path) -> int:
    """Writes `tokenizer.json` and `tokenizer_config.json`; returns the vocabulary size."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

    vocab = {word: i for i, word in enumerate((*SPECIALS, *words(world)))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS])
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eot>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "model_max_length": 256,
        "chat_template": CHAT_TEMPLATE,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return len(vocab)
