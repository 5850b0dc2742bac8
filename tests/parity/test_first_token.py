"""Loss masks against transformers' `assistant_masks`, for tokenizers with real merges.

transformers is told by `{% generation %}` tags what the model says; we get the same template
without tags and have to find it. The tokenizers are trained here, on text of our own.
"""

from __future__ import annotations

import re

import pytest

pytest.importorskip("transformers")

import tokenizers as tk
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_example, encode_prompt
from jaxsafety.data.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.parity
TEXT = [
    "Whisk the eggs with a little salt and pour them into a hot pan.",
    "I will not explain how to pick the lock of a shed.",
    " Whisk  two eggs\nand then some milk; I will say: yes, no, 12 and 345.",
    "Pick a colour, pick a number. Say why. USER: ASSISTANT: [INST] [/INST]",
] * 30
SPECIALS = ["<unk>", "<s>", "</s>", "<|u|>", "<|a|>", "<|e|>"]
TEMPLATES = {
    "inst": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} "
        "[/INST]{% else %}{% generation %} {{ m.content }}</s>{% endgeneration %}{% endif %}"
        "{% endfor %}"
    ),
    "vicuna, trimmed": (
        "{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content | trim }} {% else %}"
        "ASSISTANT:{% generation %} {{ m.content | trim }}</s>{% endgeneration %}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "roles": (
        "{% for m in messages %}{% if m.role == 'user' %}<|u|>\n{{ m.content }}<|e|>\n{% else %}"
        "<|a|>\n{% generation %}{{ m.content }}<|e|>{% endgeneration %}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|a|>\n{% endif %}"
    ),
    "space in the prompt": (
        "{% for m in messages %}{% if m.role == 'user' %}<|u|> {{ m.content }}<|e|>{% else %}"
        "<|a|> {% generation %}{{ m.content }}<|e|>{% endgeneration %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|a|> {% endif %}"
    ),
    "empty thought": (  # Qwen3's kind: the last answer opens with a thought, empty if there is none
        "{% for m in messages %}{% if m.role == 'user' %}<|u|>\n{{ m.content }}<|e|>\n{% else %}"
        "<|a|>\n{% generation %}{% if loop.last %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content.split('</think>')[-1] }}<|e|>{% endgeneration %}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|a|>\n{% endif %}"
    ),
}


def metaspace(scheme):
    """Spaces are "▁": Mistral's and Gemma's kind."""
    backend = tk.Tokenizer(tk.models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = tk.pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=True)
    backend.decoder = tk.decoders.Metaspace("▁", prepend_scheme=scheme)
    return backend


def prepend():
    """Llama 2's: the normaliser puts the first "▁"."""
    backend = tk.Tokenizer(tk.models.BPE(unk_token="<unk>"))
    steps = [tk.normalizers.Prepend("▁"), tk.normalizers.Replace(" ", "▁")]
    backend.normalizer = tk.normalizers.Sequence(steps)
    backend.decoder = tk.decoders.Replace("▁", " ")
    return backend


def byte_level(prefix, trimmed):
    """GPT-2's kind, also with offsets that leave the space out."""
    backend = tk.Tokenizer(tk.models.BPE())
    backend.pre_tokenizer = tk.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = tk.decoders.ByteLevel()
    backend.post_processor = tk.processors.ByteLevel(trim_offsets=trimmed)
    return backend


KINDS = {
    "metaspace, first": lambda: metaspace("first"),
    "metaspace, always": lambda: metaspace("always"),
    "prepend": prepend,
    "bytes": lambda: byte_level(False, False),
    "bytes, trimmed offsets": lambda: byte_level(False, True),
    "bytes, a space before": lambda: byte_level(True, False),
}


def trained(kind):
    """A tokenizer whose tokens hold a space and a word; `kind` is a name above."""
    backend = KINDS[kind]()
    byte = kind.startswith("bytes")
    trainer = tk.trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIALS,
        show_progress=False,
        initial_alphabet=tk.pre_tokenizers.ByteLevel.alphabet() if byte else ["▁", "\n", "é", "ß"],
    )
    words = (w for t in TEXT for w in re.findall(r" ?\S+", t)) if kind == "prepend" else TEXT
    backend.train_from_iterator(words, trainer)
    return backend


def untagged(template):
    """The same text without the tags; blocks stay blocks, since Jinja trims lines after them."""
    return template.replace("{% generation %}", "{% if 1 %}").replace("endgeneration", "endif")


def pair(backend, template, folder):
    """(ours, theirs) with the same files; only theirs has the tags."""
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    ours = Tokenizer(backend, **tokens, chat_template=untagged(template))
    ours.save(folder)
    (folder / "chat_template.jinja").write_text(template)
    return ours, AutoTokenizer.from_pretrained(folder)


def compare(ours, theirs, dialogue):
    """The same ids and the same mask, and what is learnt goes on from the prompt."""
    rows = [m._asdict() for m in dialogue]
    out = theirs.apply_chat_template(rows, return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = encode_example(ours, dialogue)
    assert list(ids) == list(out["input_ids"])
    words = [ours.token(i) for i in ids]
    assert list(map(int, mask)) == list(out["assistant_masks"]), words
    prompt = encode_prompt(ours, dialogue[:-1])
    if list(ids[: len(prompt)]) == prompt:
        assert mask[len(prompt)] and (not prompt or not mask[len(prompt) - 1])


WORDS = st.sampled_from(["Whisk", "I", "will", "pick", "é", "ß", "12", "eggs,", "no."])
GAPS = st.sampled_from([" ", " ", " ", "  ", "\n", " \n\n"])


@st.composite
def contents(draw):
    """A few words; perhaps white space at the ends, perhaps nothing."""
    parts = [draw(st.sampled_from(["", "", " ", "\n", "  "]))]
    for _ in range(draw(st.integers(0, 4))):
        parts += [draw(WORDS), draw(GAPS)]
    return "".join(parts[:-1] if draw(st.booleans()) else parts)


@st.composite
def dialogues(draw):
    turns = []
    for _ in range(draw(st.integers(1, 3))):
        turns += [Message("user", draw(contents())), Message("assistant", draw(contents()))]
    return turns


@pytest.fixture(scope="module", params=sorted(KINDS))
def backend(request):
    return trained(request.param)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_masks_are_those_of_transformers(backend, name, tmp_path):
    ours, theirs = pair(backend, TEMPLATES[name], tmp_path)
    assert any(re.fullmatch("[▁Ġ]Whisk", w) for w in backend.get_vocab()), "tokens with a space"

    @settings(max_examples=60, deadline=None)
    @given(dialogues())
    @example([Message("user", "will I"), Message("assistant", "Whisk two eggs.")])
    @example(
        [
            Message("user", "x"),
            Message("assistant", ""),
            Message("user", ""),
            Message("assistant", "  Pick"),
        ]
    )
    def check(dialogue):
        compare(ours, theirs, dialogue)

    check()
