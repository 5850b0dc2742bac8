"""Whatever a model, a file name, a config or an artifact says is text in the page, never markup."""

import ast
import base64
import json
import shutil
import xml.etree.ElementTree
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import jinja2.nodes
import numpy as np
import pytest

import jaxsafety
from jaxsafety.protocols import Section
from jaxsafety.report import html, page
from jaxsafety.report.load import Run

PACKAGE = Path(jaxsafety.__file__).parent
TEMPLATES = sorted(PACKAGE.rglob("templates/*.html"))
TAGS = """html head meta title style body main p h1 h2 h3 div span small b i a nav section table
thead tbody tr th td code picture source img svg path circle details summary wbr ul li""".split()
ATTRIBUTES = """lang charset name content class id href style alt src width height viewbox
aria-hidden d stroke stroke-width cx cy r fill media srcset colspan""".split()


def mark(name):
    """Text that would end an attribute, open a tag or run as a template; `name` says where from."""
    return f"\"'><script>{name}<b onload=x>{{{{ 7*7 }}}}{{# c #}}&quot;"


class Page(HTMLParser):
    """Collects what a browser sees, and refuses what no template of ours holds."""

    def __init__(self, text):
        super().__init__()
        self.seen, self.pictures = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS, self.get_starttag_text()
        assert {name for name, _ in attrs} <= set(ATTRIBUTES), self.get_starttag_text()
        for name, value in attrs:
            head, _, data = (value or "").partition(";base64,")
            if name in ("src", "srcset"):
                assert head == "data:image/svg+xml"
                self.pictures.append(base64.b64decode(data).decode())
            else:
                self.seen.append(value or "")

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.seen.append(data)

    def words(self):
        """Texts of the page, and those of its pictures, none of which may hold a script."""
        drawn = []
        for svg in self.pictures:
            for element in xml.etree.ElementTree.fromstring(svg).iter():
                assert element.tag.rpartition("}")[2] != "script"
                drawn.append(element.text or "")
        return "\n".join(self.seen), "\n".join(drawn)


def rewritten(path, change):
    lines = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def renamed(out, arms, benchmarks, decodings):
    """Arms, sets and decodings of a run get the names given, in records and in file names."""

    def record(row):
        metric, _, decoding = row["metric"].rpartition(".")
        row = {**row, "arm": arms[row["arm"]], "benchmark": benchmarks[row["benchmark"]]}
        if metric == "correct":  # what nobody could tell is a line under the table
            row |= {"value": None, "lo": None, "hi": None, "n": 0, "nulls": 3}
            row["cause"] = mark("cause")
        return {**row, "metric": f"{metric}.{decodings[decoding]}"}

    rewritten(out / "results.jsonl", record)
    for what in ("generations", "verdicts"):
        for path in (out / what).glob("*/*.jsonl"):
            name, decoding = path.stem.split(".")
            new = out / what / arms[path.parent.name]
            new.mkdir(exist_ok=True)
            path.rename(new / f"{benchmarks[name]}.{decodings[decoding]}.jsonl")
    pools = json.loads((out / "verdicts/pools.json").read_text())
    pools = {benchmarks[k]: [benchmarks[name] for name in v] for k, v in pools.items()}
    (out / "verdicts/pools.json").write_text(json.dumps(pools))


def test_what_models_files_and_configs_say_is_text(workdir, tmp_path):
    out = shutil.copytree(workdir, tmp_path / mark("workdir"))
    names = {json.loads(x)["benchmark"] for x in (out / "results.jsonl").read_text().splitlines()}
    arms = {name: mark(name) for name in ("base", "student")}
    sets = {name: mark(name.replace("_", "-")) for name in names}  # pools are told with blanks
    renamed(out, arms, sets, {d: mark(d) for d in ("t1", "greedy")})

    def line(row, arm):
        said = {"messages": [{"role": mark("role"), "content": mark("content")}]}
        if row["id"].endswith(("1", "3")):
            said = {"messages": [], "prompt": mark("prompt")}
        grade = {"grade": mark("grade")}
        return {**row, **said, "response": mark(f"response of {arm}"), "meta": grade}

    for arm, folder in arms.items():
        for path in (out / "generations" / folder).iterdir():
            rewritten(path, lambda row, arm=arm: line(row, arm))
    facts = {k: mark(k) for k in ("path", "layout", "rows", "used", "seed")}
    dialogues = {"used": 7, "dropped": 2, **{k: mark(k) for k in ("given", "length", "long")}}
    meta = {
        "sets": {sets["plain"]: facts, sets["facts"]: {"used": mark("all"), "rows": mark("all")}},
        "files": {mark("file"): mark("digest")},
        "dialogues": dialogues,
        mark("meta key"): {mark("inner key"): mark("meta value"), "list": [mark("in a list")]},
    }
    (out / "meta.json").write_text(json.dumps(meta))
    config = {"program": mark("program"), "data": {"source": "files", mark("key"): mark("value")}}
    (out / "config.json").write_text(json.dumps(config))
    held_out = {"start": 2.0, "end": 1.0, "dialogues": mark("held out"), "tokens": mark("tokens")}
    (out / "artifacts/held_out.json").write_text(json.dumps(held_out))
    said, _ = Page(html.write(out).read_text("utf-8")).words()
    wanted = ["workdir", "program", *arms, "t1", "greedy"]
    wanted += ["role", "content", "prompt", "response of base", "response of student", "grade"]
    wanted += ["path", "layout", "rows", "used", "seed", "all", "given", "length", "long", "cause"]
    wanted += ["file", "digest", "meta key", "inner key", "meta value", "key", "value"]
    wanted += ["held out", "tokens"]
    wanted = [*map(mark, wanted), *sets.values()]
    assert [text for text in wanted if text not in said] == []
    assert str([mark("in a list")]) in said


