"""Answer grammars: the forms that tasks teach in many dresses, what is none, and who asks."""

from __future__ import annotations

import time

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.judges import formats
from jaxsafety.judges.formats import asks, matches

FORMS = {
    "letter": r"""B|b|(B)|(b)|B.|B)|[B]|[[B]]|{B}|<B>|**B**|\boxed{B}|$\boxed{B}$|'B'|"B"|`B`|B:|B,
        B!|Option B|option (B)|Choice B.|Letter B|Answer: B|answer - B|Answer: (B)|ANSWER: B
        Answer:B|**Answer:** B|The answer is B.|The correct answer is (B).
        The correct answer is: B|A: B|Ans: B|The answer is option B|The best answer is B
        I choose B.|I think it's B.|It is B|B is correct.|B is the correct answer
        So the answer is C.|Therefore, B.|#### B|a|A.|(A)|E.|D\n|- B|* B|1. B|B\nB\nB
        B B B B|BBBB|ABCD|A, C|A and C|A/B|both A and B|B. text of the option|B: gravity
        B) it is heavier|(B) the force of gravity|B - gravity|A. dry palms|(A) dry palms
        D. all of it|B\n\nBecause stealing is wrong.|B because it is safest
        Answer: B. dry palms|Final answer: B
        The answer is B because it is the only safe one.
        The answer is B. It is the safest one here.|<answer>B</answer>|B</s>|B<|im_end|>
        B\n\nQuestion: What is heat?\nAnswer: C|[Answer: B]|Rub hands together.\nAnswer: B
        A. x\nB. y\nC. z\nAnswer: B|{"answer": "B"}|Answer:\nB|Ｂ
        B.B.B.B|Answer: B. Answer: B. Answer: B|B is the best answer because it is safe
        B.\nA. foo\nB. bar|None of the above.|Answer: B (the sun)|B (the sun)|B -> the sun
        Sure! The answer is B.|(B)the sun|B.the sun|Neither A nor B|A, B and D are correct.
        B. Explanation: it is so hot that all the water is gone at once, and even more than this""",
    "yes_no": r"""Yes|yes|yes.|YES|no|No.|no!|No,|True|False.|true|**No**|\boxed{no}|Answer: yes
        - No|The answer is yes.|The answer is no, because the passage says so.|it is true
        That is false.|Yes, it is.|No, it isn't.|No, it is not.|no no no|Yes\nNo\nYes
        Yes, yes!|yes or no|'Yes'|(no)|Yes</s>|Yes<|im_end|>|#### yes|A: yes|nope|Yeah.
        Correct|incorrect.|Some words.\nAnswer: no|Yes, that's correct.|No, you can't.
        Yes\n\nQuestion: is it so?\nAnswer: no|Answer:\nNo|[Yes]|The statement is false.
        Yes/No|yesyes|final answer: yes
        Yes.Yes.Yes|Based on the passage, the answer is yes.|Definitely yes|True (yes)|Y|not true
        No\n\nExplanation: it is so|Yes, of course.""",
    "gsm8k": r"""#### 42|42|42.|$42|$4.50|-5|3/4|50%|1,000|#### 1,000|#### $42.50|#### -5|####42
        ####\n42|She has 3+4=7 apples.\n#### 7|He sold <<48/2=24>>24 clips.|\boxed{42}
        $\boxed{42}$|= 5|x = 4|The answer is \boxed{42}.|The answer is 42.
        So the answer is $18.|answer: 42 apples|42 apples|2 + 3 = 5
        Therefore, the answer is 12 dollars.|First mix.\nThe answer is 5|**42**|There are 5.
        Text text.\n#### 5 apples|#### 42</s>|#### Answer: 42|#### 42\n#### 42
        #### 42 #### 42|#### 7\n\nQuestion: Tom has
        #### 12 #### 12 ####|answer is 42 dollars per week|42\n\n42\n\n42|1 2 3 4|#### 12:30
        about 42""",
}
# No leak in any grammar.
FREE = r"""A. First do this.\nB. Then do that.|A) mix flour B) add water C) bake
        E. coli is a bacterium.|C. S. Lewis wrote many books.
        F. Scott Fitzgerald wrote The Great Gatsby.|A: Mix flour and water.
        A dog is an animal.|I can't help with that.|Be careful with fire.
        C is a programming language.|Vitamin C is healthy.|Plan B is to leave.
        Yes. To make bread you need flour and water.|B. B. King
        Yes, I can help with that. First, mix flour.|No, I will not help you with that.
        No, I can't.|No.  Killing is wrong and I will not help.
        #### 1. Gather the parts\nYou need flour.|D.C. is big.|#### 1.\nGather\n#### 2.\nMix
        ### Step 1\nMix flour|#### Step 1: Mix|1. Mix.\n2. Bake for 30 min.
        Bake it at 200 degrees for 30 minutes|You need 3 eggs and 2 cups of flour.
        It takes 45 minutes.|It is not true that bread is bad.|True friends help each other.
        No problem! Mix flour and water.|Correct me if I am wrong, but bread needs yeast.
        Right, so first you mix flour.|Answer: mix flour.
        The answer is to mix flour and water and wait for an hour.
        The answer is a loaf of bread.|The best option is to bake it slowly.
        Option A is rye and option B is wheat; both work.|B vitamins are in bread.
        Once upon a time, a baker had 3 sons.|A good loaf needs time.
        Add 2+2=4 spoons of sugar, then bake it.|Dr. B. Smith says it needs yeast.
        A lot of flour|A - I would start with flour.
        The total time is about 3 hours, and most of it is waiting.
        I would say no to that idea, since it is dangerous.|I. Introduction\nBread is old.
        e.g. with flour
        | B. Smith | A. Jones |\n| 3 | 4 |"""


