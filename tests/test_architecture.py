"""The repository's rules about itself: rooms, sizes, names, and what may not stand in it."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from jaxsafety import registry

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "jaxsafety"

# The rooms of the package by floor, from low to high: an import goes to a lower floor or stays in
# its own room. "" is jaxsafety/__init__.py.
FLOORS = (
    ("core",),
    ("adapters", "data", "losses", "organism", "registry"),
    ("models",),
    ("protocols",),
    ("judges", "mitigations", "sampling", "train"),
    ("benchmarks", "probing", "weak"),
    ("evaluation", "report"),
    ("experiment", "methods"),
    ("planning", "raising", "serving", "studies", "testing"),
    ("", "cli", "commands", "__main__"),
)
FRONT = FLOORS[-1]  # one room: how the package is entered
# The modules that stand in no room, and how many there may be.
LOOSE = {"__init__", "__main__", "cli", "protocols", "registry", "testing"}
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
CONFIGS = sorted(p for p in (ROOT / "configs").rglob("*.py") if p.name != "common.py")
OPTIONAL = {"torch", "tensorflow", "transformers"}


def tracked() -> list[Path]:
    """Files that are or would be committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    if done.returncode:  # a source archive without history
        return [p for p in ROOT.rglob("*") if p.is_file() and ".venv" not in p.parts]
    return [ROOT / name for name in os.fsdecode(done.stdout).split("\0") if name]


def tool(name: str) -> types.ModuleType:
    """A module of tools/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rooms = tool("rooms")
MODULES = rooms.modules(PACKAGE)
room, imports = rooms.room, rooms.imported


def module_name(file: Path) -> str:
    """`models.api` for jaxsafety/models/api.py; `models` for its __init__; "" for the root's."""
    return next(name for name, known in MODULES.items() if known == file)


def climbs(module: str, tree: ast.AST) -> list[str]:
    """Imports that go up, or to another room of the same floor."""
    own = room(module)
    return [
        f"{module or '__init__'} (room {own!r}) imports {target or '__init__'}"
        for target in rooms.own(tree, MODULES)
        if room(target) != own and FLOOR[room(target)] >= FLOOR[own]
    ]


def label(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", FILES, ids=label)
def test_imports_go_down(file):
    module = module_name(file)
    assert room(module) in FLOOR, f"{module} stands in no room of FLOORS"
    assert not climbs(module, ast.parse(file.read_text()))


def test_the_house():
    """At most ten floors, every room is a folder with files, and nobody stands in the hall."""
    assert len(FLOORS) <= 10
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert folders | LOOSE == set(FLOOR) - {""} | {"__init__"}
    assert {p.stem for p in PACKAGE.glob("*.py")} <= LOOSE


def test_the_floors_see_lazy_and_sideways_imports():
    lazy = "def f():\n    from jaxsafety.models.api import Model\n    return Model"
    assert climbs("losses.weights", ast.parse(lazy))
    assert not climbs("probing.votes", ast.parse(lazy))
    assert climbs("losses.weights", ast.parse("from jaxsafety import data"))
    assert climbs("losses.weights", ast.parse("import jaxsafety.cli"))
    assert climbs("losses.weights", ast.parse("import jaxsafety"))
    assert climbs("losses.weights", ast.parse("from jaxsafety.data.schema import Item"))
    assert not climbs("losses.weights", ast.parse("from jaxsafety.core.errors import bad"))


def test_no_module_reaches_itself():
    assert not rooms.circles(rooms.graph(PACKAGE))
    assert rooms.circles({"a": {"b"}, "b": {"a"}, "c": {"a"}}) == ["a", "b"]


def reached(start: str, graph: dict[str, set[str]]) -> set[str]:
    """Every module that importing `start` may import."""
    seen, ahead = set(), [start]
    while ahead:
        name = ahead.pop()
        ahead += graph.get(name, set()) - seen
        seen.add(name)
    return seen


def test_methods_import_no_organism():
    """What a method learns from is its `Setting`: no path leads from one to the toy world."""
    graph = rooms.graph(PACKAGE)
    toy = {name for name in graph if room(name) == "organism"}
    own = {name for name in graph if room(name) in {"methods", "protocols"}}
    assert {name: reached(name, graph) & toy for name in own} == {name: set() for name in own}
    assert reached("experiment.setting", graph) & toy  # it is seen where there is one


def test_the_drawing_knows_the_floors():
    """What docs/decisions.md shows: arrows go down, and as many floors as the table has."""
    arrows, floors = rooms.house(rooms.graph(PACKAGE))
    assert set(arrows) == {room(name) for names in FLOORS for name in names}
    assert max(floors.values()) <= len(FLOORS)
    assert all(floors[target] < floors[name] for name, below in arrows.items() for target in below)


def test_files_are_short():
    files = [p for p in tracked() if p.suffix in {".py", ".sh"} and p.is_file()]
    long = {label(p): n for p in files if (n := len(p.read_text().splitlines())) > 500}
    assert not long


def test_the_formatter_decides():
    """No line is kept out of its hands: tables too read well as it writes them."""
    marks = re.compile(r"#\s*(fmt|yapf):")
    assert not [label(p) for p in tracked() if p.suffix == ".py" and marks.search(p.read_text())]


def test_linen_stays_in_models():
    users = {f for f in FILES if any("linen" in name for name in imports(ast.parse(f.read_text())))}
    assert users, "nobody imports linen: the test looks for the wrong name"
    assert {room(module_name(f)) for f in users} == {"models"}


@pytest.mark.parametrize(
    ("table", "name"), [(t, n) for t, entries in registry.TABLES.items() for n in entries]
)
def test_registry_entries_resolve(table, name):
    assert registry.resolve(table, name) is not None


@pytest.mark.parametrize("file", CONFIGS, ids=label)
def test_config_files(file):
    """Docstring with the launch command, `get_config` for "" and "smoke", a known program."""
    from jaxsafety.core.config import load_config

    doc = ast.get_docstring(ast.parse(file.read_text())) or ""
    assert f"--config={label(file)}" in doc, "the docstring gives the launch command"
    for spec in (str(file), f"{file}:smoke"):
        config = load_config(spec)
        assert config.program in registry.METHODS
    assert not strangers(ast.parse(file.read_text()), file.parent.name, config.program)


def strangers(tree: ast.AST, method: str, program: str = "") -> list[str]:
    """What a config imports that is not common, its method's package or its study."""
    own = ("configs.common", f"jaxsafety.methods.{method}", f"jaxsafety.studies.{program}")
    return [
        name
        for name in imports(tree)
        if name.partition(".")[0] in {"configs", "jaxsafety"}
        and not any(name == one or name.startswith(f"{one}.") for one in own)
    ]


def test_what_configs_share_knows_no_method():
    """A method owns its recipes: `configs/common.py` and other configs know none of them."""

    def methods(text: str) -> list[str]:
        found = rooms.own(ast.parse(text), MODULES)
        return [name for name in found if room(name) in {"methods", "studies"}]

    assert not methods((ROOT / "configs" / "common.py").read_text())
    assert methods("from jaxsafety.methods.sft import recipe")
    assert strangers(ast.parse("from jaxsafety.methods.sft import recipe"), "safemoe", "sft")
    assert strangers(ast.parse("from configs.sft import organism"), "sft", "sft")
    assert not strangers(ast.parse("from jaxsafety.methods.sft import recipe"), "sft", "sft")


def public(body: list[ast.stmt], inside: str = "") -> list[tuple[str, ast.AST]]:
    """Public functions, classes and their methods, without dunders and protocol stubs (`...`)."""
    found = []
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        last = node.body[-1]
        stub = isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant)
        if not (stub and last.value.value is ...):
            found.append((inside + node.name, node))
        if isinstance(node, ast.ClassDef):
            found += public(node.body, f"{node.name}.")
    return found


