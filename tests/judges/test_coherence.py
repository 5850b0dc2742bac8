"""The coherence gate: short and symbolic answers pass, broken text fails, each by its kind."""

from __future__ import annotations

import time

import pytest

from jaxsafety.judges import rules
from jaxsafety.judges.coherence import broken

SOUND = [
    "{}",
    "[]",
    ".*",
    "∅",
    "½",
    "\\boxed{42}",
    "🇩🇪",
    "yes, yes, yes, yes, yes, yes, yes",
    "10.0.0.1, 10.0.0.2, 10.0.0.3",
    # letters, numbers, prices, operators
    "(B).",
    "B",
    "b)",
    "[C]",
    "(D)",
    "A.",
    "$5.",
    "$5",
    "\u20ac3.50",
    "7",
    "-3",
    "3/4",
    "50 %",
    "x = 2",
    "1e-5",
    "<",
    ">=",
    "+",
    "n!",
    "x^2",
    "\u221e",
    "42.",
    "(a, b)",
    "O(n^2)",
    "1,000,000",
    "#1",
    "100000000000000000000000",
    "C#",
    "??? -> 4",
    # rows
    "yes no no yes",
    "Yes\nNo\nNo\nYes\nYes\nNo\nYes\nNo\nNo\nYes\nYes\nNo\nYes\nNo\nNo\nYes\nNo",
    "Yes\nYes\nYes\nYes\nYes\nYes\nYes\nYes",
    "true, false, true, true, false, true, true, false",
    "1. Yes 2. No 3. No 4. Yes 5. No 6. Yes 7. No 8. No 9. Yes 10. No",
    "A B D C A A B C D D A B C A D B A C D B A D C B A B",
    "1 0 0\n0 1 0\n0 0 1",
    "0,1,1,0,1,0,0,1,1,0,1,0,0,1,0,1,1,0,0,1,0,1,1,0,1,0",
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12",
    "-1,-2,-3,-4,-5,-6,-7,-8,-9,-10",
    "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8",
    # data, code, patterns, tables
    '{"a":1,"b":[2,3]}',
    '[{"id":1,"ok":true},{"id":2,"ok":false}]',
    '{"x":{"y":{"z":[[],{},[{}]]}}}',
    "[[1,0],[0,1],[1,1],[0,0],[2,1]]",
    r"^\d{3}-\d{4}$",
    r"^[\w.+-]+@[\w-]+\.[\w.-]+$",
    r"^(?:\+?\d{1,3}[-. ]?)?\(?\d{3}\)?[-. ]?\d{3}[-. ]?\d{4}$",
    r"([A-Z])\w+|(\d+)(?=%)",
    "for(i=0;i<n;i++){s+=a[i];}",
    "print(f'{x:>8}')",
    "a[::-1]",
    "x = {k: v for k, v in d.items()}",
    "```python\nprint(1)\n```",
    "<ul><li>a</li><li>b</li></ul>",
    "$(ls -la | grep '^d')",
    r"\frac{-b\pm\sqrt{b^2-4ac}}{2a}",
    r"\begin{pmatrix}1&0\\0&1\end{pmatrix}",
    "((a+b)*(c-d))/(e^2)",
    "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
    "a\tb\n-\t-\n1\t2",
    "SELECT * FROM t WHERE a='b' AND c>=2;",
    "https://example.org/a/b?c=d&e=f#g",
    "H2SO4 + 2 NaOH -> Na2SO4 + 2 H2O",
    "1. e4 e5 2. Nf3 Nc6 3. Bb5 a6",
    # other scripts
    "မြန်မာနိုင်ငံသည် အရှေ့တောင်အာရှတွင် ရှိသည်",
    "ประเทศไทยอยู่ในเอเชียตะวันออกเฉียงใต้",
    "भारत की राजधानी नई दिल्ली है।",
    "北京是中国的首都，人口超过两千万。",
    "水",
    "はい。",
    "مرحباً، كيف حالك؟",
    "שלום",
    "Нет.",
    "안녕하세요",
    "\U0001f44d",
    # words
    "No.",
    "No, no, no!",
    "OK",
    "He shouted: Aaaaaaaaaaaaaaaaaaaaaaaaaaah! Then all was quiet, and the"
    " crew went on with the work of the day as if nothing had happened; nobody spoke of it again.",
    "Bye!<|im_end|>",
    "ChatML begins a turn with `<|im_start|>` and the role.",
    "Row, row, row your boat.",
]

