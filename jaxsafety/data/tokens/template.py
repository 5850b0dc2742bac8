"""Chat templates as transformers runs them: Jinja's immutable sandbox, its filters, and a clock.

What a template may call is what transformers 5.24 offers it
(`transformers/utils/chat_template_utils.py`): `raise_exception`, `tojson` with the arguments of
`json.dumps`, loop controls, `{% generation %}` tags and `strftime_now`. The clock stands still: all
renderings of a tokenizer show one date, that of the variable `date` ("2026-11-28") or else of the
day on which the first was made, so that a dialogue, its prompt and its mask fit together.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox

from jaxsafety.core.errors import bad

OWN = ("messages", "add_generation_prompt", "strftime_now", "raise_exception")
# Noncharacters (Unicode never assigns them) that stand for the tags in a marked rendering.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
CLOCK = "strftime_now"


class _Generation(jinja2.ext.Extension):
    """Renders the body of `{% generation %}...{% endgeneration %}`; `marked`, between marks."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's interface)
    marked = False

    def parse(self, parser: Any) -> Any:
        """Returns the nodes between the tags."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        if not self.marked:
            return body

        def mark(text: str) -> jinja2.nodes.Node:
            return jinja2.nodes.Output([jinja2.nodes.TemplateData(text)], lineno=line)

        return [mark(OPEN), *body, mark(CLOSE)]


class _Marked(_Generation):
    marked = True


@functools.lru_cache(maxsize=32)
def compiled(source: str, marked: bool = False) -> jinja2.Template:
    """The template of a source.

    Args:
      source: Jinja.
      marked: whether what lies between generation tags comes between `OPEN` and `CLOSE`.

    Raises:
      jinja2.TemplateError: a source that does not parse.
    """
    return _environment(marked).from_string(source)


def _environment(marked: bool = False) -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: Sequence[str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        pair = None if separators is None else (separators[0], separators[1])
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=pair, sort_keys=sort_keys
        )

    tags = _Marked if marked else _Generation
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[tags, "jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def failure(error: Exception) -> tuple[str, str]:
    """(what went wrong in a rendering, what would be right).

    Only `raise_exception` says that it is the dialogue's fault and not the template's.
    """
    given = str(error) or type(error).__name__
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"{given} (line {error.lineno})", "a template that Jinja can parse"
    if isinstance(error, jinja2.exceptions.SecurityError):
        return given, "a template that runs in Jinja's sandbox"
    if type(error) is jinja2.TemplateError:
        return given, "a dialogue that the template accepts"
    return given, "a template that can render this dialogue"


@functools.lru_cache(maxsize=32)
def names(source: str) -> frozenset[str]:
    """Names that a template looks up and does not set itself; none if it does not parse."""
    try:
        return frozenset(jinja2.meta.find_undeclared_variables(_environment().parse(source)))
    except jinja2.TemplateError:
        return frozenset()


def check(source: str | None, variables: Mapping[str, Any]) -> None:
    """Refuses variables that a template never reads, since they would change nothing.

    Raises:
      UsageError: such a variable; `date` is read by templates with a clock.
    """
    known = names(source or "")
    known |= {"date"} if CLOCK in known else set()
    for name in variables:
        if name not in known:
            read = ", ".join(sorted(known - set(OWN))) or "none"
            raise bad("model.variables", name, f"what the chat template reads: {read}")


def clock(date: Any) -> datetime.datetime:
    """The moment that templates are shown.

    Args:
      date: an ISO date or date with time ("2026-11-28"); None is now.

    Raises:
      UsageError: something else.
    """
    if date is None:
        return datetime.datetime.now()
    try:
        return datetime.datetime.fromisoformat(date)
    except (TypeError, ValueError):
        raise bad("variables date", date, 'a date such as "2026-11-28"') from None


def parse(words: Sequence[str], field: str = "variables") -> dict[str, Any]:
    """Variables of a template from their text.

    Args:
      words: "NAME=JSON" each, such as `enable_thinking=false`. A list or an object may come in
        pieces, cut at its commas, as a setting that is a list of words is.
      field: how an error names them.

    Raises:
      UsageError: no name, one that templates do not take or that comes twice, or no JSON.
    """
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, text = word.partition("=")
        name = name.strip()
        if not equals or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in OWN:
            raise bad(field, word, f"NAME=JSON, a name other than {', '.join(OWN)}")
        if name in found:
            raise bad(field, word, f"each name once; {name} is there twice")
        for more in range(len(rest) + 1):
            value, good = _json(",".join([text, *rest[:more]]))
            if good:
                break
        else:
            hint = 'such as true, 3 or "text" (a text with its quotes)'
            raise bad(f"{field} {name}", text, f"JSON, {hint}")
        del rest[:more]
        found[name] = value
    if "date" in found:
        clock(found["date"])
    return found


def _json(text: str) -> tuple[Any, bool]:
    """The value of a text, and whether it is JSON."""

    def constant(name: str) -> None:
        raise ValueError(name)  # NaN and its kind: no JSON, and no text of a template either

    try:
        return json.loads(text, parse_constant=constant), True
    except (ValueError, RecursionError):
        return None, False


def with_defaults(source: str, variables: Mapping[str, Any]) -> str:
    """The template with variables as its defaults, so that other programs render it alike.

    A caller's own value still wins. What a template never reads is left out.
    """
    lines = (
        f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif %}}\n"
        for name, value in variables.items()
        if name in names(source)
    )
    head = "".join(lines)
    return source if source.startswith(head) else head + source


def _literal(value: Any) -> str:
    """A JSON value as Jinja writes it."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        pairs = (f"{_literal(k)}: {_literal(v)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
