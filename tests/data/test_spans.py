"""What the model must say: thoughts that templates move, other ends of turn, real merges."""

from __future__ import annotations

import pytest
import tokenizers as tk

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Example, Message
from jaxsafety.data.tokens.encode import (
    encode_dialogues,
    encode_example,
    encode_prompt,
)
from jaxsafety.data.tokens.render import end_of_turn, render
from jaxsafety.data.tokens.tokenizer import ByteTokenizer, Tokenizer

# Of the form of Qwen3's: thoughts of earlier turns are cut, the last answer gets one, empty if it
# has none; without thinking the prompt opens and closes it.
THINKING = """{%- set ns = namespace(last=-1) %}
{%- for m in messages %}
{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}
{%- set said, thought = m.content, '' %}
{%- if '</think>' in said %}
{%- set thought = said.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{%- set said = said.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{%- if loop.index0 > ns.last and (loop.last or thought) %}
{%- set said = '<think>\\n' + thought + '\\n</think>\\n\\n' + said %}
{%- endif %}
{{- '<|assistant|>\\n' + said + '<|end|>\\n' }}
{%- else %}{{- '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|assistant|>\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""
OPENED = (  # DeepSeek's distilled kind: the prompt opens a thought, a finished answer has none
    "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|>"
    "{{ m.content.split('</think>')[-1] }}<|end|>{% else %}<|user|>{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
MOVING = (  # Mistral Nemo's kind: the system message goes into the last question
    "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}<|user|>"
    "{% if loop.last %}{{ messages[0].content }}\n{% endif %}{{ m.content }}<|assistant|>"
    "{% else %} {{ m.content }}<|end|>{% endif %}{% endfor %}"
)
THOUGHT = "<think>\nSeven times nine.\n</think>\n\n"


def said(tokenizer, *contents, system=None):
    """Each stretch of learnt text of a dialogue whose turns alternate."""
    first = [] if system is None else [Message("system", system)]
    roles = ("user", "assistant")
    turns = [Message(roles[i % 2], content) for i, content in enumerate(contents)]
    ids, mask = encode_example(tokenizer, [*first, *turns])
    found, run = [], []
    for i, on in zip([*ids, 0], [*mask, False], strict=True):
        if on:
            run.append(i)
        elif run:
            found.append(tokenizer.decode(run, skip_special=False))
            run = []
    return found


def test_thoughts_are_learnt_where_they_are_and_not_where_they_were_cut():
    answers = said(ByteTokenizer(THINKING), "q", THOUGHT + "63.", "r", THOUGHT + "Yes.")
    assert answers == ["63.<|end|>", THOUGHT + "Yes.<|end|>"]


def test_an_empty_thought_is_said_unless_the_prompt_writes_it():
    tokenizer = ByteTokenizer(THINKING)
    empty = "<think>\n\n</think>\n\n"
    assert said(tokenizer, "q", "63.") == [empty + "63.<|end|>"]
    assert said(tokenizer, "q", "") == [empty + "<|end|>"]
    tokenizer.variables = {"enable_thinking": False}
    assert encode_prompt(tokenizer, [Message("user", "q")])[-1] == tokenizer.encode("\n")[0]
    assert said(tokenizer, "q", "63.") == ["63.<|end|>"]
    assert said(tokenizer, "q", "", "r", " b") == ["<|end|>", " b<|end|>"]


def test_an_answer_that_is_only_a_thought():
    assert said(ByteTokenizer(THINKING), "q", THOUGHT) == [THOUGHT + "<|end|>"]


def test_a_prompt_that_opens_a_thought():
    assert said(ByteTokenizer(OPENED), "q", "<think>hm</think>a", "r", " b") == [
        "a<|end|>",
        " b<|end|>",
    ]


def test_white_space_behind_a_thought_that_the_template_keeps_is_said():
    kept = ByteTokenizer(OPENED)
    thought = "<think>hm</think>\n\n"
    assert said(kept, "q", f"{thought}a", "r", f"{thought}b") == ["\n\na<|end|>", "\n\nb<|end|>"]
    # a new line of the header is none of the answer's, also where the answer had one that is cut
    lines = OPENED.replace("<|assistant|>", "<|assistant|>\n")
    cut = ByteTokenizer(lines.replace("[-1] }}", "[-1].lstrip() }}"))
    assert said(cut, "q", "<think>hm</think>\na", "r", "<think>hm</think>\n<b>") == [
        "a<|end|>",
        "<b><|end|>",
    ]


def test_a_system_message_that_moves():
    answers = said(ByteTokenizer(MOVING), "q", "a", "r", "b", system="Be kind.")
    assert answers == [" a<|end|>", " b<|end|>"]


def test_two_answers_in_a_row_and_contents_that_repeat():
    turns = [Message("user", "b"), Message("assistant", "a"), Message("assistant", "a b")]
    tokenizer = ByteTokenizer()
    ids, mask = encode_example(tokenizer, turns)
    learnt = [i for i, on in zip(ids, mask, strict=True) if on]
    assert tokenizer.decode(learnt, skip_special=False) == "a<|end|>a b<|end|>"


def test_words_of_the_marks_do_no_harm():
    assert said(ByteTokenizer(), "qz0k", "qz0k0x qz1k ␞0␞") == ["qz0k0x qz1k ␞0␞<|end|>"]


def test_a_template_that_drops_an_answer_is_refused_with_the_row():
    first = "{% for m in messages %}{% if loop.index < 4 %}{{ m.content }}<|end|>{% endif %}"
    tokenizer = ByteTokenizer(first + "{% endfor %}")
    good = [Message("user", "q"), Message("assistant", "a")]
    rows = [Example(str(i), tuple(good), {"file": "c.jsonl", "row": i + 5}) for i in range(2)]
    rows.append(Example("2", tuple(good * 2), {"file": "c.jsonl", "row": 9}))
    assert len(encode_dialogues(tokenizer, rows[:2])) == 2
    with pytest.raises(UsageError, match=r"row 9 of c\.jsonl: .*rewrites or drops"):
        encode_dialogues(tokenizer, rows)


@pytest.mark.parametrize("meta", [{}, {"kind": "x"}])
def test_a_dialogue_without_a_file_is_told_by_its_place(meta):
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('No system here') }}"
    tokenizer = ByteTokenizer(
        strict + "{% endif %}{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    )
    good = Example("x", (Message("user", "q"), Message("assistant", "a")), meta)
    bad = Example("y", (Message("system", "s"), *good.messages), meta)
    with pytest.raises(UsageError, match="row 3 .*No system here"):
        encode_dialogues(tokenizer, [good, good, bad])


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def bytes_with(special=(), plain=(), template=CHATML):
    """A byte tokenizer whose end of turn is a special token, an ordinary added one, or text."""
    alphabet = sorted(tk.pre_tokenizers.ByteLevel.alphabet())
    backend = tk.Tokenizer(tk.models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    backend.pre_tokenizer = tk.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tk.decoders.ByteLevel()
    backend.add_special_tokens(["</s>", *special])
    backend.add_tokens([tk.AddedToken(t, special=False, normalized=False) for t in plain])
    return Tokenizer(backend, eos_token="</s>", chat_template=template)


def test_an_ordinary_added_token_ends_a_turn():
    tokenizer = bytes_with(plain=("<|im_start|>", "<|im_end|>"))
    end = tokenizer.token_id("<|im_end|>")
    assert end_of_turn(tokenizer) == end and tokenizer.eos_ids[-1] == end
    assert said(tokenizer, "q", "a", "r", "b") == ["a<|im_end|>", "b<|im_end|>"]
    assert end in tokenizer.special_ids
    assert tokenizer.decode(tokenizer.encode("a<|im_end|>")) == "a", "it is not part of an answer"


@pytest.mark.parametrize(
    "template", [CHATML, CHATML.replace("<|im_end|>", ""), "{{ messages[-1].content }} ###"]
)
def test_an_end_that_is_no_token_is_refused(template):
    tokenizer = bytes_with(template=template)
    assert end_of_turn(tokenizer) is None
    with pytest.raises(UsageError, match="end of turn.*cannot be learnt") as caught:
        said(tokenizer, "q", "a")
    assert "\n" not in str(caught.value)
    assert render(tokenizer, [Message("user", "q")]), "asking such a model is fine"


def test_text_between_the_answer_and_its_end_is_learnt():
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}></s>{% endfor %}"
    assert said(bytes_with(template=template), "q", "a") == ["<assistant>a</assistant></s>"]