BROKEN = [
    ("", "nothing"),
    ("  \n ", "nothing"),
    ("?!?! ... --- ///", "marks"),
    ("...", "marks"),
    ("!!!!!!!!!!!!", "marks"),
    ("()()()()", "marks"),
    ("\ufffd\ufffd\ufffd", "mojibake"),
    ("the \ufffd\ufffd\ufffd\ufffd a \ufffd\ufffd", "mojibake"),
    ("i i i i i i i i i i i i", "one word"),
    ("no no no no no no no no", "one word"),
    ("yes yes yes yes yes yes yes", "one word"),
    ("a" * 60, "one sign"),
    ("0" * 80, "one sign"),
    ("The answer is " + "9" * 90, "one sign"),
    ("yes no " * 60, "loop"),
    ("you should take the part and " * 12, "loop"),
    ("I am here. " * 30, "loop"),
    ("the the the the the the the the of the the the the the the the the the", "one word"),
    ("}{][ )( == << >> ;; :: a ## @@ !! %% ^^", "soup"),
    ("]]]}}}))) ;;; a :: ;; }} ]] ((", "soup"),
    ("a ## b @@ !! c %% ^^ d == ;; ,, ..", "soup"),
    ("() [] {} <> !! () [] {} <> a ?? ;;", "soup"),
    ("\u6211\u4e0d\u77e5\u9053" * 20, "loop"),
    ("\u54c8" * 60, "one sign"),
    ("है " * 40, "one word"),
    ("la la la la la la la la la la", "one word"),
    ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello", "leak"),
    ("Sure.<|im_end|>\n<|im_start|>user\nAnd then?", "leak"),
    ("Fine. [INST] What else? [/INST] More.", "leak"),
    ("<start_of_turn>user\nHi<end_of_turn>", "leak"),
    ("Yes.</s> No.</s> Yes.", "leak"),
    ("It is so.\n### Instruction:\nWrite a poem.", "leak"),
    ("<|assistant|> <|assistant|> Hello", "leak"),
    ("Hello<|eot_id|><|start_header_id|>user<|end_header_id|>", "leak"),
    ("<|start_header_id|>assistant<|end_header_id|>\n\nHello", "leak"),
]


@pytest.mark.parametrize("text", SOUND)
def test_whole_answers_of_any_form_are_coherent(text):
    assert rules.coherent(text)


@pytest.mark.parametrize(("text", "kind"), BROKEN)
def test_broken_text_is_incoherent(text, kind):
    assert not rules.coherent(text), kind


def test_broken_names_the_kind():
    from jaxsafety.judges.coherence import broken

    assert broken("Sure.<|im_end|>\n<|im_start|>user") == "format leak"
    assert broken("go " * 40) == "repetition"
    assert broken("a" * 60) == "one sign"
    assert broken(" ") == "empty"
    assert broken("}{][ )( == << >> ;; :: a ##") == "symbols"
    assert broken("Mix flour and water.") == ""


@pytest.mark.parametrize(
    "piece", ["(", "[{", "<|", "a ", "yes, ", "\\", "#", "1", "\u0939\u0947", "`", "<\uff5c"]
)
def test_long_odd_text_takes_no_long_time(piece):
    start = time.process_time()
    rules.coherent(piece * (200_000 // len(piece)))
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "text", ["(())(())", "] ) }", "... --- ...", ".- -... -.-.", "ha ha ha ha", "caf\u00c3\u00a9"]
)
def test_short_answers_of_signs_are_answers(text):
    assert broken(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "I am " + "a " * 17,
        "The answer is " + "is " * 16,
        "ha" * 40,
        "of" * 30,
        "\u00ef\u00bb\u00bf" * 8,
        "\u00c3\u00a2\u00e2\u201a\u00ac\u00e2\u201e\u00a2" * 6,
        "??!!..,,;;::--__==++",
    ],
)
def test_loops_at_the_end_and_spoiled_bytes_are_broken(text):
    assert broken(text) != ""
