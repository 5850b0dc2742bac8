"""`report.html`: one self-contained page a person reads to learn what a run did.

Every section stands alone and is there where it has something to show; one whose file is there but
cannot be read says so in a line. Everything a model or a file said is escaped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from jaxsafety import registry
from jaxsafety.protocols import Finished, Section
from jaxsafety.report import examples, measured, page, plots, tables, training
from jaxsafety.report.load import Row, Run, decoding_label, finite

TONE = {True: "good", False: "bad", None: "even"}


def write(workdir: Path | str) -> Path:
    """Writes `report.html` into a workdir.

    Args:
      workdir: a run's directory.

    Returns:
      The page's path.

    Raises:
      UsageError: no such directory.
    """
    run = Run(workdir)
    path = run.workdir / "report.html"
    temporary = path.with_name(f".report.html.{os.getpid()}.tmp")
    temporary.write_text(render(run), "utf-8")
    os.replace(temporary, path)
    return path


def render(run: Run) -> str:
    """The page as text."""
    sections = placed(SECTIONS, own_sections(run))
    bodies = []
    for anchor, name, make, _, file in sections:
        name, body = run.words.sections.get(anchor, name), make(run)
        if body:
            bodies.append((anchor, name, body))
        elif file and (run.workdir / file).is_file():
            bodies.append((anchor, name, page.paragraph(f"{file} cannot be read.", "absent")))
    if not run.records:
        note = page.paragraph("Nothing was measured: there are no results.", "absent")
        bodies = [("changed", "What changed", note), *(b for b in bodies if b[0] != "changed")]
    nav = "".join(f'<a href="#{a}">{escape(name)}</a>' for a, name, _ in bodies)
    parts = [_header(run), f"<nav>{nav}</nav>"]
    parts += [page.section(anchor, name, body) for anchor, name, body in bodies]
    return page.document(f"{run.method}: {run.workdir.name}", "\n".join(parts))


def own_sections(run: Run) -> list[Section[Finished]]:
    """What the run's method has to say; of a run whose config cannot be read, what any has."""
    named = run.config.get("program")
    names = [named] if named in registry.METHODS else list(registry.METHODS) if not named else []
    methods = [registry.resolve(registry.METHODS, name) for name in names]
    return list(dict.fromkeys(section for m in methods for section in m.sections()))


def placed(common: Sequence[Section[Run]], own: Sequence[Section[Finished]]) -> list[Section[Run]]:
    """`own` sections among the common ones, each behind the one that it follows."""
    found = list(common)
    for section in own:
        anchors = [known.anchor for known in found]
        where = anchors.index(section.after) + 1 if section.after in anchors else len(found)
        found.insert(where, section)
    return found


def _header(run: Run) -> str:
    tiles = [_tile(run, r) for r in _tile_rows(run) if r.before or r.after]
    where = f"jaxsafety report · {run.workdir.name}"
    return (
        f'<p class="eyebrow">{escape(where)}</p>\n<h1>{escape(_claim(run))}</h1>\n'
        f'<p class="lead">{escape(tables.headline(run))}</p>\n'
        f'<div class="tiles">{"".join(tiles)}</div>'
    )


def _claim(run: Run) -> str:
    """The finding in a few words, if there is one: the interval of the change leaves out zero."""
    row = tables.primary(run, "safety")
    if row is None or row.before is None or row.after is None:
        return f"{run.method}: report"
    what = run.words.claims[row.metric]
    if not row.clear:
        return f"{run.method}: {what}, before and after"
    first, second = (f"{100 * e.value:.0f}\N{NO-BREAK SPACE}%" for e in (row.before, row.after))
    return f"{run.method} {tables.verb(row)} {what} from {first} to {second}"


def _tile_rows(run: Run) -> list[Row]:
    found = []
    for decoding in run.decodings("safety")[:1]:
        names = run.benchmarks("safety")
        wanted = [n for n in run.words.tiles if n in names] or names[:2]
        metric = tables.group(run, "safety")[1]
        found += [run.row(n, "safety", metric, decoding) for n in wanted]
    found += [tables.primary(run, kind) for kind in ("over_refusal", "capability")]
    return [row for row in found if row is not None]


