"""The same ids as the sentencepiece library, for models of both kinds and any text."""

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.core.errors import UsageError
from jaxsafety.data.tokens.sentencepiece import read
from jaxsafety.data.tokens.tokenizer import load_tokenizer

sentencepiece = pytest.importorskip("sentencepiece")
WORDS = "the a cat dog sat ran on under mat house quickly slowly and then said hello world".split()
TEXTS = [
    "hello world",
    " two  spaces ",
    "the cat sat on the mat.",
    "Ünïcödé ﬁne ½ Ａ",
    "日本語 x",
    "",
    "line\nbreak\ttab",
    "under the house, quickly! 12345",
    "🙂 smile",
]
KINDS = {
    "unigram": dict(model_type="unigram"),
    "bpe": dict(model_type="bpe"),
    "bytes": dict(
        model_type="bpe", byte_fallback=True, vocab_size=420, user_defined_symbols=["<sep>"]
    ),
    "plain": dict(
        model_type="bpe",
        normalization_rule_name="identity",
        byte_fallback=True,
        vocab_size=420,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
    ),
}


@pytest.fixture(scope="module", params=sorted(KINDS))
def pair(request, tmp_path_factory):
    """(directory, the library's processor) of a model trained here."""
    folder = tmp_path_factory.mktemp(request.param)
    lines = [" ".join(WORDS[(i * k) % len(WORDS)] for i in range(k + 3)) for k in range(1, 200)]
    (folder / "text").write_text("\n".join(lines))
    options = dict(vocab_size=120, hard_vocab_limit=False) | KINDS[request.param]
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "m"), minloglevel=2, **options
    )
    shutil.copy(folder / "m.model", folder / "tokenizer.model")
    return folder, sentencepiece.SentencePieceProcessor(model_file=str(folder / "m.model"))


def test_ids_and_texts_are_those_of_the_library(pair):
    folder, reference = pair
    ours = load_tokenizer(folder)
    assert ours.vocab_size == reference.get_piece_size()
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == reference.encode(text), text
        if ours.unk_id not in ids:  # which the library writes as " ⁇ "
            assert ours.decode(ids) == reference.decode(ids), text
    assert (ours.bos_id, ours.unk_id) == (reference.bos_id(), reference.unk_id())
    assert ours.eos_ids == (reference.eos_id(),)


def test_any_text(pair):
    folder, reference = pair
    ours = load_tokenizer(folder)
    # Names of control tokens mean those tokens here; sentencepiece never reads them so.
    text = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)
    text = text | st.lists(st.sampled_from([*WORDS, " ", "x", "é"]), max_size=12).map("".join)

    @settings(max_examples=150, deadline=None)
    @given(text.filter(lambda t: "<" not in t and "▁" not in t))
    def same(text):
        assert ours.encode(text) == reference.encode(text)

    same()


def test_control_tokens_of_a_template_are_read(pair):
    folder, reference = pair
    ids = load_tokenizer(folder).encode("<s>the cat</s>")
    assert ids[0] == reference.bos_id() and ids[-1] == reference.eos_id()
    assert ids[1:-1] == reference.encode("the cat")


def test_saved_again_it_is_a_tokenizer_json(pair, tmp_path):
    folder, _ = pair
    ours = load_tokenizer(folder)
    ours.save(tmp_path)
    again = load_tokenizer(tmp_path)
    for text in TEXTS:
        assert again.encode(text) == ours.encode(text)
    assert again.special_tokens == ours.special_tokens


