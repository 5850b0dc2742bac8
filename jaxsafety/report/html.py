"""`report.html`: one self-contained page a person reads to learn what a run did.

Every section stands alone and is there where it has something to show; one whose file is there but
cannot be read says so in a line. Here are the numbers and the choice of rows; markup and prose are
in `templates/`, which escape everything that a model or a file said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxsafety import registry
from jaxsafety.protocols import Finished, Section
from jaxsafety.report import examples, measured, page, panels, plots, tables, trained, training
from jaxsafety.report.load import Estimate, Row, Run, decoding_label, finite

TONE = {True: "good", False: "bad", None: "even"}
BEFORE, AFTER = "#9aa3ad", "#2b5f9e"  # colours of the arms, as in style.css

Rate = tuple[str, str, str]  # value, lo, hi in print


class Tile(NamedTuple):
    """A rate of the head of the page: one value per arm, and the change with its interval."""

    name: str
    metric: str
    decoding: str
    values: list[str]
    change: Rate | None
    tone: str


class Line(NamedTuple):
    """A row of a table of rates; `leads` where it holds the metric that the table is about."""

    name: str
    leads: bool
    n: int
    rates: list[Rate | None]
    arrow: str
    change: Rate | None
    tone: str
    style: str
    drawn: list[tuple[str, tuple[float, ...] | None]]


class Table(NamedTuple):
    """Rates of one kind and decoding; `unknown` says what could not be told, and why."""

    metric: str
    arms: list[str]
    lines: list[Line]
    unknown: list[str]


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
    return page.save(run.workdir, render(run))


def render(run: Run) -> str:
    """The page as text."""
    parts = []
    for anchor, name, make, _, file in place(SECTIONS, own_sections(run)):
        name = run.words.sections.get(anchor, name)
        try:
            body = make(run)
        except Exception as error:  # one damaged file must not cost the whole page
            body, file = "", f"{file or 'what it is made of'} ({type(error).__name__})"
            parts.append(page.Part(anchor, name, body, file))
            continue
        if body or (file and (run.workdir / file).is_file()):
            parts.append(page.Part(anchor, name, body, file))
    if not run.records:
        others = [part for part in parts if part.anchor != "changed"]
        parts = [page.Part("changed", "What changed", ""), *others]
    tiles = [_tile(run, r) for r in _tile_rows(run) if r.before or r.after]
    return page.fill(
        page.TEMPLATES,
        "page.html",
        title=f"{run.method}: {run.workdir.name}",
        name=run.workdir.name,
        claim=_claim(run),
        headline=tables.headline(run),
        tiles=tiles,
        sections=parts,
    )


def own_sections(run: Run) -> list[Section[Finished]]:
    """What the run's method has to say; of a run whose config cannot be read, what any has."""
    named = run.config.get("program")
    names = [name for name in registry.METHODS if not named or name == named]
    methods = [registry.resolve(registry.METHODS, name) for name in names]
    return list(dict.fromkeys(section for m in methods for section in m.sections()))


def place(common: Sequence[Section[Run]], own: Sequence[Section[Finished]]) -> list[Section[Run]]:
    """`own` sections among the common ones, each behind the one that it follows."""
    found = list(common)
    for section in own:
        anchors = [known.anchor for known in found]
        where = anchors.index(section.after) + 1 if section.after in anchors else len(found)
        found.insert(where, section)
    return found


def _claim(run: Run) -> str:
    """The finding in a few words, if there is one: the change is clear."""
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


def _tile(run: Run, row: Row) -> Tile:
    return Tile(
        name=run.words.tiles.get(row.benchmark, run.title(row.benchmark)),
        metric=run.words.metrics[row.metric],
        decoding=decoding_label(row.decoding),
        values=[tables.number(e, e.value) for e in (row.before, row.after) if e],
        change=tables.show_change(row) if row.change else None,
        tone=TONE[row.good],
    )


def _table(run: Run, rows: list[Row]) -> Table:
    main, lines, pooled = rows[0].metric, [], False
    for row in tables.drop_unknown(rows):
        known = [row.before] * bool(run.before) + [row.after] * bool(run.after)
        leads = row.metric == main
        styles = ["pool"] * (row.pooled and leads) + ["rule"] * (row.pooled and not pooled)
        pooled = row.pooled
        lines.append(
            Line(
                name=run.title(row.benchmark) if leads else run.words.metrics[row.metric],
                leads=leads,
                n=row.n,
                rates=[_rate(e) if e else None for e in known],
                arrow=tables.arrow(row),
                change=tables.show_change(row) if row.change else None,
                tone=TONE[row.good],
                style=" ".join(styles),
                drawn=[
                    (color, e[:3] if e else None)
                    for color, e in ((BEFORE, row.before), (AFTER, row.after))
                ],
            )
        )
    arms = [a for a in (run.before, run.after) if a]
    return Table(run.words.metrics[main], arms, lines, tables.unknown(run, rows))