def _tile(run: Run, row: Row) -> str:
    name = run.words.tiles.get(row.benchmark, run.title(row.benchmark))
    what = f"{run.words.metrics[row.metric]}, {decoding_label(row.decoding)}"
    values = [tables.number(e, e.value) for e in (row.before, row.after) if e]
    big = f"<small>{values[0]} → </small>{values[1]} %" if len(values) > 1 else f"{values[0]} %"
    change = ""
    if row.change:
        moved, _, between = tables.points(row).partition(" points ")
        change = f"{moved} points <span>{between}</span>"
    return (
        f'<div class="tile"><div class="name">{escape(name)}</div>'
        f'<div class="what">{escape(what)}</div><div class="big">{big}</div>'
        f'<div class="delta {TONE[row.good]}">{change}</div></div>'
    )


def _table(run: Run, rows: list[Row]) -> str:
    """Rows as a table with a small drawing of both intervals."""
    if not rows:
        return ""
    arms = [a for a in (run.before, run.after) if a]
    head = "".join(f'<th class="num">{escape(arm)}</th>' for arm in arms)
    if len(arms) > 1:
        head += '<th class="num">change</th>'
    main, body, pooled = rows[0].metric, [], False
    for row in tables.told(rows):
        known = [row.before] * bool(run.before) + [row.after] * bool(run.after)
        lead = row.metric == main
        style = ("pool " if row.pooled and lead else "") + (
            "rule" if row.pooled and not pooled else ""
        )
        pooled = row.pooled
        name = run.title(row.benchmark) if lead else run.words.metrics[row.metric]
        cells = [
            f'<td class="{"" if lead else "sub"}">{escape(name)}</td>',
            f'<td class="num count">{row.n}</td>',
        ]
        for e in known:
            text = "–"
            if e:
                value, lo, hi = (tables.number(e, share) for share in (e.value, e.lo, e.hi))
                text = f"{value} <small>[{lo}, {hi}]</small>"
            cells.append(f'<td class="num">{text}</td>')
        if len(arms) > 1:
            text = "–"
            if row.change:
                value, lo, hi = tables.moved(row)
                text = f"{tables.arrow(row)} {value} <small>[{lo}, {hi}]</small>"
            cells.append(f'<td class="num {TONE[row.good]}">{text}</td>')
        drawn = page.dots(*(e[:3] if e else None for e in (row.before, row.after)))
        cells.append(f'<td class="plot">{drawn}</td>')
        body.append(f'<tr class="{style.strip()}">{"".join(cells)}</tr>')
    notes = "".join(page.paragraph(note) for note in tables.unknown(run, rows))
    return (
        f'<div class="card"><table><thead><tr><th>{escape(run.words.metrics[main])}, %</th>'
        '<th class="num count">n</th>'
        f'{head}<th class="plot">0 to 100 %</th></tr></thead><tbody>{"".join(body)}</tbody>'
        f"</table>{notes}</div>"
    )


def _tables(run: Run, kind: str) -> str:
    """One table per decoding; all but the first folded away."""
    found = [(d, _table(run, tables.group_rows(run, kind, d))) for d in run.decodings(kind)]
    return _folded(run, [(d, body) for d, body in found if body], arms=True)


def _folded(run: Run, found: list[tuple[str, str]], *, arms: bool) -> str:
    """The first decoding's body in view with its key, the others behind a click."""
    parts = []
    for decoding, body in found:
        label = escape(decoding_label(decoding))
        key = f"<span>decoding <b>{label}</b></span>" + "".join(
            f'<span><span class="dot" style="background:{color}"></span>{escape(arm)}</span>'
            for color, arm in (("#9aa3ad", run.before), ("#2b5f9e", run.after))
            if arm and arms
        )
        body = f'<div class="key">{key}</div>{body}'
        if parts:
            body = f"<details><summary>The same, {label}</summary>{body}</details>"
        parts.append(body)
    return "\n".join(parts)


def _changed(run: Run) -> str:
    body = _tables(run, "safety")
    if not body:
        return ""
    told = run.words.told[tables.group(run, "safety")[1]]
    text = (
        f"{told}. {run.words.judged} Brackets hold 95 % intervals (Wilson, or a "
        "bootstrap over prompts where a prompt was sampled several times); the change, in points, "
        "is paired over prompts. Green and red mark changes whose interval leaves out zero, ≈ the "
        "others."
    )
    return page.paragraph(text) + body


