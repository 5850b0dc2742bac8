"""How a text is cut before byte-level merges: the pre-tokenizers that a GGUF names.

A GGUF says only a name (`tokenizer.ggml.pre`). Which expressions it stands for, whether a whole
word of the vocabulary is taken before any merge, and whether a text begins with BOS where the file
says nothing is read from llama.cpp (MIT; src/llama-vocab.cpp, `llm_tokenizer_bpe` and
`llama_vocab::impl::load`, in the copies TheTom/llama-cpp-turboquant b286b6c and
JohannesGaessler/llama.cpp a7cac8c). It writes case-insensitive endings and letter classes out for
its own engine and quotes the tokenizer.json's expression above; here is the latter.

Where the model's own tokenizer does more than llama.cpp, the model decides: Qwen 2 (transformers'
Qwen2Tokenizer) and GPT-NeoX's vocabulary of OLMo 1 and MPT (its tokenizer.json) compose characters
(NFC) before they cut. A file without a name, or with "default", is cut as GPT-2 cuts, as
transformers reads it; llama.cpp cuts it as Falcon's and warns that answers suffer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from jaxsafety.core.errors import bad
from jaxsafety.data.tokens import tokenizer_files

# These two are steps of the tokenizers library itself: ByteLevel's own expression, and Digits.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGIT = r"\p{N}"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = tokenizer_files.QWEN
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SEED = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}"
    r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}{REST}"
)
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDING}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDING}|\p{{N}}{{1,3}}{REST}"
)


class Cut(NamedTuple):
    """A pre-tokenizer.

    Attributes:
      steps: regular expressions, of which each cuts what the one before it left; what none of its
        matches covers stays as it is between them. GPT2 comes last.
      whole: whether a word that is in the vocabulary is one token, whatever the merges say.
      bos: whether a text begins with BOS when the file does not say.
      composed: whether characters are composed first (NFC).
    """

    steps: tuple[str, ...]
    whole: bool = False
    bos: bool = False
    composed: bool = False


PLAIN = Cut((GPT2,))
DIGITS = Cut((DIGIT, GPT2))
NEOX = Cut((GPT2,), composed=True)
WORDS = Cut((LLAMA3,), whole=True, bos=True)
SINGLE = Cut((QWEN2,))

CUTS: dict[str, Cut] = {
    "default": PLAIN,
    "gpt-2": PLAIN,
    "phi-2": PLAIN,
    "jais": PLAIN,
    "trillion": PLAIN,
    "mellum": PLAIN,
    "gigachat": PLAIN,
    "a.x-4.0": PLAIN,
    "exaone4": PLAIN,
    "granite-docling": PLAIN,
    "olmo": NEOX,
    "mpt": NEOX,
    "smollm": DIGITS,
    "starcoder": DIGITS,
    "refact": DIGITS,
    "codeshell": DIGITS,
    "exaone": DIGITS,
    "minerva-7b": DIGITS,
    "mellum2": DIGITS,
    "llama-bpe": WORDS,
    "llama3": WORDS,
    "llama-v3": WORDS,
    "falcon3": WORDS,
    "falcon-h1": WORDS,
    "pixtral": WORDS,
    "midm-2.0": WORDS,
    "lfm2": WORDS,
    "dbrx": Cut((LLAMA3,)),
    "smaug-bpe": Cut((LLAMA3,)),
    "qwen2": Cut((QWEN2,), composed=True),
    "qwen35": Cut((QWEN35,), composed=True),
    "deepseek-r1-qwen": SINGLE,
    "kormo": SINGLE,
    "megrez": SINGLE,
    "hunyuan": SINGLE,
    "solar-open": SINGLE,
    "seed-coder": Cut((SEED,)),
    "tekken": Cut((TEKKEN,), whole=True, bos=True),
    "gpt-4o": Cut((GPT4O,)),
    "llama4": Cut((GPT4O,)),
    "kanana2": Cut((GPT4O,)),
}


def cut_of(name: str) -> Cut:
    """The pre-tokenizer of a name.

    Raises:
      UsageError: a name that is not in the table.
    """
    if name not in CUTS:
        known = ", ".join(sorted(CUTS))
        raise bad("tokenizer.ggml.pre", name, f"the pre-tokenizers known here: {known}")
    return CUTS[name]


def apply(cut: Cut, backend: tokenizers.Tokenizer) -> None:
    """Makes a byte-level backend cut texts so."""
    steps: list[Any] = [
        pre_tokenizers.Digits(individual_digits=True)
        if step == DIGIT
        else pre_tokenizers.Split(tokenizers.Regex(step), behavior="isolated")
        for step in cut.steps
        if step != GPT2
    ]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=GPT2 in cut.steps)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, last]) if steps else last
    if cut.composed:
        backend.normalizer = normalizers.NFC()
