"""Chat templates and tokenizer files against transformers: same text, same ids."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from transformers import AutoTokenizer

from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.render import render
from jaxsafety.data.tokens.tokenizer import ByteTokenizer

pytestmark = pytest.mark.parity
DIALOGUE = [
    {"role": "system", "content": " Be kind.\n"},
    {"role": "user", "content": "naïve café? 数"},
    {"role": "assistant", "content": "ok  "},
    {"role": "user", "content": 'a "quoted" word'},
]
# Shaped like the public templates of the two families: trims, namespaces, loops, filters.
LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = "26 Jul 2024" %}{% endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}{% set system_message = "" %}{% endif %}
{{- "<|system|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|end|>" }}
{%- for message in messages %}
    {{- '<|' + message['role'] + "|>\\n\\n"+ message['content'] | trim + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n\\n' }}
{%- endif %}
"""
QWEN3 = """{%- if tools %}{{ raise_exception('no tools') }}{% endif %}
{%- if messages[0].role == 'system' %}
    {{- '<|system|>\\n' + messages[0].content + '<|end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages %}
    {%- if message.role == 'system' and loop.first %}
        {%- continue %}
    {%- endif %}
    {{- '<|' + message.role + '|>\\n' + message.content + '<|end|>' }}
    {%- if loop.index0 == ns.last %}{{- message.content | tojson }}{% endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""


@pytest.mark.parametrize("template", [None, LLAMA3, QWEN3])
@pytest.mark.parametrize("variables", [{}, {"enable_thinking": False}])
def test_templates_render_as_in_transformers(tmp_path, template, variables):
    ours = ByteTokenizer() if template is None else ByteTokenizer(template)
    ours.variables = variables
    ours.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for generation in (False, True):
        expected = theirs.apply_chat_template(
            DIALOGUE, tokenize=False, add_generation_prompt=generation, **variables
        )
        assert render(ours, DIALOGUE, generation=generation) == expected
    ids = theirs.apply_chat_template(
        DIALOGUE, add_generation_prompt=True, return_dict=False, **variables
    )
    assert encode_prompt(ours, DIALOGUE) == list(ids)
    assert theirs.eos_token_id == ours.eos_ids[0] and theirs.pad_token_id == ours.pad_id
