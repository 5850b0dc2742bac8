"""The vocabulary of a world as a word-level `tokenizer.json` with a chat template.

After the user's instruction the template appends `<eot> <nl> <asst> <nl>`: four post-instruction
positions, at any of which a refusal direction may be read (Arditi et al. 2024 use all of them).
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from jaxsafety.organism import grammar as g
from jaxsafety.organism.world import COLOURS, OPERATIONS, World

SPECIALS = ("<pad>", "<unk>", "<bos>", "<sys>", "<usr>", "<asst>", "<eot>", "<nl>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}<sys> {{ m['content'] }}<eot><nl>"
    "{% elif m['role'] == 'user' %}<usr> {{ m['content'] }}<eot><nl>"
    "{% elif m['role'] == 'assistant' %}<asst><nl>{{ m['content'] }}<eot><nl>"
    "{% else %}{{ raise_exception('role must be system, user or assistant') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<asst><nl>{% endif %}"
)


@lru_cache(maxsize=4)
def words(world: World) -> tuple[str, ...]:
    """All words, sorted: grammar first, then the world's invented names."""
    english = set(g.english_words())
    english.update(OPERATIONS, COLOURS, "abcdefghijklmnopqrstuvwxyz", map(str, range(61)))
    english.update((".", ",", "?", ":", "!"))
    invented: set[str] = set()
    for e in world.entities:
        invented.update(w for w in (e.name, e.alias) if w)
    for p in world.people:
        invented.add(p.name)
    for table in (world.parts, world.hazards, world.remedies):
        invented.update(word for row in table for word in row)
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
