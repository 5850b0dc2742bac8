"""The public names: their table, their examples, and the page that is made of them."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import jaxsafety

ROOT = Path(__file__).resolve().parent.parent
FRONT = ROOT / "jaxsafety" / "__init__.py"
_spec = importlib.util.spec_from_file_location("api", ROOT / "tools" / "api.py")
api = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(api)
FUNCTIONS = {
    name: node
    for name, where in jaxsafety.PUBLIC.items()
    if isinstance(node := api.definition(where)[1], ast.FunctionDef)
}


@pytest.mark.parametrize("name", jaxsafety.PUBLIC)
def test_examples(name, monkeypatch):
    """Each has one that stands alone: it imports what it uses."""
    monkeypatch.chdir(ROOT)  # an example may name a config
    doc = inspect.getdoc(getattr(jaxsafety, name))
    test = doctest.DocTestParser().get_doctest(doc, {}, name, None, None)
    assert test.examples, "no example"
    report = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert result.attempted == len(test.examples)
    assert not result.failed, "".join(report)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_are_complete(name):
    """Every argument is explained, in order, and what comes back."""
    node = FUNCTIONS[name]
    sections = dict(api._sections(ast.get_docstring(node).splitlines()))
    args = node.args
    every = [*args.posonlyargs, *args.args, *([args.vararg] if args.vararg else [])]
    names = [arg.arg for arg in (*every, *args.kwonlyargs)]
    entries = [line for line in sections.get("Args", []) if line[2:3].strip()]
    assert [line.strip().partition(":")[0].lstrip("*") for line in entries] == names
    assert ("Returns" in sections) == (ast.unparse(node.returns) != "None")


def test_one_table():
    """`__all__`, the table and what a type checker sees name the same things."""
    assert set(jaxsafety.__all__) == {"__version__", *jaxsafety.PUBLIC}
    assert set(jaxsafety.__all__) <= set(dir(jaxsafety))
    seen = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in ast.walk(ast.parse(FRONT.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("jaxsafety")
        for alias in node.names
    }
    assert seen == jaxsafety.PUBLIC
    # An import of a submodule would put it where the name was.
    assert not set(jaxsafety.PUBLIC) & {p.stem for p in FRONT.parent.iterdir()}
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = jaxsafety.lode


def test_names_are_imported_when_asked_for():
    code = "import sys, jaxsafety; dir(jaxsafety); assert 'jax' not in sys.modules\n"
    code += "jaxsafety.load; assert 'jax' in sys.modules and 'jaxsafety.testing' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_page_is_up_to_date():
    assert api.PAGE.read_text("utf-8") == api.page(), "run: python tools/api.py"


DOC = """Does it.

    y = x + 1

and so on, on
two lines.

Args:
  x: the first
    of them, [B].
  y: the second.

Returns:
  The sum.

Example:
  >>> print("a")
  a

Source: a paper,
  eq. 2.
"""
PAGE = """Does it.

```text
y = x + 1
```

and so on, on
two lines.

**Args**

- `x`: the first
  of them, [B].
- `y`: the second.

**Returns**: The sum.

**Example**

```python
>>> print("a")
a
```

**Source**: a paper,
eq. 2.
"""


def test_docstrings_become_markdown():
    assert api.markdown(DOC) == PAGE


def test_signatures():
    text = (
        "def f(a, /, b: int = 1, *c, d: str, e=None) -> bool: ...\nclass G(Base):\n    x: int = 2\n"
    )
    f, g = ast.parse(text).body
    assert api.signature("f", f, text) == (
        "jaxsafety.f(a, /, b: int = 1, *c, d: str, e=None) -> bool"
    )
    assert api.signature("G", g, text) == "jaxsafety.G(x: int = 2)"
    text = "class H(Protocol):\n    def __call__(self, x: int, /) -> bool: ...\n"
    assert api.signature("H", ast.parse(text).body[0], text) == "def h(x: int, /) -> bool"
    with pytest.raises(LookupError, match=r"jaxsafety\.cli:nothing"):
        api.definition("jaxsafety.cli:nothing")