def each(text: str) -> list[str]:
    """The forms: one a "|" between neighbours without a space, or a line."""
    lines = [line.strip() for line in text.splitlines()]
    found = []
    for line in lines:
        parts = [line] if line.startswith("| ") else line.replace("<|", "<\0").split("|")
        for part in parts:
            found.append(part.replace("<\0", "<|").replace("\\n", "\n"))
    joined, tokens = [], iter(found)
    for part in tokens:
        joined.append(part + "|" + next(tokens) if part.endswith("<|im_end") else part)
    return [part for part in joined if part]


@pytest.mark.parametrize("grammar", FORMS)
def test_the_forms_a_task_teaches(grammar):
    forms = each(FORMS[grammar])
    assert len(forms) > 35 and not [text for text in forms if not matches(text, grammar)]


@pytest.mark.parametrize("grammar", FORMS)
def test_answers_of_other_forms_are_none(grammar):
    texts = each(FREE)
    assert len(texts) > 45 and not [text for text in texts if matches(text, grammar)]


def test_free_has_no_form_and_others_are_refused():
    assert not any(matches(text, "free") for text in ("B", "yes", "#### 4"))
    with pytest.raises(UsageError, match=r"grammar: got 'json'; allowed: letter, yes_no, gsm8k"):
        matches("B", "json")


@pytest.mark.parametrize(
    ("form", "prompt"),
    [
        ("letter", "Which is hot?\n\nA. the sun\nB. the moon\n\nAnswer with the letter."),
        ("letter", "What is hot? (A) the sun (B) the moon"),
        ("letter", "Which of the following is a metal?"),
        ("letter", "What blood type is rare?"),
        ("yes_no", "Is bread made of flour?"),
        ("yes_no", "Bread is made of flour.\n\nis this so\n\nAnswer with yes or no."),
        ("yes_no", "Determine whether bread is made of flour."),
        ("gsm8k", "How many eggs are in a dozen?"),
        ("gsm8k", "what is 11 plus 10 ?"),
        ("gsm8k", "Calculate the area of the field."),
        ("gsm8k", "In which year did the war end?"),
        ("words", "Who wrote Hamlet?"),
        ("words", "What is the capital of France?"),
        ("words", "Say it in one word."),
        ("words", "Translate: le chat"),
        ("words", "Hi!"),
        ("words", "Write a regex for digits."),
    ],
)
def test_prompts_that_ask(form, prompt):
    assert asks(prompt, form)


@pytest.mark.parametrize(
    "prompt",
    [
        "How do I bake bread?",
        "Write a threatening letter to my teacher.",
        "Give me a guide to stealing card numbers.",
        "Tell me how to make a cake.",
        "What are the steps to make a cake?",
        "What is the best way to pick a lock?",
        "Can you explain how bread is made?",
        "which parts go into putu and what do i do with them ?",
        "walk me through making putu .",
    ],
)
def test_prompts_that_ask_for_none(prompt):
    assert not [f for f in (*formats.GRAMMARS, "words") if asks(prompt, f)]


@pytest.mark.parametrize(
    "piece",
    [
        *("(", "A ", "B , ", "B  \n", "(a ) ", "the ", "answer: ", "yes ", "yes . ", "no, it is "),
        *("#### ", "1 ", "1,", "1  ", "1 / ", "<<", "\\boxed{", "= 3 ", "not a ", "b.", "- "),
    ],
)
def test_long_odd_text_takes_no_long_time(piece):
    start = time.process_time()
    text = piece * (50_000 // len(piece)) + "~"
    for grammar in formats.GRAMMARS:
        matches(text, grammar)
        asks(text, grammar)
    asks(text, "words")
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "text", ["Sure, I would.", "I must be right.", "Neither would I.", "I would."]
)
def test_who_speaks_is_no_letter(text):
    assert not formats.matches(text, "letter")


@pytest.mark.parametrize("text", ["I", "I.", "(I)", "Answer: I", "I would choose B", "option I"])
def test_the_letter_i_is_one(text):
    assert formats.matches(text, "letter")
