"""Loss masks of public chat templates: what is unmasked is the assistant's text and its end.

With the text that a template writes between the prompt and the answer, which is said too.

The templates are not part of this repository; without them these tests are skipped.
"""

import re
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_example
from jaxsafety.data.tokens.render import end_of_turn
from jaxsafety.data.tokens.tokenizer import Tokenizer

FOLDER = Path(__file__).resolve().parents[3] / "shared/data/tokenizers/chat_templates"
FILES = sorted(FOLDER.rglob("*.jinja"))
# What ends an assistant's turn; two write nothing after it, so that no end could be learnt.
ENDS = {
    "Qwen-Qwen2.5-7B-Instruct": "<|im_end|>",
    "alpaca": "</s>",
    "amberchat": None,
    "chatml": "<|im_end|>",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "<｜end▁of▁sentence｜>",
    "falcon-instruct": None,
    "granite-3.0-instruct": "<|end_of_text|>",
    "microsoft-Phi-3.5-mini-instruct": "<|end|>",
    "mistral-instruct": "</s>",
    "mistralai-Mistral-Nemo-Instruct-2407": "</s>",
    "openchat-3.5": "<|end_of_turn|>",
    "phi-3": "<|end|>",
    "phi-3-small": "<|end|>",
    "qwen2.5-instruct": "<|im_end|>",
    "vicuna": "</s>",
    "zephyr": "</s>",
}
# What the file has between the prompt and the answer: a line, its indentation and a space.
BEFORE = {"mistral-instruct": "\n" + " " * 9}
SPECIAL = re.compile(r"<[|｜][^|｜<>']*[|｜]>|\[/?INST\]|\[/?[A-Z_]+\]")
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cn")) | st.just("\n"), max_size=12
)
CONTENT = WORDS.filter(
    # nothing that is a special token, that a template may cut (falcon, deepseek), or is empty
    lambda s: s.strip() and not SPECIAL.search(s) and "\n\n" not in s and "␞" not in s
)

pytestmark = pytest.mark.skipif(not FILES, reason="no ../shared/data beside the repository")


def byte_tokenizer(file):
    """Bytes and every special token that the template writes."""
    source = file.read_text()
    roles = [f"<|{role}|>" for role in ("system", "user", "assistant")]
    wanted = {"<s>", "</s>", *roles, *SPECIAL.findall(source)}
    wanted |= {token for token in (ENDS[file.stem],) if token}
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate((*sorted(wanted), *alphabet))}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(
        [tokenizers.AddedToken(t, special=True, normalized=False) for t in sorted(wanted)]
    )
    eos = ENDS[file.stem] or "</s>"
    return Tokenizer(backend, bos_token="<s>", eos_token=eos, chat_template=source)


@st.composite
def dialogues(draw):
    """Perhaps a system message, then questions and answers in turn."""
    system = [Message("system", draw(CONTENT))] if draw(st.booleans()) else []
    turns = []
    for _ in range(draw(st.integers(1, 3))):
        turns += [Message("user", draw(CONTENT)), Message("assistant", draw(CONTENT))]
    return system + turns


def test_there_are_sixteen():
    assert {file.stem for file in FILES} == set(ENDS)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_the_unmasked_tokens_are_the_answers_and_their_ends(file):
    tokenizer, end = byte_tokenizer(file), ENDS[file.stem]
    assert end_of_turn(tokenizer) == (tokenizer.token_id(end) if end else None)
    if end is None:
        with pytest.raises(UsageError, match="no end of turn after an answer"):
            encode_example(tokenizer, [Message("user", "a"), Message("assistant", "b")])
        return
    before = BEFORE.get(file.stem, "")

    @settings(max_examples=60, deadline=None)
    @given(dialogues())
    def check(dialogue):
        ids, mask = encode_example(tokenizer, dialogue)
        said = tokenizer.decode([i for i, on in zip(ids, mask, strict=True) if on], False)
        answers = [m.content for m in dialogue if m.role == "assistant"]
        forms = ("".join(before + form(a) + end for a in answers) for form in (str, str.strip))
        assert said in tuple(forms)

    check()