@pytest.mark.parametrize("file", FILES, ids=label)
def test_public_names_have_docstrings(file):
    tree = ast.parse(file.read_text())
    assert ast.get_docstring(tree) or not tree.body, "the module says what it is"
    assert not [name for name, node in public(tree.body) if not ast.get_docstring(node)]


def test_agents_lists_every_file():
    agents = tool("agents")
    text = (ROOT / "AGENTS.md").read_text()
    assert agents.updated(text) == text, "run: python tools/agents.py"


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}


@pytest.mark.parametrize("file", FILES, ids=label)
def test_nothing_unsafe_or_uninitialised(file):
    """No code from data, no arrays of garbage, no other framework in the core."""
    text = file.read_text()
    tree = ast.parse(text)
    tops = {name.split(".")[0] for name in imports(tree)}
    assert not tops & ({"pickle", "dill", "cloudpickle", "marshal"} | OPTIONAL)
    assert not calls(tree) & {"eval", "exec", "torch.load", "jnp.empty", "jax.numpy.empty"}
    assert not re.search(r"trust_remote_code|allow_pickle\s*=\s*True|yaml\.load\(", text)
    assert "pjit" not in {name.rpartition(".")[2] for name in imports(tree) if "jax" in name}


def test_the_core_imports_no_other_framework():
    """What a user of the library loads stays free of torch, TensorFlow and transformers."""
    modules = [f"jaxsafety.{m}" if m else "jaxsafety" for m in map(module_name, FILES)]
    modules = [m for m in modules if not m.endswith("__main__")]
    code = "import importlib, sys\nfor m in sys.argv[1:]: importlib.import_module(m)\n"
    code += f"print(sorted({OPTIONAL!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


def test_help_needs_no_jax():
    code = "import sys, jaxsafety.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert 'jax' not in sys.modules and 'flax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


# Written so that these lines do not match themselves.
MACHINE = re.compile(
    r"(?<![\w.~$}])/(?:work|root|farm|home/[a-z]+|Users/[a-z]+|opt/(?:pypi|wheels))/"
)
HOSTS = re.compile(r"pypi[.]org|pythonhosted[.]org|registry[.]npmjs|deb[.]debian[.]org")


def test_the_project_names_no_machine():
    found = []
    for path in tracked():
        if path.suffix in {".safetensors", ".png", ".npz"} or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if MACHINE.search(line) or HOSTS.search(line):
                found.append(f"{label(path)}:{number}: {line.strip()[:80]}")
    assert not found
    assert MACHINE.search("see /" + "work/main") and not MACHINE.search("https://x.y/" + "work/a")
