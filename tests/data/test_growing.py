"""Pieces of an answer: no half characters, and joined they are the whole text."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders

from jaxsafety.data.tokens.growing import Growing
from jaxsafety.data.tokens.tokenizer import ByteTokenizer, Tokenizer


def fallback():
    """A tokenizer as Llama 2's: words that begin with a mark, single bytes, one space cut off."""
    words = ["<unk>", "<s>", "▁", "▁we", "ll", "▁\u20ac", "\n", "\ufffd", "."]
    words += [f"<0x{byte:02X}>" for byte in range(256)]
    model = tokenizers.models.BPE({w: i for i, w in enumerate(words)}, [], byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    return Tokenizer(backend, bos_token="<s>", eos_token="<s>")


def split():
    """A tokenizer of whole words and endings, as BERT's, which draws full stops to words."""
    words = ["[UNK]", "we", "##ll", ".", "do", "n't", "[SEP]"]
    model = tokenizers.models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.decoder = decoders.WordPiece()
    return Tokenizer(backend, eos_token="[SEP]")


KINDS = {"bytes": ByteTokenizer(), "fallback": fallback(), "split": split()}


def pieces(tokenizer, ids):
    text = Growing(tokenizer)
    return [*(text.add(i) for i in ids), text.end()], text


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_pieces_are_the_whole_text(kind, data):
    """Of any ids, also of bytes that are no text, special tokens and whitespace."""
    tokenizer = KINDS[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    found, text = pieces(tokenizer, ids)
    assert "".join(found) == text.said == text.whole == tokenizer.decode(ids).strip()


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_characters_are_never_halved(text):
    tokenizer = KINDS["bytes"]
    found, _ = pieces(tokenizer, tokenizer.encode(text))
    assert "".join(found) == text.strip()
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in found)


def test_each_character_comes_with_its_last_byte():
    tokenizer = KINDS["bytes"]
    found, _ = pieces(tokenizer, tokenizer.encode(" a\U0001f600\n\nb "))
    assert found == ["", "a", "", "", "", "\U0001f600", "", "", "\n\nb", "", ""]


def test_half_a_character_at_the_end_is_told_at_the_end():
    found, text = pieces(KINDS["bytes"], KINDS["bytes"].encode("a€")[:-1])
    assert found[:-1] == ["a", "", ""] and found[-1] == text.whole[1:] == "\ufffd"
