"""A tokenizer from a GGUF's metadata: how it cuts, what it adds, and what is refused."""

import copy
import json
import unicodedata

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens import encode, gguf_splits, gguf_vocabulary
from jaxsafety.data.tokens.tokenizer import assemble, load_tokenizer
from tests.data import gguf_metadata
from tests.data.gguf_metadata import BYTE, CONTROL, KEY, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from tests.data.mixed_texts import texts

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<｜end▁of▁sentence｜>")


@pytest.fixture(scope="module")
def trained():
    """tokenizer.json of a small byte-level vocabulary whose merges cross all kinds of letters."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=list(SPECIAL),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts(1500, seed=11), trainer)
    backend.add_tokens([tokenizers.AddedToken("    ", normalized=False), "<tool>"])
    return json.loads(backend.to_str())


@pytest.fixture
def metadata(trained):
    """Its metadata, of SmolLM's kind, with roles and a template."""
    roles = dict(bos_token_id=1, eos_token_id=2, padding_token_id=2, unknown_token_id=0)
    made = gguf_metadata.of_json(trained, "smollm", **roles)
    return made | {"tokenizer.chat_template": CHATML}


def open_(metadata):
    return assemble(gguf_vocabulary.read(metadata))


# What llama.cpp cuts by, one after the other, as it writes it (see gguf_splits).
ENDINGS = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
HEAD = rf"(?:{ENDINGS})|[^\r\n\p{{L}}\p{{N}}]?"
LLAMA_CPP = {
    "gpt-2": [GPT2],
    "olmo": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [HEAD + r"\p{L}+|\p{N}{1,3}|" + TAIL],
    "dbrx": [HEAD + r"\p{L}+|\p{N}{1,3}|" + TAIL],
    "qwen2": [HEAD + r"\p{L}+|\p{N}|" + TAIL],
    "deepseek-r1-qwen": [HEAD + r"\p{L}+|\p{N}|" + TAIL],
    "qwen35": [
        HEAD + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ],
    "seed-coder": [
        HEAD + r"\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
    ],
    "tekken": [
        r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+"
        r"|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ],
    "gpt-4o": [
        rf"[^\r\n\p{{L}}\p{{N}}]?((?=[\p{{L}}])([^a-z]))*((?=[\p{{L}}])([^A-Z]))+(?:{ENDINGS})?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?((?=[\p{{L}}])([^a-z]))+((?=[\p{{L}}])([^A-Z]))*(?:{ENDINGS})?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ],
}


def words_of(regex, expressions, text):
    """`text` cut as llama.cpp's unicode_regex_split does: what no match covers stays between."""
    words = [text]
    for expression in expressions:
        pieces = []
        for word in words:
            place = 0
            for match in regex.finditer(expression, word):
                pieces += [word[place : match.start()], match[0]]
                place = match.end()
            pieces.append(word[place:])
        words = [piece for piece in pieces if piece]
    return words


@pytest.mark.parametrize("name", LLAMA_CPP)
def test_texts_are_cut_as_llama_cpp_cuts_them(metadata, name):
    regex = pytest.importorskip("regex")
    backend = open_(metadata | {f"{KEY}pre": name}).backend
    for text in texts(400, seed=5):
        # Libraries know different editions of Unicode; in these two llama.cpp's letters are only
        # approximately the model's.
        plain = name in ("tekken", "gpt-4o")
        known = [c for c in text if (c.isascii() if plain else unicodedata.category(c) != "Cn")]
        text = "".join(known)
        text = backend.normalizer.normalize_str(text) if backend.normalizer else text
        cut = [text[a:b] for _, (a, b) in backend.pre_tokenizer.pre_tokenize_str(text)]
        assert cut == words_of(regex, LLAMA_CPP[name], text), text


def test_every_name_reads(metadata):
    for name in gguf_splits.CUTS:
        ours = open_(metadata | {f"{KEY}pre": name})
        for text in ("It's 1234 naïve words.\n\n  x", "<|im_end|>"):
            assert ours.decode(ours.encode(text), skip_special=False) == text, name


def test_some_models_compose_characters(metadata):
    apart, one = "cafe\u0301", "caf\u00e9"
    for name, composed in [("qwen2", True), ("olmo", True), ("gpt-2", False), ("llama-bpe", False)]:
        ours = open_(metadata | {f"{KEY}pre": name})
        assert (ours.encode(apart) == ours.encode(one)) is composed, name


def test_a_whole_word_of_the_vocabulary_is_one_token_for_some(metadata):
    """Llama 3's vocabulary has words that its merges do not make."""
    lone = "qzxkv"
    metadata[f"{KEY}tokens"] = [*metadata[f"{KEY}tokens"], lone]
    metadata[f"{KEY}token_type"] = [*metadata[f"{KEY}token_type"], NORMAL]
    for name, whole in [("llama-bpe", True), ("tekken", True), ("dbrx", False), ("qwen2", False)]:
        ids = open_(metadata | {f"{KEY}pre": name}).encode(lone)
        assert (len(ids) == 1) is whole, name


def test_special_and_user_defined_tokens_are_found(metadata):
    ours = open_(metadata)
    for text in (*SPECIAL, "<tool>", "    "):
        assert ours.encode(f"a{text}b")[1:-1] == [ours.token_id(text)], text
    assert {ours.token(i) for i in ours.special_ids} == set(SPECIAL)
    assert ours.decode(ours.encode("x<tool>    y<|im_end|>")) == "x<tool>    y"


def test_kinds_of_tokens(metadata):
    kinds = metadata[f"{KEY}token_type"]
    place = metadata[f"{KEY}tokens"].index("<tool>")
    for kind, found in [(UNKNOWN, 1), (CONTROL, 1), (USER_DEFINED, 1), (UNUSED, 0), (NORMAL, 0)]:
        ours = open_(metadata | {f"{KEY}token_type": [*kinds[:place], kind, *kinds[place + 1 :]]})
        assert ours.encode("<tool>").count(place) == found, kind
        assert (place in ours.special_ids) is (kind in (UNKNOWN, CONTROL)), kind


def test_ends_of_turns_are_special_whatever_their_type(metadata):
    del metadata[f"{KEY}token_type"]
    ours = open_(metadata)
    assert ours.encode("<|im_end|>") == [2] and 2 in ours.special_ids
    assert ours.encode("<tool>") != [ours.token_id("<tool>")]


def test_a_word_is_no_padding(metadata):
    word, tool = (metadata[f"{KEY}tokens"].index(text) for text in ("a", "<tool>"))
    kinds = [*metadata[f"{KEY}token_type"]]
    kinds[tool] = NORMAL
    given = metadata | {f"{KEY}token_type": kinds, f"{KEY}unknown_token_id": word}
    ours = open_(given | {f"{KEY}padding_token_id": tool})
    assert ours.unk_id is None and word not in ours.special_ids
    assert ours.pad_id == tool and tool in ours.special_ids, "by its looks it is one"
    del given[f"{KEY}token_type"]
    assert open_(given).unk_id == word, "where no types are given the file is believed"


@pytest.mark.parametrize(
    ("pre", "flag", "added"),
    [
        ("smollm", None, False),
        ("smollm", False, False),
        ("smollm", True, True),
        ("llama-bpe", None, True),
        ("llama-bpe", False, False),
        ("tekken", None, True),
    ],
)
def test_bos_has_three_states(metadata, tmp_path, pre, flag, added):
    given = metadata | {f"{KEY}pre": pre}
    given |= {} if flag is None else {f"{KEY}add_bos_token": flag}
    ours = open_(given)
    assert ours.encode("ab", add_special=True) == [1] * added + ours.encode("ab")
    ours.save(tmp_path)
    assert load_tokenizer(tmp_path).encode("ab", True) == ours.encode("ab", True)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["add_bos_token"] is added


def test_eos_is_added_where_the_file_says_so(metadata):
    ours = open_(metadata | {f"{KEY}add_bos_token": True, f"{KEY}add_eos_token": True})
    assert ours.encode("ab", add_special=True) == [1, *ours.encode("ab"), 2]


def test_stop_ids_and_templates(metadata, tmp_path):
    extra = {f"{KEY}eos_token_id": 0, f"{KEY}eot_token_id": 3}
    ours = open_(metadata | extra | {"tokenizer.chat_template.tool_use": "{{ messages }}"})
    assert ours.eos_ids == (0, 3, 2), "eos, eot, and what the template writes after an answer"
    assert ours.chat_template == CHATML and ours.templates == {"tool_use": "{{ messages }}"}
    ids = encode.encode_prompt(ours, [Message("user", "Hi")])
    assert ours.decode(ids, False) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    ours.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.chat_template, again.templates) == (ours.chat_template, ours.templates)
    assert again.special_tokens == ours.special_tokens
    for text in texts(300, seed=3, special=[*SPECIAL, "<tool>", "    "]):
        assert again.encode(text) == ours.encode(text)


def test_without_a_template_chat_refuses_in_one_line(metadata):
    del metadata["tokenizer.chat_template"]
    ours = open_(metadata)
    assert ours.chat_template is None
    with pytest.raises(UsageError, match="tokenizer.chat_template: got None"):
        encode.encode_prompt(ours, [Message("user", "Hi")])


def test_arrays_are_as_good_as_lists(metadata):
    np = pytest.importorskip("numpy")
    given = metadata | {f"{KEY}token_type": np.array(metadata[f"{KEY}token_type"], np.int32)}
    given |= {f"{KEY}eos_token_id": np.uint32(2), f"{KEY}add_bos_token": np.bool_(True)}
    assert open_(given).encode("a b", True) == [1, *open_(metadata).encode("a b")]


BAD = [
    ("model", None, "got 'nothing'"),
    ("model", "bert", "gpt2"),
    ("model", 3, "a text"),
    ("pre", "no-such", "smollm"),
    ("tokens", None, "a list"),
    ("tokens", "abc", "a list"),
    ("tokens", [], "a vocabulary"),
    ("tokens", ["a", 3], "[1]"),
    ("tokens", ["a", "b", "a"], "[2]"),
    ("token_type", [1], "one for each"),
    ("token_type", 7, "a list"),
    ("merges", None, "a list"),
    ("merges", ["ab"], "[0]"),
    ("merges", ["a nosuch"], "[0]"),
    ("merges", [1], "[0]"),
    ("bos_token_id", 10**6, "0 to"),
    ("eos_token_id", -1, "0 to"),
    ("eot_token_id", "2", "integer"),
    ("padding_token_id", True, "integer"),
    ("add_bos_token", 1, "true or false"),
    ("add_eos_token", "yes", "true or false"),
    ("add_space_prefix", "no", "true or false"),
]


@pytest.mark.parametrize(("key", "value", "said"), BAD)
def test_a_wrong_field_is_one_line(metadata, key, value, said):
    with pytest.raises(UsageError) as caught:
        gguf_vocabulary.read(metadata | {KEY + key: value})
    line = str(caught.value)
    assert line.startswith(KEY + key) and said in line and "\n" not in line


@pytest.mark.parametrize("kind", [7, -1, 1.0, True, None, "1"])
def test_a_wrong_type_of_a_token_is_named(metadata, kind):
    kinds = [*metadata[f"{KEY}token_type"]]
    kinds[5] = kind
    with pytest.raises(UsageError, match=r"token_type\[5\]: got"):
        gguf_vocabulary.read(metadata | {f"{KEY}token_type": kinds})


@pytest.mark.parametrize(
    ("key", "value"),
    [("tokenizer.chat_template", 3), ("tokenizer.chat_template.a/b", "x")],
)
def test_a_wrong_template_is_one_line(metadata, key, value):
    with pytest.raises(UsageError, match="^tokenizer.chat_template"):
        gguf_vocabulary.read(metadata | {key: value})


def test_bos_without_an_id_is_one_line(metadata):
    del metadata[f"{KEY}bos_token_id"]
    assert open_(metadata).bos_id is None
    with pytest.raises(UsageError, match="add_bos_token"):
        gguf_vocabulary.read(metadata | {f"{KEY}add_bos_token": True})


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.floats(),
    st.text(max_size=6),
    st.lists(st.one_of(st.text(max_size=4), st.integers(-1, 9), st.floats()), max_size=6),
)
SMALL = {
    f"{KEY}model": "gpt2",
    f"{KEY}pre": "gpt-2",
    f"{KEY}tokens": ["<s>", "a", "b", "ab", "$A:0", " :1", "<0x41>"],
    f"{KEY}token_type": [3, 1, 1, 1, 4, 1, 6],
    f"{KEY}scores": [0.0, -1.0, -2.0, -3.0, 0.0, 0.0, 0.0],
    f"{KEY}merges": ["a b"],
    f"{KEY}bos_token_id": 0,
    f"{KEY}eos_token_id": 4,
    f"{KEY}eot_token_id": 5,
    f"{KEY}unknown_token_id": 1,
    f"{KEY}padding_token_id": 2,
    f"{KEY}add_bos_token": True,
    f"{KEY}add_eos_token": True,
    f"{KEY}add_space_prefix": True,
    "tokenizer.chat_template": "x",
}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["gpt2", "llama"]),
    st.dictionaries(st.sampled_from(sorted(SMALL)), VALUES, max_size=3),
)
def test_any_damage_is_a_tokenizer_or_one_line(kind, damage):
    given_ = copy.deepcopy(SMALL) | {f"{KEY}model": kind} | damage
    try:
        ours = open_(given_)
    except UsageError as error:
        assert str(error).startswith("tokenizer") and "\n" not in str(error)
    else:
        assert all(0 <= i < len(given_[f"{KEY}tokens"]) for i in ours.encode("ab a$A:0<s>", True))


