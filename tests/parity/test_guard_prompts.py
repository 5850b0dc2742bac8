"""Prompts of the guards against transformers' rendering and the `judgezoo` package, as strings.

judgezoo imports a client of each API that it knows, so its source is parsed and not imported.
"""

from __future__ import annotations

import ast
import importlib.util
import os
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from transformers import AutoTokenizer

from jaxsafety.data.tokens.tokenizer import load_tokenizer
from jaxsafety.judges.guards import (
    guard,
    harmbench,
    llama_guard,
    qwen3guard,
    shieldgemma,
    wildguard,
)
from tests.judges.guards.published import TEMPLATES, WORDS, exchange, small_tokenizer

pytestmark = pytest.mark.parity
ANSWERS = ("It is two.", "  Naïve café? 数\n\n- a list\n- {braces} \\n ", "", "<|eot_id|> [/INST]")
VERSIONS = {"llama_guard1": llama_guard.ONE, "llama_guard2": llama_guard.TWO}
VERSIONS["llama_guard3"] = llama_guard.THREE


def pair(path, name):
    """Our tokenizer and transformers', of one directory with a guard's template."""
    small_tokenizer(WORDS[name], TEMPLATES[name]).save(path)
    return load_tokenizer(path), AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", VERSIONS)
def test_llama_guards_prompt_is_apply_chat_templates(tmp_path, name, answer):
    ours, theirs = pair(tmp_path, name)
    version = VERSIONS[name]
    judge = llama_guard.LlamaGuard(version, guard.Weights(None, None, ours))
    said = exchange(said=answer)
    chat = guard.dialogue(said, answer)
    text = theirs.apply_chat_template(chat, tokenize=False)
    assert judge.write(said, answer) == text + version.begin
    # judgezoo adds the id of the blank line behind the ids of the template
    ids = theirs.apply_chat_template(chat, tokenize=True, return_dict=False)
    begin = [ours.token_id(version.begin)] if version.begin else []
    assert ours.encode(judge.write(said, answer)) == [*ids, *begin]


@pytest.mark.parametrize("answer", ANSWERS)
def test_qwen3guards_prompt_is_apply_chat_templates(tmp_path, answer):
    ours, theirs = pair(tmp_path, "qwen3guard")
    judge = qwen3guard.Qwen3Guard(guard.Weights(None, None, ours))
    said = exchange(said=answer)
    text = theirs.apply_chat_template(guard.dialogue(said, answer), tokenize=False)
    assert judge.write(said, answer) == text + qwen3guard.LABEL


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("guideline", shieldgemma.GUIDELINES.values())
def test_shieldgemmas_prompt_is_its_templates(tmp_path, guideline, answer):
    ours, theirs = pair(tmp_path, "shieldgemma")
    judge = shieldgemma.ShieldGemma(guard.Weights(None, None, ours))
    said = exchange(said=answer)
    chat = guard.dialogue(said, answer)
    text = theirs.apply_chat_template(chat, tokenize=False, guideline=guideline)
    assert judge.write(guideline, said, answer) == text


def sources(package):
    """The folder of an installed package, or the one that a variable of its name names."""
    found = importlib.util.find_spec(package)
    own = found.submodule_search_locations[0] if found else ""
    place = os.environ.get(package.upper(), own)
    if not Path(place or "none").is_dir():
        pytest.skip(f"{package} is not installed, and {package.upper()} names no folder of it")
    return Path(place)


def constants(file, names):
    """Literal values that a file assigns to these names or attributes."""
    found = {}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Assign):
            target = node.targets[0]
            name = getattr(target, "id", getattr(target, "attr", ""))
            if name in names and name not in found:
                found[name] = ast.literal_eval(node.value)
    return found


@pytest.mark.parametrize("answer", [*ANSWERS, "{prompt} {response}"])
def test_wildguards_prompt_is_the_packages(answer):
    text = constants(sources("wildguard") / "utils.py", ("WILDGUARD_INPUT_FORMAT",))
    asked = "What is {response}?"
    theirs = text["WILDGUARD_INPUT_FORMAT"].format(prompt=asked, response=answer)
    assert wildguard.prompt(asked, answer) == theirs


def test_judgezoos_llama_guard3_reads_what_is_read_here():
    source = sources("judgezoo") / "llama_guard_3.py"
    ids = constants(source, ("unsafe_token_id", "safe_token_id", "newline_token_id"))
    # of Llama 3's vocabulary: "unsafe", "safe" and "\n\n", none of them with a space
    assert ids == {"unsafe_token_id": 39257, "safe_token_id": 19193, "newline_token_id": 271}
    text = source.read_text()
    assert "softmax(dim=-1)" in text and 'return {"p_harmful": unsafe_prob' in text
    assert llama_guard.LlamaGuard.convention == "whole" and llama_guard.THREE.begin == "\n\n"


def test_judgezoos_harmbench_differs_as_is_said():
    """The card's four rules are not judgezoo's eight; what surrounds them is the same."""
    source = sources("judgezoo") / "harmbench.py"
    system, user = constants(source, ("CLS_CONVERSATION",))["CLS_CONVERSATION"]
    said = "It is {two}."
    theirs = user["content"].format(behavior="What?", generation=said)
    head = f"[INST] <<SYS>>\n{system['content']}\n<</SYS>>\n\n"
    ours = harmbench.prompt("What?", said)
    assert ours.startswith(head + theirs.partition("Rules:")[0] + "Rules:\n")
    assert ours.endswith(theirs[theirs.rindex("\n\nAnswer:") :] + " [/INST]")
    rules = [[x for x in text.splitlines() if x.startswith("- ")] for text in (ours, theirs)]
    assert [len(found) for found in rules] == [4, 8]
    # their templates are written without newlines, and the system text ends up joined
    assert '.replace("\\n", "")' in (sources("judgezoo") / "_utils.py").read_text()
