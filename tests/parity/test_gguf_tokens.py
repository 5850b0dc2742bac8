"""Ids of a GGUF's tokenizer are those of the model's own, on 10,000 mixed texts each.

The metadata is written here from tokenizers that are at hand: GPT-2's, Qwen's (from its table of
ranks), GPT-NeoX's, Mistral's three; SmolLM2's comes from its own GGUF, whose path is in the
environment variable SMOLLM2_GGUF. transformers' reading of that file is a reference only once its
digits stand alone, as SmolLM2's tokenizer.json has them (Digits, then ByteLevel; seen pinned in a
public exporter for HuggingFaceTB/SmolLM2-135M at revision 93efa2f) and llama.cpp cuts them: as
transformers reads it, spaces before a digit lose the last of them, and one joins the first byte of
"²". On texts without numbers it is a reference as it is.
"""

import base64
import itertools
import json
import os
import re
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from tokenizers import pre_tokenizers

from jaxsafety.data.schema import Message
from jaxsafety.data.tokens import encode, gguf_vocabulary
from jaxsafety.data.tokens.tokenizer import assemble
from tests.data import gguf_metadata
from tests.data.mixed_texts import texts

transformers = pytest.importorskip("transformers")
convert_slow_tokenizer = pytest.importorskip("transformers.convert_slow_tokenizer")
COUNT = 10_000
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MISTRAL = {
    "v1": "tokenizer.model.v1",
    "v2": "mistral_instruct_tokenizer_240216.model.v2",
    "v3": "mistral_instruct_tokenizer_240323.model.v3",
}


@pytest.fixture(scope="module")
def folder(root):
    """Published vocabularies."""
    found = root.parent / "shared/data/tokenizers"
    if not found.is_dir():
        pytest.skip("the shared data is not here")
    return found


def open_(metadata):
    return assemble(gguf_vocabulary.read(metadata))


def differing(ours, reference, special, seed):
    """Texts, of all, that the reference reads otherwise."""
    every = texts(COUNT, seed, special)
    return [text for text in every if ours.encode(text) != reference(text)]


def vectors(folder, name):
    """(text, ids) of llama.cpp's own tests."""
    file = folder / "llama_cpp_vectors" / f"ggml-vocab-{name}.gguf.inp"
    given = file.read_bytes().decode().split("\n__ggml_vocab_test__\n")
    wanted = file.with_suffix(".out").read_text().splitlines()
    pairs = [
        (text, [int(i) for i in ids.split()]) for text, ids in zip(given, wanted, strict=False)
    ]
    assert len(pairs) > 40
    return pairs


def of_transformers(reference):
    return lambda text: reference(text, add_special_tokens=False)["input_ids"]


def test_gpt2(folder):
    vocab = json.loads((folder / "gpt2/encoder.json").read_text())
    merges = (folder / "gpt2/vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    end = ["<|endoftext|>"]
    ours = open_(
        gguf_metadata.byte_level(sorted(vocab, key=vocab.__getitem__), merges, "gpt-2", end)
    )
    own = transformers.GPT2Tokenizer(vocab=vocab, merges=[tuple(m.split(" ")) for m in merges])
    assert not differing(ours, of_transformers(own), end, seed=1)
    for text, ids in vectors(folder, "gpt-2"):
        assert ours.encode(text) == ids, text


def split(ranks, token, own):
    """The two pieces that a token is merged of: all merges before its own."""
    parts = [bytes([byte]) for byte in token]
    while True:
        pairs = [(ranks.get(a + b, own), i) for i, (a, b) in enumerate(itertools.pairwise(parts))]
        best, i = min(pairs, default=(own, 0))
        if best >= own:
            return parts
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


@pytest.fixture(scope="module")
def qwen(folder):
    """(tokens, merges) of Qwen's table of ranks."""
    lines = [line.split() for line in (folder / "qwen/qwen.tiktoken").read_bytes().splitlines()]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    letters = convert_slow_tokenizer.bytes_to_unicode()

    def spell(token):
        return "".join(letters[number] for number in token)

    ordered = sorted(ranks, key=ranks.__getitem__)
    merges = [" ".join(map(spell, split(ranks, t, ranks[t]))) for t in ordered if len(t) > 1]
    return [*map(spell, ordered), *QWEN], merges


def test_qwen(folder, qwen, tmp_path):
    tokens, merges = qwen
    metadata = gguf_metadata.byte_level(
        tokens, merges, "qwen2", QWEN, eos_token_id=tokens.index("<|im_end|>")
    )
    ours = open_(metadata)
    own = transformers.Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[tuple(merge.split(" ")) for merge in merges],
        extra_special_tokens=list(QWEN),
    )
    assert not differing(ours, of_transformers(own), QWEN, seed=2)
    plain = open_(metadata | {"tokenizer.ggml.pre": "deepseek-r1-qwen"})
    for name, model in (("qwen2", ours), ("deepseek-r1-qwen", plain)):
        for text, ids in vectors(folder, name):
            assert model.encode(text) == ids, text
    saved(ours, tmp_path, QWEN, "qwen2")


