"""The border between configuration files and code.

Files and flags speak `ml_collections.ConfigDict`; the code speaks frozen dataclasses. `load_config`
reads a file with its `:arg` and its overrides, `typed` turns one section into a dataclass; both
answer a mistake with one line that lists what is known. Values are bools, ints, floats, strings and
tuples of these, so that a configuration can be hashed, printed and typed on a command line.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import hashlib
import importlib.util
import json
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ml_collections

from jaxsafety.core.errors import bad

ConfigDict = ml_collections.ConfigDict
T = TypeVar("T")
LARGEST = 3.4028234e38  # of float32
_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def typed(cls: type[T], cfg: Any, prefix: str = "") -> T:
    """Turns a configuration section into the frozen dataclass `cls`.

    Args:
      cls: a dataclass; fields that are dataclasses are read from nested sections.
      cfg: the section; missing keys take the dataclass's defaults.
      prefix: where the section stands ("optim"), for the error line.

    Raises:
      UsageError: an unknown key, a value of another type, or a missing required key.
    """
    where = f"{prefix}." if prefix else ""
    if not isinstance(cfg, Mapping | ConfigDict):
        raise bad(prefix or cls.__name__, cfg, f"a section with {_names(_fields(cls))}")
    hints = typing.get_type_hints(cls)
    fields = _fields(cls)
    for key in cfg:
        if key not in fields:
            raise bad(f"{where}{key}", cfg[key], _known(str(key), fields))
    values = {key: _coerce(hints[key], cfg[key], f"{where}{key}") for key in cfg}
    for name, field in fields.items():
        no_default = field.default is dataclasses.MISSING
        if name not in values and no_default and field.default_factory is dataclasses.MISSING:
            raise bad(f"{where}{name}", "nothing", f"a value of type {_type_name(hints[name])}")
    return cls(**values)


def parse_arg(arg: str, **defaults: Any) -> ConfigDict:
    """Reads the `smoke,seed=3,preset=paper` behind a configuration's path.

    Each value takes the type of its default; a bare name switches a bool on.

    Raises:
      UsageError: an unknown name or a value that does not read as its default's type.
    """
    values = dict(defaults)
    for part in filter(None, (piece.strip() for piece in arg.split(","))):
        name, equals, text = part.partition("=")
        if name not in defaults:
            raise bad("config argument", part, _known(name, defaults))
        if not equals and not isinstance(defaults[name], bool):
            raise bad("config argument", part, f"{name}=<{type(defaults[name]).__name__}>")
        values[name] = _parse(text, defaults[name], f"config argument {name}") if equals else True
    return ConfigDict(values).lock()


def load_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads `path/to/file.py[:arg]` and applies `section.key=value` overrides.

    The file defines `get_config(arg="")`. An override takes the type of the value it replaces, so
    keys that do not exist are refused; a tuple given several times has the elements of all. The
    result is locked.

    Raises:
      UsageError: no such file, no `get_config`, an unknown key or an unreadable value.
    """
    path, _, arg = spec.partition(":")
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        raise bad("config", path, "the path of a Python file that defines get_config(arg)")
    get_config = getattr(_load(file), "get_config", None)
    if get_config is None:
        raise bad("config", path, "a Python file that defines get_config(arg)")
    config = get_config(arg)
    _check_leaves(config, "config")
    given: set[str] = set()
    for override in overrides:
        path = override.partition("=")[0]
        _override(config, override, more=path in given)
        given.add(path)
    return config.lock()


def plain(cfg: Any) -> Any:
    """Turns sections, dataclasses and tuples into the dicts and lists that JSON knows."""
    if dataclasses.is_dataclass(cfg) and not isinstance(cfg, type):
        return {field.name: plain(getattr(cfg, field.name)) for field in dataclasses.fields(cfg)}
    if isinstance(cfg, Mapping | ConfigDict):
        return {str(key): plain(cfg[key]) for key in cfg}
    if isinstance(cfg, tuple | list):
        return [plain(value) for value in cfg]
    return cfg