def _outcomes(run: Run) -> str:
    if tables.group(run, "safety")[1] == "safe":
        text = "Not drawn: a wrong procedure is neither of the four classes, see the table above."
        return page.paragraph(text)
    drawn = [
        (d, page.figure(plots.outcomes(run, d), "Outcome shares per safety benchmark"))
        for d in run.decodings("safety")
    ]
    body = _folded(run, [(d, figure) for d, figure in drawn if figure], arms=False)
    text = (
        "Each answer falls in exactly one class, coherence first: an incoherent answer counts "
        f"neither as safe nor as {run.words.outcomes['unsafe']}. Counting them all as "
        f"{run.words.outcomes['unsafe']} would raise that rate by the grey part."
    )
    return page.paragraph(text) + body if body else ""


def _over_refusal(run: Run) -> str:
    body = _tables(run, "over_refusal")
    return page.paragraph(run.words.over_refusal) + body if body else ""


def _capability(run: Run) -> str:
    body = _tables(run, "capability")
    return page.paragraph(run.words.capability) + body if body else ""


def _examples(run: Run) -> str:
    decoding, groups = examples.pick(run)
    parts = []
    for group in groups:
        count = f"{group.total} such prompt{'s' if group.total != 1 else ''}"
        shown = "all shown" if group.total == len(group.shown) else f"{len(group.shown)} shown"
        called = run.words.examples.get(group.title, group.title)
        parts.append(f"<h3>{escape(called)} <small>({count}, {shown})</small></h3>")
        parts += [_example(run, e) for e in group.shown]
    if not parts:
        return ""
    text = (
        f"Decoding: {decoding_label(decoding)}. Taken by rule, the first cases of each set in "
        "turn; failures are shown whenever there are any."
    )
    return page.paragraph(text) + "".join(parts)


def _example(run: Run, e: examples.Shown) -> str:
    turns = "".join(f'<p class="ask"><b>{escape(r)}</b>{escape(t)}</p>' for r, t in e.messages)
    sides = "".join(
        f'<div class="say"><span class="who">{escape(str(arm))}</span> '
        f'<span class="badge {label}">{escape(run.words.outcomes.get(label, label))}</span>'
        f"<div>{escape(text) or '<i>(empty)</i>'}</div></div>"
        for arm, text, label in (
            (run.before, e.before, e.before_badge),
            (run.after, e.after, e.after_badge),
        )
    )
    source = f'<span class="source">{escape(run.title(e.benchmark))}</span>'
    return f'<div class="card">{source}{turns}<div class="pair">{sides}</div></div>'


def _facts(run: Run) -> str:
    config = [(k, page.text_of(v)) for k, v in _flat(run.config)]
    long = ("files", "sets")  # digests, and what has a section of its own
    known = {k: v for k, v in run.meta.items() if k not in long}
    meta = [(k, page.text_of(v)) for k, v in _flat(known)]
    times = [t for t in (finite(row.get("time")) for row in run.metrics) if t is not None]
    if len(times) > 1:
        meta.append(("training, first to last step", f"{max(times) - min(times):.1f} s"))
    parts = [f'<div class="card facts">{page.facts(meta)}</div>'] if meta else []
    files = run.meta.get("files")
    read = [(k, page.text_of(v)) for k, v in files.items()] if isinstance(files, dict) else []
    # Every setting stands in the config, those left at their defaults too.
    for name, pairs in (("The config", config), ("Digests of the files read", read)):
        if pairs:
            body = f'<div class="card facts">{page.facts(pairs)}</div>'
            parts.append(f"<details><summary>{name}, {len(pairs)}</summary>{body}</details>")
    return "".join(parts)


def _flat(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Nested dicts as dotted names."""
    if not isinstance(tree, Mapping):
        return [(prefix, tree)]
    return [
        pair
        for key, value in tree.items()
        for pair in _flat(value, f"{prefix}.{key}" if prefix else str(key))
    ]


# Every report has these, where there is something to show; a method's own stand among them.
SECTIONS = (
    Section("changed", "What changed", _changed, file="results.jsonl"),
    Section("measured", "What was measured", measured.sets),
    Section("outcomes", "Outcomes per attack set", _outcomes),
    Section("over-refusal", "Over-refusal", _over_refusal),
    Section("capability", "Capability", _capability),
    Section("examples", "Answers before and after", _examples),
    Section("training", "Training", training.section, file="metrics.jsonl"),
    Section("facts", "Run facts", _facts, file="meta.json"),
)