def test_neox(folder):
    file = folder / "gpt-neox-20b/20B_tokenizer.json"
    ours = open_(gguf_metadata.of_json(json.loads(file.read_text()), "olmo"))
    own = tokenizers.Tokenizer.from_file(str(file))
    special = ["<|endoftext|>", "<|padding|>"]
    assert not differing(
        ours, lambda text: own.encode(text, add_special_tokens=False).ids, special, seed=3
    )
    for text, ids in vectors(folder, "mpt"):
        assert ours.encode(text) == ids, text


@pytest.mark.parametrize("version", MISTRAL)
def test_mistral(folder, tmp_path, version):
    library = pytest.importorskip("sentencepiece")
    own = library.SentencePieceProcessor(model_file=str(folder / "mistral" / MISTRAL[version]))
    metadata = gguf_metadata.scored(own)
    ours = open_(metadata)
    special = {own.id_to_piece(i): i for i in range(9) if own.is_control(i) or own.is_unknown(i)}
    cut = re.compile("(" + "|".join(map(re.escape, special)) + ")")

    def reference(text):
        """sentencepiece never reads control tokens in a text: they are put between pieces of it."""
        pieces = [[special[p]] if p in special else own.encode(p) for p in cut.split(text) if p]
        return [i for piece in pieces for i in piece]

    assert not differing(ours, reference, list(special), seed=4)
    assert ours.encode("a", add_special=True) == [1, *own.encode("a")]
    saved(ours, tmp_path, list(special), "mistral")


def saved(ours, folder, special, kind):
    """transformers reads what is saved, as a model of this kind, with the same ids."""
    ours.save(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    again = transformers.AutoTokenizer.from_pretrained(folder)
    for text in texts(1000, seed=6, special=special):
        ids = ours.encode(text, add_special=True)
        assert again(text)["input_ids"] == ids, text
        assert again.decode(ids) == ours.decode(ids, skip_special=False), text
    assert again.special_tokens_map == ours.special_tokens | {
        key: value for key, value in again.special_tokens_map.items() if kind == "qwen2"
    }, "Qwen's class has a padding and an unknown token of its own"


@pytest.fixture(scope="module")
def smollm2():
    """The GGUF file of SmolLM2-135M-Instruct."""
    file = Path(os.environ.get("SMOLLM2_GGUF", ""))
    if not file.is_file():
        pytest.skip("SMOLLM2_GGUF names no file")
    return file


def test_smollm2(smollm2, tmp_path):
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(smollm2)
    ours = open_({key: field.contents() for key, field in reader.fields.items()})
    own = transformers.AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    special = [ours.token(i) for i in range(17)]
    every = texts(COUNT, 5, special)
    # Without numbers, also those that this Python does not know of yet.
    numbers = {"Nd", "Nl", "No", "Cn"}
    plain = [t for t in every if not any(unicodedata.category(c) in numbers for c in t)]
    read = of_transformers(own)
    assert len(plain) > 1000 and all(ours.encode(text) == read(text) for text in plain)
    for text in (" \u00b2", "   3"):
        assert read(text) != ours.encode(text), "if it is mended, this file has to say so"
    own._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    assert not differing(ours, read, special, seed=5)
    assert (ours.bos_id, ours.eos_ids, ours.pad_id, ours.unk_id) == (1, (2,), 2, 0)
    assert ours.encode("Hi", add_special=True) == ours.encode("Hi")
    chat = [{"role": "user", "content": "Hi <|im_end|> there"}]
    wanted = own.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert encode.encode_prompt(ours, [Message(**turn) for turn in chat]) == wanted
    saved(ours, tmp_path, special, "llama")