def fingerprint(cfg: Any) -> str:
    """Returns the sha256 of the configuration's canonical JSON: equal settings, equal digest."""
    text = json.dumps(plain(cfg), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _fields(cls: Any) -> dict[str, Any]:
    return {field.name: field for field in dataclasses.fields(cls) if field.init}


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _known(name: str, names: Iterable[str]) -> str:
    """The known names, the nearest one first in words."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1)
    return (f"{near[0]!r}? known: " if near else "") + _names(names)


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _coerce(hint: Any, value: Any, field: str) -> Any:
    """Checks `value` against a type hint; ints become floats and lists become tuples."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else typed(hint, value, field)
    if origin in (typing.Union, types.UnionType):
        for option in args:
            if option is type(None) and value is None:
                return None
            if option is not type(None) and _fits(option, value):
                return _coerce(option, value, field)
        raise bad(field, value, _type_name(hint))
    if origin is typing.Literal:
        if value not in args:
            raise bad(field, value, _names(map(str, args)))
        return value
    if hint is tuple or origin is tuple:
        if not isinstance(value, tuple | list):
            raise bad(field, value, _type_name(hint))
        if not args or args[-1] is Ellipsis:
            args = (args[0] if args else Any,) * len(value)
        if len(args) != len(value):
            raise bad(field, value, f"{len(args)} values")
        return tuple(_coerce(h, v, field) for h, v in zip(args, value, strict=True))
    if not _fits(hint, value):
        raise bad(field, value, f"a value of type {_type_name(hint)}")
    # `not <=`: nan too. What float32 has not is infinite there, and seeds wrap around 32 bits.
    if hint is float and not abs(value) <= LARGEST:
        raise bad(field, value, "a finite number, also in float32")
    if hint is int and not abs(value) < 2**32:
        raise bad(field, value, "an integer of 32 bits")
    return float(value) if hint is float else value


def _fits(hint: Any, value: Any) -> bool:
    """Says whether a plain value may stand for `hint`; a bool is not an int, an int is a float."""
    if hint is Any:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    origin = typing.get_origin(hint) or hint
    if dataclasses.is_dataclass(hint):
        return isinstance(value, Mapping | ConfigDict | origin)
    return isinstance(value, tuple | list) if origin is tuple else isinstance(value, origin)


def _parse(text: str, like: Any, field: str) -> Any:
    """Reads `text` as a value of the type of `like`."""
    if isinstance(like, bool):
        if text.lower() not in _BOOLS:
            raise bad(field, text, "true or false")
        return _BOOLS[text.lower()]
    if isinstance(like, tuple):
        return _parse_tuple(text, like, field)
    try:
        return type(like)(text)
    except ValueError as error:
        raise bad(field, text, f"a value of type {type(like).__name__}") from error


def _parse_tuple(text: str, like: tuple[Any, ...], field: str) -> tuple[Any, ...]:
    """Reads `1,2`, `(1, 2)`, `a,b` or a JSON list; the elements are of the first one's type.

    Elements may be regular expressions: brackets that are not the tuple's own stay, and a comma
    inside brackets separates nothing, so `base/a{1,2}` and `base/(q|k)` are one element each.
    """
    kind = type(like[0]) if like else Any
    text = text.strip()
    literal: Any = None
    try:
        if text.startswith("["):
            literal = json.loads(text)
        elif kind not in (str, bool) or re.search("[\"']", text):
            literal = ast.literal_eval(text or "()")
    except (ValueError, SyntaxError, RecursionError):
        literal = None
    if literal is not None:
        values = literal if isinstance(literal, tuple | list) else (literal,)
        if kind is not str or all(isinstance(value, str) for value in values):
            return tuple(_coerce(kind, value, field) for value in values)
    inner = text[1:-1]
    if text.startswith("(") and not inner.startswith("?") and _closes(text) == len(text) - 1:
        text = inner  # the tuple's own pair; "(?:" opens a regular expression's
    words = [word for word in (piece.strip() for piece in _split(text)) if word]
    return tuple(words if kind is Any else (_parse(word, like[0], field) for word in words))


def _brackets(text: str) -> Iterator[tuple[int, str, int]]:
    """(place, character, open brackets after it), without what a regex escapes or has in [...]."""
    depth, place = 0, 0
    while place < len(text):
        char = text[place]
        if char == "\\":
            place += 2
            continue
        if char == "[":  # a class: its first character is never its end
            end = text.find("]", place + (3 if text[place + 1 : place + 2] == "^" else 2))
            place = len(text) if end < 0 else end + 1
            continue
        depth += (char in "({") - (char in ")}")
        yield place, char, depth
        place += 1


def _closes(text: str) -> int:
    """Where the bracket that begins `text` is closed; -1 if it is not."""
    return next((place for place, _, depth in _brackets(text) if depth == 0), -1)


def _split(text: str) -> list[str]:
    """The pieces between commas that stand in no bracket."""
    cuts = [place for place, char, depth in _brackets(text) if char == "," and depth == 0]
    starts, ends = [0, *(cut + 1 for cut in cuts)], [*cuts, len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def _override(config: ConfigDict, override: str, more: bool = False) -> None:
    path, equals, text = override.partition("=")
    *sections, key = path.split(".")
    node: Any = config
    for depth, section in enumerate([*sections, key]):
        where = ".".join(["config", *sections[:depth]])
        if not isinstance(node, ConfigDict) or section not in node:
            known = node.keys() if isinstance(node, ConfigDict) else ()
            raise bad(f"config.{path}", text, f"in {where}: {_known(section, known)}")
        if depth < len(sections):
            node = node[section]
    current: Any = node[key]
    if isinstance(current, ConfigDict):
        raise bad(f"config.{path}", text, f"a key of this section: {_names(current.keys())}")
    if not equals:
        raise bad(f"config.{path}", "no value", f"--config.{path}=<{type(current).__name__}>")
    value = _parse(text, current, f"config.{path}")
    if more and isinstance(current, tuple):
        value = current + value
    with node.unlocked():
        node[key] = value


def _check_leaves(value: Any, field: str) -> None:
    if isinstance(value, ConfigDict):
        for key in value:
            _check_leaves(value[key], f"{field}.{key}")
    elif isinstance(value, tuple):
        for element in value:
            _check_leaves(element, field)
    elif not isinstance(value, bool | int | float | str):
        raise bad(field, value, "bool, int, float, string or a tuple of these")


def _load(file: Path) -> types.ModuleType:
    """Imports a file by path; `from configs import common` works when it lies below configs/."""
    file = file.resolve()
    spec = importlib.util.spec_from_file_location(f"_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise bad("config", str(file), "a Python file")
    module = importlib.util.module_from_spec(spec)
    roots = [str(parent.parent) for parent in file.parents if parent.name == "configs"]
    sys.path[:0] = roots
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise bad("config", f"{file.name}:{error.lineno}", f"valid Python ({error.msg})") from error
    finally:
        for root in roots:
            sys.path.remove(root)
    return module