@pytest.mark.parametrize("cut", [0, 1, 10, 500, -3])
def test_damage_is_one_line(pair, tmp_path, cut):
    folder, _ = pair
    data = (folder / "m.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(data[:cut])
    try:
        read(tmp_path / "tokenizer.model")
    except UsageError as error:
        assert str(error).startswith("tokenizer.model: got") and "\n" not in str(error)
    else:
        assert cut not in (0, 1, 10)  # cut between two entries it is a smaller model


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_one_line(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("noise") / "tokenizer.model"
    file.write_bytes(data)
    with pytest.raises(UsageError):
        read(file)


def key(number, wire):
    """The head of a field; numbers above 15 take two bytes."""
    value = number << 3 | wire
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def field(number, value):
    """A field of a message: a small number, or bytes with their length."""
    if isinstance(value, int):
        return key(number, 0) + bytes([value])
    return key(number, 2) + bytes([len(value)]) + value


@pytest.mark.parametrize(
    "extra",
    [
        field(3, field(2, b"not a table")),  # of unicode rules
        field(1, field(1, 7)),  # a number for a text
        field(2, field(41, b"x")),  # a text for an id
        field(2, field(3, 3)),  # words
        field(2, field(40, 99)),  # an unknown token that is not there
    ],
)
def test_crafted_damage_is_one_line(tmp_path, extra):
    good = b"".join(field(1, field(1, text)) for text in (b"<unk>", b"<s>", b"</s>", b"a"))
    file = tmp_path / "tokenizer.model"
    file.write_bytes(good)
    assert read(file)[0].get_vocab_size() == 4
    file.write_bytes(good + extra)
    with pytest.raises(UsageError, match="tokenizer.model: got") as caught:
        read(file)
    assert "\n" not in str(caught.value)


def test_a_public_model(root):
    file = root.parent / "shared/data/tokenizers/sentencepiece-test/test_model.model"
    if not file.is_file():
        pytest.skip("the shared data is not here")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(file))
    backend, _ = read(file)
    for text in TEXTS:
        assert backend.encode(text, add_special_tokens=False).ids == reference.encode(text), text


CUT = ["🙂", "ab 🙂", "🙂🙂", "é🙂数", "x🙂 y"]


@pytest.mark.parametrize("text", CUT)
def test_a_cut_character_costs_no_other(pair, text):
    folder, reference = pair
    ours = load_tokenizer(folder)
    if ours.token_id("<0x41>") is None:
        pytest.skip("no single bytes in this vocabulary")
    ids = reference.encode(text)
    for end in range(len(ids) + 1):
        assert ours.decode(ids[:end]) == reference.decode(ids[:end]), end
        assert ours.decode(ids[end:]).strip() == reference.decode(ids[end:]).strip(), end


LLAMA = {"tokenizer_class": "LlamaTokenizer"}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({**LLAMA, "legacy": False}, "▁the ▁sat ▁on"),
        ({"legacy": False}, "▁the ▁sat ▁on"),
    ],
)
def test_after_a_special_token_there_is_one_space(tmp_path, pair, config, wanted):
    folder, _ = pair
    if "bytes" not in folder.name:
        pytest.skip("of the BPE model with a first space")
    shutil.copy(folder / "m.model", tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = load_tokenizer(tmp_path)
    words = [ours.token(i) for i in ours.encode("<s> the</s> sat<s> on")]
    assert " ".join(w for w in words if w.startswith("▁")) == wanted


@pytest.mark.parametrize("legacy", [False, True, None])
def test_legacy_says_whether_a_space_is_added_after_special_tokens(pair, tmp_path, legacy):
    folder, _ = pair
    if "plain" in folder.name:
        pytest.skip("it has no first space")
    shutil.copy(folder / "m.model", tmp_path / "tokenizer.model")
    config = LLAMA if legacy is None else {**LLAMA, "legacy": legacy}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = load_tokenizer(tmp_path)
    spaced = ours.token(ours.encode("<s>the")[1]).startswith("▁")
    assert spaced is (legacy is True)
    assert ours.token(ours.encode("the")[0]).startswith("▁"), "before a text there always is one"
    assert ours.decode(ours.encode("the cat sat")) == "the cat sat"


SAMPLES = {
    "tokenizer.model.v1": ("v1", " [INST] ", " [/INST]"),
    "mistral_instruct_tokenizer_240216.model.v2": ("v2", "[INST] ", "[/INST]"),
    "mistral_instruct_tokenizer_240323.model.v3": ("v3", "[INST] ", "[/INST]"),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("config", [LLAMA, {**LLAMA, "legacy": False}])
def test_ids_of_mistrals_own_samples(root, tmp_path, name, config):
    version, before, after = SAMPLES[name]
    folder = root.parent / "shared/data/tokenizers/mistral"
    if not (folder / name).is_file():
        pytest.skip("the shared data is not here")
    shutil.copy(folder / name, tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    rows = json.loads((folder / "samples/no_tools__sample.json").read_text())["messages"]
    ids = json.loads((folder / f"samples/no_tools__tokens_{version}.json").read_text())["tokens"]
    text = "<s>" + "".join(
        before + m["content"] + after if m["role"] == "user" else f" {m['content']}</s>"
        for m in rows
    )
    assert load_tokenizer(tmp_path).encode(text) == ids


def test_a_table_of_tiktoken_is_named(tmp_path):
    file = tmp_path / "tokenizer.model"
    file.write_text("IQ== 0\nIg== 1\nIw== 2\n")
    with pytest.raises(UsageError, match="a table of tiktoken"):
        read(file)
