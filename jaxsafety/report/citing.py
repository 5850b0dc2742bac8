"""What to cite for what a config or a measurement uses, as BibTeX.

Each file of the registry says which papers belong to it: `PAPERS`, arXiv id -> at which of its
settings it is used. "" is always, "form=modpo|dpo" where the setting has one of these values,
"p" where it is neither 0 nor empty; "name" is the entry's own name in its table.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxsafety import registry
from jaxsafety.core import config as configs
from jaxsafety.report.papers import KNOWN, LIBRARY, Paper

OPTIM = "jaxsafety.train.optim"  # no entry of a table, with papers of its own
WORDS = {"methods": "method", "mitigations": "mitigation", "judges": "judge"}
WORDS = {**WORDS, "benchmarks": "benchmark", "sets": "set", "optim": "optimizer"}


class Use(NamedTuple):
    """What is used: a table of the registry, a name in it, and the papers that it declares."""

    table: str
    name: str
    papers: tuple[str, ...]


def of_config(config: Mapping[str, Any], digests: Mapping[str, str] | None = None) -> list[Use]:
    """What an experiment uses.

    Args:
      config: its sections as plain dicts.
      digests: "setting: name of a file" -> sha256 of what it read, as in meta.json: published sets
        are known by it. Without it a set is known by the name that it has in `eval.sets`.

    Raises:
      UsageError: a method, judge, mitigation or benchmark that is not in the registry, or a section
        `method` that its method does not take.
    """
    program = str(config.get("program", ""))
    method = registry.resolve(registry.METHODS, program)
    own = configs.typed(method.config, _section(config, "method"), "method")
    found = [_use("methods", program, own)]
    for table, name, settings in method.uses(own):
        found += _named(table, name, settings)
    optim = _section(config, "optim")
    if papers := _papers(OPTIM, optim):
        found.append(Use("optim", str(optim.get("name", "")), papers))
    measure = _section(config, "eval")
    if measure.get("judge"):
        found += _named("judges", str(measure["judge"]))
    for name in measure.get("benchmarks") or ():
        found += _named("benchmarks", str(name))
    for text in measure.get("sets") or ():
        found += _named("sets", str(text).partition("=")[0].rpartition("/")[2])
    return _once([*found, *_known_files(digests or {})])


def of_measurement(facts: Mapping[str, Any]) -> list[Use]:
    """What a measurement used: the sets and judges of `eval.json`."""
    found = []
    for name in (sets := _section(facts, "sets")):
        found += _named("sets", str(_section(sets, name).get("set") or name))
    for name in (judges := _section(facts, "judges")):
        own = str(_section(judges, name).get("name") or name)
        found += _named("judges", own) if own in registry.JUDGES else []
    return _once(found)


def _section(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of what was read; {} where it is none."""
    part = found.get(name)
    return part if isinstance(part, Mapping) else {}


def bibtex(uses: Sequence[Use], version: str, commit: str = "") -> str:
    """The library and the papers of what is used, each once; before them who declares which.

    Args:
      uses: of `of_config` or `of_measurement`.
      version: of the library.
      commit: of its source, "" where that is not known.
    """
    ids = dict.fromkeys(paper for use in uses for paper in use.papers)
    comments = "".join(f"% {line}\n" for line in told(uses))
    return "\n".join(
        [*([comments] if comments else []), library(version, commit), *map(entry, ids)]
    )


def told(uses: Sequence[Use]) -> list[str]:
    """A line for each: what it is, and its papers."""
    lines = []
    for use in uses:
        papers = ", ".join(f"arXiv {paper}" for paper in use.papers) or "no paper is declared"
        name = re.sub(r"[^\w .:/+=-]", "", use.name)  # in BibTeX an @ begins an entry
        lines.append(f"{WORDS[use.table]} {name}: {papers}")
    return lines


def library(version: str, commit: str = "") -> str:
    """The library as a BibTeX entry."""
    note = f"Version {version}" + (f", commit {commit}" if commit else "")
    return _entry("jaxsafety", {**LIBRARY._asdict(), "note": note})


def entry(paper: str) -> str:
    """A paper as a BibTeX entry.

    Args:
      paper: its arXiv id; what is not known of it is left out.
    """
    known = KNOWN.get(paper, Paper())
    fields = {
        **known._asdict(),
        "year": f"20{paper[:2]}",  # arXiv's ids begin with it
        "eprint": paper,
        "archiveprefix": "arXiv",
        "url": f"https://arxiv.org/abs/{paper}",
    }
    if not known.authors:
        fields["key"] = f"arXiv {paper}"  # what BibTeX sorts by then
    return _entry(f"arxiv-{paper}", fields)


def _entry(key: str, fields: Mapping[str, str]) -> str:
    names = {"authors": "author"}
    lines = [f"  {names.get(name, name)} = {{{text}}},\n" for name, text in fields.items() if text]
    return f"@misc{{{key},\n{''.join(lines)}}}\n"


def _use(table: str, name: str, settings: Any = None) -> Use:
    """An entry of a table with what its file declares.

    Raises:
      UsageError: see `registry.resolve`.
    """
    registry.resolve(table, name)
    module = registry.TABLES[table][name].partition(":")[0]
    return Use(table, name, _papers(module, settings, name))


def _papers(module: str, settings: Any, name: str = "") -> tuple[str, ...]:
    declared = getattr(importlib.import_module(module), "PAPERS", {})
    return tuple(paper for paper, when in declared.items() if _holds(when, settings, name))


def _holds(when: str, settings: Any, name: str) -> bool:
    """Whether the settings are those at which a paper is used."""
    key, equals, values = when.partition("=")
    if not when:
        return True
    value: Any = settings
    if key == "name" and name:
        value = name
    else:
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    return str(value) in values.split("|") if equals else bool(value)


def _named(table: str, text: str, settings: Any = None) -> list[Use]:
    """What a setting names: a judge may be NAME=WHERE or several, a set may be one of one's own."""
    if table == "judges":
        name, _, where = (part.strip() for part in text.partition("="))
        found = [_use(table, name, settings)]
        if name == "weak" and not where.endswith(".json"):  # a list of judges, not a fitted file
            for part in filter(None, where.split("+")):
                found += _named(table, part)
        return found
    if table != "sets":
        return [_use(table, text, settings)]
    entry = _set_called(text)
    return [Use(table, text, ()) if entry is None else _use(table, entry)._replace(name=text)]


def _set_called(name: str) -> str | None:
    """The entry of `registry.SETS` of this name, or of its file's: "xstest" is "xstest_safe"."""
    if name in registry.SETS:
        return name
    modules = {one: target.partition(":")[0] for one, target in registry.SETS.items()}
    found = (one for one, module in modules.items() if module.rpartition(".")[2] == name)
    return next(found, None)


def _known_files(digests: Mapping[str, str]) -> list[Use]:
    """The published sets whose very files were read, to learn from or to measure."""
    found = []
    for setting, digest in digests.items():
        if setting.startswith("model: "):
            continue
        own = [n for n in registry.SETS if digest in registry.resolve("sets", n).versions]
        found += [_use("sets", name) for name in own]
    return found


def _once(uses: Sequence[Use]) -> list[Use]:
    """Each entry once, with the papers of all its uses."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for use in uses:
        found.setdefault((use.table, use.name), {}).update(dict.fromkeys(use.papers))
    return [Use(*key, tuple(papers)) for key, papers in found.items()]