def _rate(e: Estimate) -> Rate:
    value, lo, hi = (tables.number(e, share) for share in (e.value, e.lo, e.hi))
    return value, lo, hi


def _tables(run: Run, kind: str) -> list[tuple[str, Table]]:
    """One table per decoding that has rows."""
    found = [(d, tables.group_rows(run, kind, d)) for d in run.decodings(kind)]
    return [(decoding_label(d), _table(run, rows)) for d, rows in found if rows]


def _arms(run: Run) -> list[tuple[str, str]]:
    """Both arms with their colours."""
    return [(color, arm) for color, arm in ((BEFORE, run.before), (AFTER, run.after)) if arm]


def _changed(run: Run) -> str:
    found = _tables(run, "safety")
    if not found:
        return ""
    told = run.words.told[tables.group(run, "safety")[1]]
    values = {"told": told, "judged": run.words.judged, "found": found, "arms": _arms(run)}
    return page.fill(page.TEMPLATES, "changed.html", **values)


def _outcomes(run: Run) -> str:
    procedures = tables.group(run, "safety")[1] == "safe"
    names = [] if procedures else run.decodings("safety")
    drawn = [(decoding_label(d), _bars(run, d)) for d in names]
    drawn = [(label, bars) for label, bars in drawn if bars is not None]
    if not drawn and not procedures:
        return ""
    values = {"procedures": procedures, "drawn": drawn, "unsafe": run.words.outcomes["unsafe"]}
    return page.fill(page.TEMPLATES, "outcomes.html", **values)


def _bars(run: Run, decoding: str) -> plots.Drawn | None:
    wide, known = plots.outcomes(run, decoding), plots.shares(run, decoding)
    stacks = {
        run.title(name): [panels.Stack(arm, told, 0) for arm, told in arms.items()]
        for name, arms in known.items()
    }
    narrow = panels.stacks(stacks, run.words.outcomes)
    return None if wide is None or narrow is None else plots.Drawn(wide, narrow)


def _over_refusal(run: Run) -> str:
    return _kind(run, "over_refusal", run.words.over_refusal)


def _capability(run: Run) -> str:
    return _kind(run, "capability", run.words.capability)


def _kind(run: Run, kind: str, told: str) -> str:
    found = _tables(run, kind)
    if not found:
        return ""
    return page.fill(page.TEMPLATES, "kind.html", told=told, found=found, arms=_arms(run))


def _examples(run: Run) -> str:
    decoding, groups = examples.pick(run)
    told = [
        {
            "title": run.words.examples.get(group.title, group.title),
            "total": group.total,
            "shown": [_example(run, e) for e in group.shown],
        }
        for group in groups
    ]
    if not told:
        return ""
    decoding = decoding_label(decoding)
    return page.fill(page.TEMPLATES, "examples.html", decoding=decoding, groups=told)


def _example(run: Run, e: examples.Shown) -> dict[str, Any]:
    sides = ((run.before, e.before, e.before_badge), (run.after, e.after, e.after_badge))
    answers = [(arm, b, run.words.outcomes.get(b, b), text) for arm, text, b in sides]
    return {"name": run.title(e.benchmark), "messages": e.messages, "answers": answers}


def _facts(run: Run) -> str:
    config = [(k, page.show(v)) for k, v in page.flat(run.config)]
    long = ("files", "sets", "shared")  # digests, and what has a section of its own
    known = {k: v for k, v in run.meta.items() if k not in long}
    meta = [(k, page.show(v)) for k, v in page.flat(known)]
    times = [t for t in (finite(row.get("time")) for row in run.metrics) if t is not None]
    if len(times) > 1:
        meta.append(("training, first to last step", f"{max(times) - min(times):.1f} s"))
    files = run.meta.get("files")
    read = [(k, page.show(v)) for k, v in files.items()] if isinstance(files, dict) else []
    # Every setting stands in the config, those left at their defaults too.
    folded = [("The config", config), ("Digests of the files read", read)]
    folded = [(name, pairs) for name, pairs in folded if pairs]
    if not meta and not folded:
        return ""
    return page.fill(page.TEMPLATES, "facts.html", meta=meta, folded=folded)


# Every report has these, where there is something to show; a method's own stand among them.
SECTIONS = (
    Section("changed", "What changed", _changed, file="results.jsonl"),
    Section("measured", "What was measured", measured.sets),
    Section("trained", "Measured prompts that were trained on", trained.section),
    Section("outcomes", "Outcomes per attack set", _outcomes),
    Section("over-refusal", "Over-refusal", _over_refusal),
    Section("capability", "Capability", _capability),
    Section("examples", "Answers before and after", _examples),
    Section("training", "Training", training.section, file="metrics.jsonl"),
    Section("facts", "Run facts", _facts, file="meta.json"),
)
