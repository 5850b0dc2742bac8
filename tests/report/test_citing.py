"""What is cited: every paper that a file of the registry names, as BibTeX that parses."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import pytest
import yaml

import jaxsafety
from jaxsafety import cli, registry
from jaxsafety.core.config import load_config, plain
from jaxsafety.core.errors import UsageError
from jaxsafety.report import citing
from jaxsafety.report.papers import KNOWN, LIBRARY

ROOT = Path(__file__).resolve().parents[2]
ARXIV = re.compile(r"arXiv[:\s]\s*(\d{4}\.\d{4,5})")
ENTRIES = [(table, name) for table, entries in registry.TABLES.items() for name in entries]
# Named to say that it is not meant.
OTHERS = {"2509.22745"}
# Of these the repository has what its notes say, not a docstring.
NOTED = {"2603.07017", "2606.00686", "2606.03648"}


def module_of(table: str, name: str):
    return importlib.import_module(registry.TABLES[table][name].partition(":")[0])


def docstrings(table: str, name: str) -> str:
    """That of an entry's file; of a package those of all its files."""
    file = Path(module_of(table, name).__file__)
    files = sorted(file.parent.glob("*.py")) if file.name == "__init__.py" else [file]
    return "\n".join(ast.get_docstring(ast.parse(f.read_text("utf-8"))) or "" for f in files)


def parse(text: str) -> dict[str, dict[str, str]]:
    """BibTeX as key -> fields, strictly: comments, then entries of `name = {balanced},`."""
    found: dict[str, dict[str, str]] = {}
    rest = "".join(line for line in text.splitlines(True) if not line.startswith("%"))
    while rest := rest.strip():
        head = re.match(r"@misc\{([^\s,{}@]+),\n", rest)
        assert head and head[1] not in found, rest[:80]
        rest, fields = rest[head.end() :], {}
        while field := re.match(r"  ([a-z]+) = \{", rest):
            end, depth = field.end(), 1
            while depth:
                depth += {"{": 1, "}": -1}.get(rest[end], 0)
                end += 1
            assert rest[end : end + 2] == ",\n" and field[1] not in fields
            fields[field[1]], rest = rest[field.end() : end - 1], rest[end + 2 :]
        assert rest.startswith("}\n") or rest == "}", rest[:80]
        found[head[1]], rest = fields, rest[1:]
    return found


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_every_paper_that_a_file_names_is_declared(table, name):
    declared = getattr(module_of(table, name), "PAPERS", {})
    assert set(ARXIV.findall(docstrings(table, name))) - OTHERS <= set(declared)
    assert set(declared) <= set(KNOWN), "authors and titles stand in report/papers.py"
    if table == "sets":
        assert set(ARXIV.findall(registry.resolve(table, name).source)) == set(declared)


def test_every_known_paper_is_declared_by_a_file():
    modules = [module_of(*entry) for entry in ENTRIES] + [importlib.import_module(citing.OPTIM)]
    declared = {paper for module in modules for paper in getattr(module, "PAPERS", {})}
    assert declared == set(KNOWN)


@pytest.fixture(scope="module")
def package() -> str:
    files = (f for f in (ROOT / "jaxsafety").rglob("*.py") if f.name != "papers.py")
    return " ".join(" ".join(file.read_text("utf-8").split()) for file in files)


@pytest.mark.parametrize("paper", KNOWN)
def test_authors_are_those_that_stand_beside_the_number(paper, package):
    """No name is mixed up: the authors stand before the id in a file of the package."""
    known = KNOWN[paper]
    if known.authors and paper not in NOTED:
        names = known.authors.replace(r"{\"o}", "ö").removesuffix(" and others").split(" and ")
        pattern = ".{0,30}".join(names) + ".{0,120}" + re.escape(paper)
        assert re.search(pattern, package), names


@pytest.mark.parametrize("paper", [*KNOWN, "2999.12345"])
def test_every_entry_parses(paper):
    ((key, fields),) = parse(citing.entry(paper)).items()
    assert key == f"arxiv-{paper}" and fields["eprint"] == paper
    assert fields["url"].endswith(paper) and fields["year"] == f"20{paper[:2]}"
    assert ("author" in fields) != ("key" in fields)


def test_the_table_is_cited_by_config(root):
    for file in sorted((root / "configs").rglob("*.py")):
        if file.name == "common.py":
            continue
        uses = citing.of_config(plain(load_config(str(file))))
        found = parse(citing.bibtex(uses, "1", "abc"))
        papers = {paper for use in uses for paper in use.papers}
        assert set(found) == {"jaxsafety", *(f"arxiv-{paper}" for paper in papers)}
        assert next(iter(found)) == "jaxsafety" and "commit abc" in found["jaxsafety"]["note"]


