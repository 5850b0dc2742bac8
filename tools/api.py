"""Rewrites docs/api.md from the signatures and docstrings of the public names of `jaxsafety`.

`python tools/api.py`; names and headings are `jaxsafety.GROUPS`. Sources are read, not imported.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import jaxsafety

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
WIDTH = 88  # of a signature that stays on one line
HEAD = """# The public names

What `import jaxsafety` gives, made from the docstrings by `python tools/api.py`. These names are
stable; everything else is imported by its module and may move. Every example is a test
(`tests/test_api.py`). In shapes, letters are axes: B sequences, T positions, P prompt slots, L
layers, D width of the model, V vocabulary, N rows, C tokens of a subset, E experts.
"""
LISTS = ("Args", "Attributes", "Raises")
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Example|Source):(?: (.*))?")
Definition = ast.FunctionDef | ast.ClassDef


def page() -> str:
    """The text of docs/api.md."""
    parts = [HEAD, "".join(map(_contents, jaxsafety.GROUPS))]
    for heading, names in jaxsafety.GROUPS.items():
        parts.append(f"## {heading}\n")
        parts += [_entry(name, where) for name, where in names.items()]
    return "\n".join(parts)


def _contents(heading: str) -> str:
    links = [f"[{name}](#{name.lower()})" for name in jaxsafety.GROUPS[heading]]
    return f"- {heading}: {', '.join(links)}\n"


def _entry(name: str, where: str) -> str:
    path, node, text = definition(where)
    file = path.relative_to(ROOT).as_posix()
    doc = ast.get_docstring(node) or ""
    return (
        f"### {name}\n\n```python\n{signature(name, node, text)}\n```\n\n{markdown(doc)}\n"
        f"Defined in [`{file}`](../{file}).\n"
    )


def definition(where: str) -> tuple[Path, Definition, str]:
    """The file of "module:attribute", the statement there that defines it, and the file's text."""
    module, _, attribute = where.partition(":")
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    text = path.read_text("utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, Definition) and node.name == attribute:
            return path, node, text
    raise LookupError(f"{where}: {path} does not define it")


def signature(name: str, node: Definition, text: str) -> str:
    """How it is called, with the annotations and defaults as the source has them."""
    if isinstance(node, ast.FunctionDef):
        return _call(f"jaxsafety.{name}", list(_parameters(node.args, text)), node.returns, text)
    methods = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
    if "__call__" in methods:  # a protocol of functions
        call = methods["__call__"]
        _, *rest = _parameters(call.args, text)  # without self
        return _call(f"def {name.lower()}", rest, call.returns, text)
    fields = [
        _parameter(n.target.id, n.annotation, n.value, text)
        for n in node.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    ]
    if not fields:
        return f"class jaxsafety.{name}({', '.join(map(ast.unparse, node.bases))})"
    return _call(f"jaxsafety.{name}", fields, None, text)


def _call(name: str, parameters: list[str], returns: ast.expr | None, text: str) -> str:
    gives = f" -> {_source(returns, text)}" if returns is not None else ""
    line = f"{name}({', '.join(parameters)}){gives}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {p},\n" for p in parameters) + f"){gives}"


def _parameters(args: ast.arguments, text: str) -> Iterator[str]:
    plain = [*args.posonlyargs, *args.args]
    missing: list[ast.expr | None] = [None] * (len(plain) - len(args.defaults))
    for place, (arg, default) in enumerate(zip(plain, [*missing, *args.defaults], strict=True), 1):
        yield _parameter(arg.arg, arg.annotation, default, text)
        if place == len(args.posonlyargs):
            yield "/"
    if args.vararg:
        yield _parameter(f"*{args.vararg.arg}", args.vararg.annotation, None, text)
    elif args.kwonlyargs:
        yield "*"
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield _parameter(arg.arg, arg.annotation, default, text)


def _parameter(name: str, annotation: ast.expr | None, default: ast.expr | None, text: str) -> str:
    kind = f": {_source(annotation, text)}" if annotation is not None else ""
    if default is None:
        return name + kind
    return (
        f"{name}{kind} = {_source(default, text)}" if kind else f"{name}={_source(default, text)}"
    )


def _source(node: ast.expr, text: str) -> str:
    return " ".join((ast.get_source_segment(text, node) or "").split())


def markdown(doc: str) -> str:
    """A docstring of this repository as Markdown.

    Formulas and examples stand in fences, arguments in lists. Paragraphs that are indented before
    the first section are formulas.
    """
    before, *sections = _sections(inspect.cleandoc(doc).splitlines())
    parts = []
    for paragraph in "\n".join(before[1]).strip("\n").split("\n\n"):
        formula = paragraph.startswith("    ")
        text = textwrap.dedent(paragraph)
        parts.append(f"```text\n{text}\n```" if formula else text)
    for title, lines in sections:
        text = textwrap.dedent("\n".join(lines)).strip("\n")
        if title in LISTS:
            parts.append(f"**{title}**\n\n{_items(text)}")
        elif title == "Example":
            parts.append(f"**Example**\n\n```python\n{text}\n```")
        else:
            parts.append(f"**{title}**: {text}")
    return "\n\n".join(parts) + "\n"


def _sections(lines: list[str]) -> list[tuple[str, list[str]]]:
    """The lines before the first section, under "", and those of each."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in lines:
        match = SECTION.fullmatch(line)
        if match is None:
            found[-1][1].append(line if found[-1][0] != "Source" else line.strip())
        else:
            found.append((match[1], [match[2]] if match[2] else []))
    return found


def _items(text: str) -> str:
    """Entries "name: what it is", whose further lines are indented, as a list."""
    lines = []
    for line in text.splitlines():
        if line.startswith(" "):
            lines.append(f"  {line.strip()}")
        else:
            name, _, rest = line.partition(": ")
            lines.append(f"- `{name}`: {rest}")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