RUNS = ["▁" * n for n in range(2, 8)]
KINDS = {
    "llama": dict(remove_extra_whitespaces=False),
    "gemma": dict(
        add_dummy_prefix=False, remove_extra_whitespaces=False, user_defined_symbols=[*RUNS, "<b>"]
    ),
}


@pytest.fixture(scope="module", params=sorted(KINDS))
def pair(request, tmp_path_factory):
    """(metadata, processor) of a sentencepiece model trained here."""
    library = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp(request.param)
    lines = [t.encode("ascii", "ignore").decode() for t in texts(1500, seed=21)]
    (folder / "text").write_text("\n".join(line for line in lines if line.strip()))
    options = dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity")
    options |= dict(vocab_size=900) | KINDS[request.param]
    library.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "m"), minloglevel=2, **options
    )
    processor = library.SentencePieceProcessor(model_file=str(folder / "m.model"))
    user = KINDS[request.param].get("user_defined_symbols", ())
    prefix = {} if request.param == "llama" else {"add_space_prefix": False}
    return gguf_metadata.scored(processor, user, **prefix), processor


def test_scores_give_the_ids_of_sentencepiece(pair):
    metadata, processor = pair
    ours = open_(metadata)
    assert (ours.bos_id, ours.eos_ids, ours.unk_id) == (1, (2,), 0)
    for text in texts(1500, seed=8, special=["<b>"]):
        if "▁" in text:
            continue  # which sentencepiece cannot tell from a space, nor Gemma's tokens from both
        ids = ours.encode(text)
        assert ids == processor.encode(text), text
        assert ours.decode(ids) == processor.decode(ids), text


