"""What templates may call, variables of templates, and the clock that stands still."""

from __future__ import annotations

import datetime
import re

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.tokens import template
from jaxsafety.data.tokens.render import render
from jaxsafety.data.tokens.tokenizer import ByteTokenizer, load_tokenizer

ASK = [{"role": "user", "content": "q"}]
THINK = "{{ messages[0].content }}{% if think is defined and think is false %}!{% endif %}"
CLOCK = "{{ strftime_now('%d %b %Y') }} {{ messages[0].content }}"


def test_tojson_takes_the_arguments_of_transformers():
    value = "{{ {'b': [1], 'a': 'é'} | tojson"
    source = value + "(sort_keys=true, separators=(',', ':')) }} "
    source += value + "(ensure_ascii=true) }} " + value + "(indent=1) }}"
    wanted = '{"a":"é","b":[1]} {"b": [1], "a": "\\u00e9"} {\n "b": [\n  1\n ],\n "a": "é"\n}'
    assert render(ByteTokenizer(source), ASK) == wanted


def test_a_template_with_a_clock_writes_today_or_the_pinned_date():
    tokenizer = ByteTokenizer(CLOCK)
    today = datetime.date.today().strftime("%d %b %Y")
    assert render(tokenizer, ASK) == f"{today} q" and tokenizer.dated
    tokenizer.pin("2024-02-29")
    assert render(tokenizer, ASK) == "29 Feb 2024 q" and tokenizer.date == "2024-02-29"
    fixed = ByteTokenizer(CLOCK)
    fixed.variables = {"date": "2021-12-01"}
    assert render(fixed, ASK) == "01 Dec 2021 q" and not fixed.dated, "what is pinned is said"


def test_the_clock_stands_still():
    tokenizer = ByteTokenizer("{{ strftime_now('%f') }}")
    assert len({render(tokenizer, ASK) for _ in range(50)}) == 1
    assert not ByteTokenizer("{{ messages[0].content }}").dated


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 / 0 }}",
        "{{ strftime_now(3) }}",
        "{{ messages[0].content.index('z') }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ messages[7].content }}",
        "{{ {'a': 1}['b'].c }}",
        "{{ messages | tojson(separators='x') }}",
    ],
)
def test_whatever_a_template_does_is_one_line(source):
    with pytest.raises(UsageError, match=r"tokenizer\.chat_template") as caught:
        render(ByteTokenizer(source), ASK)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "given", "allowed"),
    [
        ("a\n{{ messages[0].content }", "(line 2)", "a template that Jinja can parse"),
        ("{% do messages %}", "unknown tag 'do'", "a template that Jinja can parse"),
        ("{{ messages.__class__.mro }}", "unsafe", "a template that runs in Jinja's sandbox"),
        ("{{ tides() }}", "'tides' is undefined", "a template that can render this dialogue"),
        ("{{ raise_exception('no tides') }}", "no tides", "a dialogue that the template accepts"),
    ],
)
def test_a_broken_template_is_not_blamed_on_the_dialogue(source, given, allowed):
    with pytest.raises(UsageError) as caught:
        render(ByteTokenizer(source), ASK)
    assert given in str(caught.value) and str(caught.value).endswith(f"allowed: {allowed}")


def test_variables_are_json_by_name():
    words = ["think=false", 'text="a,b=c"', "n=3", 'tools=[{"a": 1}', '{"b": [2', "3]}]"]
    found = template.parse(words)
    assert found == {"think": False, "text": "a,b=c", "n": 3, "tools": [{"a": 1}, {"b": [2, 3]}]}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["think"], "got 'think'; allowed: NAME=JSON"),
        (["=1"], "got '=1'; allowed: NAME=JSON"),
        (["a b=1"], "NAME=JSON"),
        (["messages=[]"], "a name other than messages"),
        (["think=no"], "field think: got 'no'; allowed: JSON"),
        (["think=NaN"], "allowed: JSON"),
        (["think=1", "think=2"], "think is there twice"),
        (['date="tomorrow"'], "variables date: got 'tomorrow'; allowed: a date"),
        (["date=3"], "allowed: a date"),
    ],
)
def test_bad_variables_are_one_line(words, line):
    with pytest.raises(UsageError, match=re.escape(line)) as caught:
        template.parse(words, "field")
    assert "\n" not in str(caught.value)


def test_a_variable_that_the_template_never_reads_is_refused(tmp_path):
    ByteTokenizer(THINK).save(tmp_path)
    assert render(load_tokenizer(tmp_path, variables={"think": False}), ASK) == "q!"
    with pytest.raises(UsageError, match=r"model\.variables: got 'thinks'; .*reads: think"):
        load_tokenizer(tmp_path, variables={"thinks": False})
    with pytest.raises(UsageError, match="got 'date'"):
        load_tokenizer(tmp_path, variables={"date": "2024-01-01"})
    ByteTokenizer(CLOCK).save(tmp_path)
    assert "2024" in render(load_tokenizer(tmp_path, variables={"date": "2024-01-01"}), ASK)


def test_variables_are_saved_as_defaults_of_the_template(tmp_path):
    tricky = 'x %} {{ "é😀\\ \n'
    source = "  {% if a %}\n{{ a.b[1] }}|{{ c }}|{{ a | tojson }}{% endif %}"
    tokenizer = ByteTokenizer(source)
    tokenizer.variables = {"a": {"b": [None, tricky]}, "c": 1.5, "unread": True}
    wanted = render(tokenizer, ASK)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert render(again, ASK) == wanted and "unread" not in again.chat_template
    again.variables = tokenizer.variables
    again.save(tmp_path / "b")
    assert load_tokenizer(tmp_path / "b").chat_template == again.chat_template, "written once"
    other = load_tokenizer(tmp_path, variables={"a": None})
    assert render(other, ASK) == "", "who loads it may still choose"


def test_tools_and_documents_can_be_given():
    source = "{% if tools %}{{ tools[0].name }}{% endif %}{% if documents %}D{% endif %}"
    tokenizer = ByteTokenizer(source)
    assert render(tokenizer, ASK) == ""
    tokenizer.variables = {"tools": [{"name": "clock"}], "documents": [{"text": "t"}]}
    assert render(tokenizer, ASK) == "clockD"
