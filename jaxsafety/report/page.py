"""Pieces of `report.html`: fills the templates of a folder, always escaped. Knows nothing of runs.

A template gets numbers, texts and rows, and has the markup and the prose. Whatever is put into it
is escaped, wherever it comes from; only what another template has made is markup already. A folder
beside a method's sections has the templates of that method; `report/macros.html` is there for all.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from jaxsafety.core import disk

TEMPLATES = Path(__file__).with_name("templates")


class Part(NamedTuple):
    """A section as the page shows it; without a body it says that `unread` cannot be read."""

    anchor: str
    title: str
    body: str
    unread: str = ""


def save(folder: Path, text: str) -> Path:
    """Writes a page to `report.html` of a folder, whole or not at all, and says where it is."""
    path = folder / "report.html"
    with disk.replaced(path) as temporary:
        temporary.write_text(f"{text}\n", "utf-8")
    return path


def fill(folder: Path, template: str, /, **values: Any) -> Markup:
    """A template with values in it.

    Args:
      folder: where it lies; `report/NAME` inside a template is one of this package's own.
      template: its name.
      **values: what it asks for.

    Returns:
      Markup, which other templates take as it is.

    Raises:
      jinja2.UndefinedError: the template asks for a value that is not given.
    """
    return Markup(environment(folder).get_template(template).render(values).strip())


@cache
def environment(folder: Path) -> jinja2.Environment:
    """The templates of a folder beside this package's own: escaped, and nothing may be missing."""
    own = jinja2.FileSystemLoader(TEMPLATES)
    found = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.FileSystemLoader(folder), jinja2.PrefixLoader({"report": own})]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(data_uri=data_uri, across=across, soft=soft)
    return found


def data_uri(svg: str) -> str:
    """A picture as an address that holds it, so that its ids cannot clash with another's."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def soft(text: object) -> Markup:
    """A long name, escaped, that may break into lines where its parts meet."""
    return Markup(re.sub(r"[/_,|]+(?=[^/_,|\s])", r"\g<0><wbr>", str(escape(text))))


def across(share: float) -> float:
    """A share's place on the axis of a drawing of intervals, 4 to 184 pixels for 0 to 100 %."""
    return round(4 + 180 * min(1.0, max(0.0, share)), 1)


def show(value: Any) -> str:
    """A config or artifact value in print."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def flat(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as pairs of a dotted name and what stands there."""
    if not isinstance(tree, Mapping):
        return [(prefix, tree)]
    return [
        pair
        for key, value in tree.items()
        for pair in flat(value, f"{prefix}.{key}" if prefix else str(key))
    ]