def test_scores_with_control_tokens(pair, tmp_path):
    metadata, processor = pair
    ours = open_(metadata)
    wanted = [1, *processor.encode("the  x"), 2, *processor.encode(" and")]
    assert ours.encode("<s>the  x</s> and") == wanted
    assert ours.encode("the", add_special=True) == [1, *processor.encode("the")]
    plain = open_(metadata | {f"{KEY}add_bos_token": False})
    assert plain.encode("the", add_special=True) == processor.encode("the")
    ours.save(tmp_path)
    again = load_tokenizer(tmp_path)
    for text in texts(300, seed=9, special=["<s>", "</s>", "<unk>"]):
        assert again.encode(text, True) == ours.encode(text, True)


def test_runs_of_spaces_that_are_tokens(pair):
    metadata, processor = pair
    if KINDS["gemma"]["user_defined_symbols"][0] not in processor.encode("a  b", out_type=str):
        pytest.skip("of the model with such tokens")
    ours = open_(metadata)
    for size in range(1, 20):
        text = "a" + " " * size + "b"
        ids = ours.encode(text)
        assert ids == processor.encode(text) and ours.decode(ids) == text


@pytest.mark.parametrize("change", [None, [0.0], ["x"], float("nan")])
def test_wrong_scores_are_one_line(pair, change):
    metadata, _ = pair
    scores = change
    if isinstance(change, float):
        scores = [change, *metadata[f"{KEY}scores"][1:]]
    with pytest.raises(UsageError, match=rf"^{KEY}scores"):
        gguf_vocabulary.read(metadata | {f"{KEY}scores": scores})


def test_bytes_stand_in_for_what_is_unknown(pair):
    metadata, processor = pair
    ours = open_(metadata)
    ids = ours.encode("\U0001f9ff")
    assert ids == processor.encode("\U0001f9ff")
    assert [metadata[f"{KEY}token_type"][i] for i in ids[-4:]] == [BYTE] * 4
    assert ours.decode(ids) == "\U0001f9ff"
