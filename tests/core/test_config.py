import dataclasses
import subprocess
import sys
from typing import Literal

import pytest
from ml_collections import ConfigDict

from jaxsafety.core import config
from jaxsafety.core.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Inner:
    lr: float = 0.1
    name: Literal["adam", "sgd"] = "adam"


@dataclasses.dataclass(frozen=True)
class Outer:
    steps: int
    inner: Inner = Inner()
    layers: tuple[int, ...] = ()
    pairs: tuple[tuple[str, float], ...] = ()
    flag: bool = False
    limit: int | None = None


def test_typed_builds_nested_frozen_records():
    section = ConfigDict({"steps": 3, "inner": {"lr": 1}, "layers": (1, 2), "pairs": (("a", 2),)})
    value = config.typed(Outer, section)
    assert value == Outer(3, Inner(1.0), (1, 2), (("a", 2.0),))
    assert isinstance(value.inner.lr, float)
    assert config.typed(Outer, {"steps": 1, "limit": 4}).limit == 4
    assert config.typed(Outer, {"steps": 1, "inner": Inner(2.0)}).inner.lr == 2.0


@pytest.mark.parametrize(
    ("section", "line"),
    [
        (
            {"steps": 1, "flagg": True},
            r"outer\.flagg: got True; .* 'flag'\? known: flag, inner",
        ),
        ({"steps": 1, "inner": {"lrr": 1}}, r"outer\.inner\.lrr: .* known: lr, name"),
        ({"steps": 1.5}, r"outer\.steps: got 1.5; .* int"),
        ({"steps": True}, r"outer\.steps: got True"),
        ({"steps": 1, "flag": 1}, r"outer\.flag: got 1"),
        ({"steps": 1, "inner": {"name": "adan"}}, r"outer\.inner\.name: got 'adan'; .*adam, sgd"),
        ({"steps": 1, "layers": (1, "x")}, r"outer\.layers: got 'x'"),
        ({"steps": 1, "layers": 3}, r"outer\.layers: got 3"),
        ({"steps": 1, "pairs": (("a",),)}, r"outer\.pairs: got \('a',\); allowed: 2 values"),
        ({"steps": 1, "inner": 3}, r"outer\.inner: got 3; allowed: a section with lr, name"),
        ({"steps": 1, "limit": "x"}, r"outer\.limit: got 'x'"),
        ({}, r"outer\.steps: got 'nothing'"),
    ],
)
def test_typed_answers_mistakes_with_one_line(section, line):
    with pytest.raises(UsageError, match=line) as error:
        config.typed(Outer, ConfigDict(section), "outer")
    assert "\n" not in str(error.value)


def test_parse_arg_takes_the_types_of_the_defaults():
    arg = config.parse_arg("smoke, seed=3,preset=paper,", smoke=False, seed=0, preset="", lr=0.5)
    assert (arg.smoke, arg.seed, arg.preset, arg.lr) == (True, 3, "paper", 0.5)
    assert config.parse_arg("smoke=false", smoke=True).smoke is False
    assert config.parse_arg("", smoke=False).smoke is False


@pytest.mark.parametrize(
    ("arg", "line"),
    [
        ("smoky", "'smoke'. known: seed, smoke"),
        ("seed", "seed=<int>"),
        ("seed=x", "config argument seed: got 'x'; allowed: a value of type int"),
        ("smoke=maybe", "true or false"),
    ],
)
def test_parse_arg_mistakes(arg, line):
    with pytest.raises(UsageError, match=line):
        config.parse_arg(arg, smoke=False, seed=0)