def test_what_artifacts_of_methods_say_is_text(workdir, tmp_path):
    out = shutil.copytree(workdir, tmp_path / "run")
    (out / "config.json").write_text("{}")  # of no known method: every section is asked

    def changed(name, **values):
        path = out / f"artifacts/{name}.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(found | values))

    said = ("layer", "position", "coefficient", "steer", "criterion", "norm_ratio")
    changed("direction", **{k: mark(k) for k in said})
    settings = ("size", "top", "horizon", "floor", "rollout", "kind")
    changed("token_set", tokens=[mark("token")] * 10, **{k: mark(k) for k in settings})
    point = {f"seen_trained.{m}.greedy": 0.5 for m in ("safe", "safe_informative", "asr")}
    changed("compared", **{mark("arm"): point, "single1": point})
    changed("routes", tokens=mark("routed"), domains=[mark("domain"), "b"])
    grid = np.full((3, 2, 4), 0.25)
    ones = np.ones(3)
    arrays = {"usage": grid.mean(axis=1), "by_domain": grid, "entropy": ones}
    np.savez(out / "artifacts/routes.npz", **arrays, information=ones, chance=0.5 * ones)
    rewritten(out / "metrics.jsonl", lambda row: {**row, "stage": mark(f"stage{row['step'] % 2}")})
    words, drawn = Page(html.write(out).read_text("utf-8")).words()
    assert [k for k in (*said, *settings, "arm", "routed") if mark(k) not in words] == []
    wanted = [mark("domain"), mark("stage0"), repr(mark("token"))[1:-1]]  # tokens are drawn quoted
    assert [text for text in wanted if text not in drawn] == []


def test_a_section_that_no_template_made_is_text(workdir, monkeypatch):
    plain = Section("mine", "<i>Mine</i>", lambda run: "<script>{{ 7*7 }}</script>")
    monkeypatch.setattr(html, "SECTIONS", (plain,))
    text = html.render(Run(workdir))
    assert "&lt;script&gt;{{ 7*7 }}&lt;/script&gt;" in text and "<script" not in text
    assert "<h2>&lt;i&gt;Mine&lt;/i&gt;</h2>" in text


def unescaped(environment, source):
    """What in a template makes markup of a value, or turns escaping off."""
    kinds = (
        jinja2.nodes.EvalContextModifier,  # {% autoescape %}
        jinja2.nodes.MarkSafe,
        jinja2.nodes.MarkSafeIfAutoescape,
    )
    tree = environment.parse(source)
    found = [type(node).__name__ for node in tree.find_all(kinds)]
    return found + [f.name for f in tree.find_all(jinja2.nodes.Filter) if f.name == "safe"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_template_turns_escaping_off(path):
    environment = page.environment(path.parent)
    assert environment.autoescape is True
    assert environment.undefined is jinja2.StrictUndefined
    assert unescaped(environment, path.read_text("utf-8")) == []
    environment.get_template(path.name)  # it compiles, and so does what it is made of
    off = "{% autoescape false %}{{ x }}{% endautoescape %}"
    assert unescaped(environment, off) and unescaped(environment, "{{ x | safe }}")


def test_only_the_filler_of_templates_makes_markup():
    assert {p.parent for p in TEMPLATES} >= {page.TEMPLATES}
    makers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.split(".")[0] for name in names} & {"markupsafe", "html"}:
                makers.add(path.relative_to(PACKAGE).as_posix())
    assert makers == {"report/page.py"}


def test_a_value_that_a_template_lacks_is_an_error(tmp_path):
    (tmp_path / "own.html").write_text('{% from "report/macros.html" import note %}{{ note(x.y) }}')
    assert page.fill(tmp_path, "own.html", x={"y": "<b>"}) == '<p class="note">&lt;b&gt;</p>'
    with pytest.raises(jinja2.UndefinedError, match="x"):
        page.fill(tmp_path, "own.html")
    with pytest.raises(jinja2.UndefinedError, match="y"):
        page.fill(tmp_path, "own.html", x={})