def cited(capsys, *argv: str) -> tuple[str, set[str]]:
    assert cli.main(["cite", *argv]) == 0
    text = capsys.readouterr().out
    return text, {key.removeprefix("arxiv-") for key in parse(text)} - {"jaxsafety"}


def test_settings_decide(root, capsys):
    config = f"--config={root / 'configs/dpo/organism.py'}"
    assert cited(capsys, config)[1] == {"2305.18290"}
    text, found = cited(capsys, config, "--config.method.form=modpo")
    assert found == {"2305.18290", "2310.03708"} and "% method dpo: arXiv 2305.18290, arXiv" in text
    found = cited(capsys, config, "--config.optim.name=muon", "--config.eval.judge=gcg")[1]
    assert found == {"2305.18290", "2502.16982", "2307.15043"}


def test_mitigations_judges_and_sets_of_a_study(root, capsys):
    config = f"--config={root / 'configs/anchored/organism.py'}"
    arms = "--config.method.arms=plain,resta:p=0.0|0.3+ema,mixing:count=4:kind=count"
    with pytest.raises(AssertionError):  # a wrong arm is told as `run` tells it
        cited(capsys, config, arms)
    assert "method.arms" in capsys.readouterr().err
    arms = '--config.method.arms=["plain", "resta:p=0.0|0.3", "mixing:kind=count,count=4,task=9"]'
    text, found = cited(
        capsys, config, arms, "--config.method.judges=llama_guard3=DIR,weak=gcg+wildguard=DIR"
    )
    assert {"2311.03099", "2309.07875", "2407.21783", "2406.18495", "1605.07723"} <= found
    assert "% judge rules: no paper is declared" in text


def test_sets_by_name_and_by_what_was_read(tmp_path, root, capsys):
    config = plain(load_config(str(root / "configs/sft/organism.py")))
    config["eval"]["sets"] = ["safety/xstest=a.csv", "over_refusal/mine@home=b.csv"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (advbench,) = (d for d in registry.resolve("sets", "advbench").versions if len(d) == 64)
    files = {"data.harmful: my.csv": advbench, "model: model.safetensors": "0" * 64}
    (tmp_path / "meta.json").write_text(json.dumps({"files": files}))
    text, found = cited(capsys, f"--workdir={tmp_path}")
    assert found == {"2308.01263", "2307.15043"}
    assert "% set minehome: no paper is declared" in text


def test_a_measurement(tmp_path, capsys):
    facts = {"sets": {"mine": {}, "x": {"set": "mmlu"}}, "judges": {"gcg": {"name": "gcg"}}}
    (tmp_path / "eval.json").write_text(
        json.dumps({**facts, "judges": {**facts["judges"], "t": 1}})
    )
    assert cited(capsys, f"--workdir={tmp_path}")[1] == {"2009.03300", "2307.15043"}


def test_the_library_alone_and_mistakes(tmp_path, root, capsys):
    assert cited(capsys)[1] == set()
    (tmp_path / "config.json").write_text('{"program": "nothing"}')
    for argv, line in (
        ([f"--workdir={root / 'tests'}"], "a run with a readable config.json"),
        ([f"--workdir={tmp_path}"], "method: got 'nothing'"),
        (["--workdir=nowhere"], "--workdir: got 'nowhere'"),
        (["--config=none.py"], "config: got 'none.py'"),
        (["--config.seed=1"], "--config.seed=1: got 'no --config'"),
    ):
        assert cli.main(["cite", *argv]) == 2
        said = capsys.readouterr()
        assert line in said.err and said.err.count("\n") == 1 and not said.out


def test_an_entry_without_papers_is_told(monkeypatch):
    monkeypatch.setitem(registry.JUDGES, "mine", "json:dumps")
    config = {"program": "sft", "eval": {"judge": "mine"}}
    assert citing.told(citing.of_config(config))[-1] == "judge mine: no paper is declared"
    with pytest.raises(UsageError, match="judge: got 'nobody'"):
        citing.of_config({"program": "sft", "eval": {"judge": "nobody=x"}})


def test_the_citation_file_says_the_same():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert found["title"] == LIBRARY.title and found["version"] == jaxsafety.__version__
    assert [f"{{{one['name']}}}" for one in found["authors"]] == [LIBRARY.authors]