FILE = '''
"""A test configuration."""
from ml_collections import ConfigDict
from configs import shared

def get_config(arg=""):
    return ConfigDict({"seed": len(arg), "name": shared.NAME, "optim": {"lr": 1.0, "warm": 0.5},
        "layers": (1, 2), "words": ("a",), "empty": (), "pairs": (("a", 1.0),), "flag": False})
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "configs" / "method" / "experiment.py"
    path.parent.mkdir(parents=True)
    path.write_text(FILE)
    (tmp_path / "configs" / "shared.py").write_text("NAME = 'shared'\n")
    yield path
    for name in ("configs.shared", "configs"):
        sys.modules.pop(name, None)


def test_load_config_with_overrides(file):
    overrides = ["optim.lr=1e-5", "seed=7", "flag=true", "layers=4,5,6", "words=x,y z", "name=a=b"]
    loaded = config.load_config(f"{file}:smoke", [*overrides, "empty=1,2", 'pairs=(("b", 2),)'])
    assert loaded.optim.lr == 1e-5 and loaded.seed == 7 and loaded.flag is True
    assert loaded.layers == (4, 5, 6) and loaded.words == ("x", "y z") and loaded.name == "a=b"
    assert loaded.empty == (1, 2) and loaded.pairs == (("b", 2),)
    assert config.load_config(f"{file}:smoke").seed == 5
    assert loaded.is_locked and loaded.optim.is_locked
    assert str(file.parents[2]) not in sys.path


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "optim.lrr=1",
            r"config\.optim\.lrr: got '1'; .* config\.optim: 'lr'\? known: lr, w",
        ),
        ("optimm.lr=1", r"in config: 'optim'\? known: empty, flag"),
        ("seed.x=1", r"in config\.seed: nothing"),
        ("optim=1", r"config\.optim: got '1'; allowed: a key of this section: lr, warm"),
        ("seed=1.5", r"config\.seed: got '1.5'; allowed: a value of type int"),
        ("flag=2", r"config\.flag: got '2'; allowed: true or false"),
        ("layers=1,x", r"config\.layers: got"),
        ("seed", r"config\.seed: got 'no value'"),
    ],
)
def test_override_mistakes(file, override, line):
    with pytest.raises(UsageError, match=line) as error:
        config.load_config(str(file), [override])
    assert "\n" not in str(error.value)


def test_load_config_refuses_what_is_no_config(tmp_path):
    for text, line in [
        ("x = 1", "defines get_config"),
        (
            "def get_config(arg=''):\n  from ml_collections import ConfigDict as C\n"
            "  return C({'a': {'b': [1]}})",
            r"config\.a\.b: got \[1\]",
        ),
        ("def get_config(:", "valid Python"),
    ]:
        path = tmp_path / "c.py"
        path.write_text(text)
        with pytest.raises(UsageError, match=line):
            config.load_config(str(path))
    with pytest.raises(UsageError, match="path of a Python file"):
        config.load_config(str(tmp_path / "missing.py"))


def test_fingerprint_is_of_values_not_of_order_or_process():
    one = ConfigDict({"a": 1, "b": {"c": (1, 2.0), "d": "x"}})
    two = {"b": {"d": "x", "c": [1, 2.0]}, "a": 1}
    assert config.fingerprint(one) == config.fingerprint(two)
    assert config.fingerprint(one) != config.fingerprint({**two, "a": 2})
    assert config.fingerprint(Inner()) == config.fingerprint({"lr": 0.1, "name": "adam"})
    code = "from jaxsafety.core.config import fingerprint as f; print(f({'a': 1, 'b': 'x'}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == config.fingerprint({"b": "x", "a": 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base/blocks/attn/(q|k)", ("base/blocks/attn/(q|k)",)),
        ("base/a{1,2}", ("base/a{1,2}",)),
        ("base/a{1,2},base/(q|k)", ("base/a{1,2}", "base/(q|k)")),
        ("(?:a|b)/c", ("(?:a|b)/c",)),
        ("(?:a|b)", ("(?:a|b)",)),
        ("(a)/(b)", ("(a)/(b)",)),
        ("(a),(b)", ("(a)", "(b)")),
        ("((a|b),c)", ("(a|b)", "c")),
        ("[a,b]/c,d", ("[a,b]/c", "d")),
        ("a\\(,b", ("a\\(", "b")),
        ("a[(],b", ("a[(]", "b")),
        ('["a{1,2}", "b,c"]', ("a{1,2}", "b,c")),
        ("('a', 'b')", ("a", "b")),
        ("(a, b)", ("a", "b")),
        ("()", ()),
        ("[]", ()),
    ],
)
def test_regular_expressions_come_through_overrides_whole(tmp_path, text, expected):
    file = tmp_path / "regexes.py"
    file.write_text(
        "import ml_collections\n"
        "def get_config(arg=''):\n"
        "    return ml_collections.ConfigDict({'a': {'full': ('base/.*',), 'empty': ()}})\n"
    )
    for key in ("full", "empty"):
        assert config.load_config(str(file), [f"a.{key}={text}"]).a[key] == expected


def test_a_tuple_given_several_times_has_all_of_them(tmp_path):
    file = tmp_path / "several.py"
    file.write_text(
        "import ml_collections\n"
        "def get_config(arg=''):\n"
        "    return ml_collections.ConfigDict({'a': {'t': ('x',), 'n': 1, 'b': (True,)}})\n"
    )
    found = config.load_config(
        str(file), ["a.t=q{1,2}", "a.n=2", "a.t=k,v", "a.n=3", "a.b=no,true"]
    )
    assert (found.a.t, found.a.n, found.a.b) == (("q{1,2}", "k", "v"), 3, (False, True))
