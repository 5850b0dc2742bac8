"""The tokenizer in a GGUF's metadata, as a backend of the tokenizers library.

Two kinds (`tokenizer.ggml.model`): `gpt2` has byte-level merges and names the expressions that cut
a text before them (gguf_splits.py); `llama` is sentencepiece's BPE by scores, whose merges are
derived (sentencepiece.py). A token is normal, unknown, control, user-defined, unused or a byte
(`gguf.TokenType`). What the keys mean is read from llama.cpp (MIT; src/llama-vocab.cpp, in the
copies TheTom/llama-cpp-turboquant b286b6c and JohannesGaessler/llama.cpp a7cac8c) and, where
transformers 5.24 (integrations/gguf/gguf_tokenizer_mapping.py) reads the same file otherwise,
llama.cpp decides:

- control and unknown tokens are special, user-defined ones are added and not special, whatever
  letters they are of; transformers leaves out control tokens of other letters than the byte
  alphabet's ("<｜end▁of▁sentence｜>");
- tokens that only ever end an answer (ENDS) are special even where the file calls them normal;
- `llama` puts its first space before every piece of text between such tokens, also before one that
  begins with a space, and `add_space_prefix` switches it off; transformers puts it at the start
  alone and never beside another;
- user-defined tokens with spaces (Gemma's runs of up to 31) are found in the text as it is, the
  longest first, as sentencepiece finds them; transformers merges them and halves a longer run;
- of `add_bos_token`, absent is a third state: BOS for `llama` and for those of `gpt2` whose
  pre-tokenizer says so, none for the others.

A byte-level vocabulary is cut as the model's own tokenizer cuts, which transformers knows for some
names only (for SmolLM's it forgets that digits stand alone). Pinned by tests/parity/
test_gguf_tokens.py and tests/data/test_gguf_vocabulary.py.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import tokenizers
from tokenizers import decoders, models, processors

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.tokens import gguf_fields as fields
from jaxsafety.data.tokens import gguf_splits, sentencepiece, tokenizer_files

UNDEFINED, NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(7)
TEMPLATE = "tokenizer.chat_template"
ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "pad_token": "padding_token_id",
    "unk_token": "unknown_token_id",
}
STOPS = ("eos_token_id", "eot_token_id", "eom_token_id")
# What llama.cpp takes a `llama` vocabulary to have where the file names none.
USUAL = {"unk_token": 0, "bos_token": 1, "eos_token": 2}
# Texts that llama.cpp ends an answer at, and makes control tokens, wherever a vocabulary has them
# (but for what it excepts in gpt-oss and Gemma 4, which are not read here).
ENDS = frozenset(
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> "
    "<|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> "
    "<eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> [e~[".split(" ")
)


class Vocabulary(NamedTuple):
    """Tokens of a file by id: their texts, and of which kind each is."""

    texts: list[str]
    kinds: list[int]


def read(metadata: fields.Metadata) -> tokenizer_files.Files:
    """Reads a tokenizer.

    Args:
      metadata: keys and values of a GGUF's header; lists or arrays for lists.

    Returns:
      What a directory's files would say: the backend, whose post-processor adds BOS and EOS where
      the file says so; special tokens by role; the default chat template and the named ones as
      they are; the ids that end an answer (of `eos`, `eot` and `eom`; the template's own end is
      the `Tokenizer`'s to find).

    Raises:
      UsageError: a kind or pre-tokenizer that is not known here, or a key that is missing, of
        another type or length, or names no token.
    """
    kind = fields.text(metadata, f"{fields.PREFIX}model")
    if kind not in ("gpt2", "llama"):
        given = "nothing" if kind is None else kind
        raise bad(f"{fields.PREFIX}model", given, "gpt2 (byte-level merges) or llama (scores)")
    known = _vocabulary(metadata)
    roles = _roles(metadata, kind, known)
    flags = [fields.flag(metadata, f"{fields.PREFIX}add_{name}_token") for name in ("bos", "eos")]
    prefix = fields.flag(metadata, f"{fields.PREFIX}add_space_prefix")
    chat_template, templates = _templates(metadata)
    size = len(known.texts)
    stops = [fields.token_id(metadata, fields.PREFIX + key, size) for key in STOPS]
    if stops[0] is None:
        stops[0] = roles.get("eos_token")
    stop_ids = list(dict.fromkeys(i for i in stops if i is not None))
    for i in (*roles.values(), *stop_ids):
        known.kinds[i] = CONTROL  # a role's token is special for whoever loads what is saved
    try:
        backend, usual = _backend(metadata, kind, known, roles, prefix is not False)
        adds = _frame(backend, roles, known, flags, usual)
    except UsageError:
        raise
    except Exception as error:  # the Rust library raises bare Exception
        why = " ".join(str(error).split())[:120]
        raise bad(f"{fields.PREFIX}tokens", why, "a vocabulary with its merges") from error
    tokens = {role: known.texts[i] for role, i in roles.items()}
    return tokenizer_files.Files(backend, tokens, chat_template, templates, stop_ids, {}, adds)


def _backend(
    metadata: fields.Metadata, kind: str, known: Vocabulary, roles: dict[str, int], prefix: bool
) -> tuple[tokenizers.Tokenizer, bool]:
    """The backend, and whether BOS is usual for its kind."""
    if kind == "gpt2":
        cut = gguf_splits.cut_of(fields.text(metadata, f"{fields.PREFIX}pre") or "default")
        backend, usual = _byte_level(metadata, known, cut), cut.bos
    else:
        backend, usual = _scored(metadata, known, roles.get("unk_token", 0), prefix), True
    _add(backend, known)
    return backend, usual


def _vocabulary(metadata: fields.Metadata) -> Vocabulary:
    key = f"{fields.PREFIX}tokens"
    texts = [
        text or f"[EMPTY_{i}]"  # as llama.cpp names them
        for i, text in enumerate(fields.texts(metadata, key))
    ]
    if not texts:
        raise bad(key, "no token", "a vocabulary")
    if len(set(texts)) != len(texts):
        first = {text: i for i, text in reversed(list(enumerate(texts)))}
        twice = next(i for i, text in enumerate(texts) if first[text] != i)
        raise bad(f"{key}[{twice}]", texts[twice], f"each text once; it is [{first[texts[twice]]}]")
    key = f"{fields.PREFIX}token_type"
    kinds = [UNDEFINED] * len(texts)
    if metadata.get(key) is not None:
        kinds = fields.integers(metadata, key, len(texts), 0, BYTE)
    for i, text in enumerate(texts):
        if text in ENDS:
            kinds[i] = CONTROL
    return Vocabulary(texts, kinds)


def _roles(metadata: fields.Metadata, kind: str, known: Vocabulary) -> dict[str, int]:
    """Ids by role; an ordinary word is no padding and no unknown token, whatever the file says."""
    found = {}
    for role, key in ROLES.items():
        i = fields.token_id(metadata, fields.PREFIX + key, len(known.texts))
        if i is None and kind == "llama":
            i = USUAL.get(role)
            i = None if i is None or i >= len(known.texts) or _ordinary(known, i) else i
        if i is not None and not (role in ("pad_token", "unk_token") and _ordinary(known, i)):
            found[role] = i
    return found


def _ordinary(known: Vocabulary, i: int) -> bool:
    """Whether a token is a word or a byte by its type and by its looks."""
    looks = re.fullmatch(r"<.+>|\[.+\]", known.texts[i])
    return known.kinds[i] == BYTE or (known.kinds[i] == NORMAL and not looks)


def _byte_level(
    metadata: fields.Metadata, known: Vocabulary, cut: gguf_splits.Cut
) -> tokenizers.Tokenizer:
    key = f"{fields.PREFIX}merges"
    vocab = {text: i for i, text in enumerate(known.texts)}
    merges = []
    for place, merge in enumerate(fields.texts(metadata, key)):
        # Where llama.cpp cuts; the first letter may be a space.
        end = merge.find(" ", 1)
        left, right = merge[:end], merge[end + 1 :]
        if end < 0 or not (left in vocab and right in vocab and left + right in vocab):
            raise bad(f"{key}[{place}]", merge[:60], "two tokens and a space, that make a third")
        merges.append((left, right))
    backend = tokenizers.Tokenizer(models.BPE(vocab, merges, ignore_merges=cut.whole))
    gguf_splits.apply(cut, backend)
    backend.decoder = decoders.ByteLevel()
    return backend


def _scored(
    metadata: fields.Metadata, known: Vocabulary, unknown: int, prefix: bool
) -> tokenizers.Tokenizer:
    scores = fields.reals(metadata, f"{fields.PREFIX}scores", len(known.texts))
    pieces = [
        sentencepiece.Piece(*row) for row in zip(known.texts, scores, known.kinds, strict=True)
    ]
    bytewise = {f"<0x{byte:02X}>" for byte in range(256)} <= set(known.texts)
    trainer = {3: sentencepiece.BPE, 35: int(bytewise), 40: unknown}
    backend, _ = sentencepiece.build(pieces, trainer, {3: int(prefix), 4: 0}, "piece")
    return backend


def _add(backend: tokenizers.Tokenizer, known: Vocabulary) -> None:
    """Control, unknown and user-defined tokens are found in a text before anything else."""
    added = [
        tokenizers.AddedToken(text, normalized=False, special=kind != USER_DEFINED)
        for text, kind in zip(known.texts, known.kinds, strict=True)
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]
    backend.add_special_tokens([token for token in added if token.special])
    backend.add_tokens([token for token in added if not token.special])


def _frame(
    backend: tokenizers.Tokenizer,
    roles: dict[str, int],
    known: Vocabulary,
    flags: list[bool | None],
    usual: bool,
) -> dict[str, Any]:
    """Adds BOS and EOS to what is encoded with special tokens; returns what a config says of it."""
    pieces, used, config = ["$A:0"], [], {}
    for name, stated, otherwise in zip(("bos", "eos"), flags, (usual, False), strict=True):
        i = roles.get(f"{name}_token")
        if stated and i is None:
            key = f"{fields.PREFIX}add_{name}_token"
            raise bad(key, "true", f"false, or a {fields.PREFIX}{name}_token_id beside it")
        config[f"add_{name}_token"] = i is not None and (otherwise if stated is None else stated)
        if i is not None and config[f"add_{name}_token"]:
            used.append((known.texts[i], i))
            piece = f"{known.texts[i]}:0"
            pieces = [piece, *pieces] if name == "bos" else [*pieces, piece]
    if used:
        pair = [piece.replace("$A:0", "$B:0")[:-1] + "1" for piece in pieces]
        backend.post_processor = processors.TemplateProcessing(
            single=pieces, pair=[*pieces, *pair], special_tokens=used
        )
    return config


def _templates(metadata: fields.Metadata) -> tuple[str | None, dict[str, str]]:
    """The default chat template, and those of other names."""
    named = {}
    for key in metadata:
        name = key.removeprefix(f"{TEMPLATE}.")
        if name == key:
            continue
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise bad(key, name, "a name that a file can have")
        named[name] = fields.text(metadata, key) or ""
    usual = named.pop("default", None)
    return fields.text(metadata, TEMPLATE, usual), named
