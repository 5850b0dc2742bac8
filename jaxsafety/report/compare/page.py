"""`jaxsafety report --compare`: one self-contained page that puts runs beside each other.

Numbers and the choice of rows are here and beside; markup and prose in `templates/`, which escape
everything that a run said.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from jaxsafety.core import disk
from jaxsafety.report import page, panels
from jaxsafety.report.compare import claims, lines, opening, pareto, settings
from jaxsafety.report.compare.pareto import Axis, Group, Picture
from jaxsafety.report.compare.sources import Source
from jaxsafety.report.html import AFTER, BEFORE
from jaxsafety.report.load import Estimate, decoding_label
from jaxsafety.report.plots import LINES, MUTED
from jaxsafety.report.tables import number

TEMPLATES = Path(__file__).with_name("templates")
TITLES = {
    "safety": "Harmful requests, set by set",
    "over_refusal": "Harmless requests, set by set",
    "capability": "Tasks, set by set",
}
AGAINST = {"capability": "against capability", "over_refusal": "against over-refusal"}
BASE_LOOK = (MUTED, "*")


def write(paths: Sequence[Path], out: Path) -> str:
    """Writes the page of some runs, whole or not at all.

    Args:
      paths: of runs and of directories of `jaxsafety eval`, the one first that others are compared
        with.
      out: of the page.

    Returns:
      Title and first sentences, for the terminal.

    Raises:
      UsageError: fewer than two runs, one of them twice, or one without results.
    """
    sources = opening.read(list(paths))
    title, lead, text = render(sources)
    with disk.replaced(out) as temporary:
        temporary.write_text(f"{text}\n", "utf-8")
    return "\n".join([title, "", *textwrap.wrap(lead, 100)])


def render(sources: Sequence[Source]) -> tuple[str, str, str]:
    """Title, first sentences, and the page as text."""
    found = pareto.groups(sources)
    title, lead = claims.headline(sources, found)
    sections: list[tuple[str, str, Callable[[], str]]] = [
        ("pareto", "Safety against what it costs", lambda: _pictures(found)),
        ("compared", "What is compared", lambda: _compared(sources, found)),
        *(
            (kind.replace("_", "-"), name, partial(_table, sources, kind))
            for kind, name in TITLES.items()
        ),
        ("settings", "What differs in the settings", lambda: _settings(sources)),
        ("limits", "What this comparison can and cannot show", lambda: _limits(sources, found)),
    ]
    parts = []
    for anchor, name, make in sections:
        try:
            body, unread = make(), ""
        except Exception as error:  # one damaged file must not cost the whole page
            body, unread = "", f"What it is made of ({type(error).__name__})"
        if body or unread:
            parts.append(page.Part(anchor, name, body, unread))
    text = page.fill(
        page.TEMPLATES,
        "page.html",
        title=title,
        name=", ".join(source.label for source in sources),
        claim=title,
        headline=lead,
        tiles=[],
        sections=parts,
    )
    return title, lead, text


def _pictures(found: Sequence[Group]) -> str:
    """A block per group: both pictures, and the numbers that are drawn."""
    look = _looks([source for group in found for source in group.sources])
    blocks = []
    for group in found:
        made = {kind: pareto.picture(group, kind) for kind in AGAINST}
        up = group.axes.get("safety")
        first = group.sources[0]
        blocks.append(
            {
                "names": [source.label for source in group.sources],
                "drawn": [
                    (f"Safety {AGAINST[kind]}", _draw(group, one, look, AGAINST[kind]))
                    for kind, one in made.items()
                    if one is not None and one.points
                ],
                "absent": [
                    (AGAINST[kind], group.causes.get("safety") or group.causes.get(kind, ""))
                    for kind, one in made.items()
                    if one is None
                ],
                "up": _axis_words(first, up) if up else "",
                "told": [_told(first, AGAINST[kind], one) for kind, one in made.items() if one],
            }
        )
    return page.fill(TEMPLATES, "pareto.html", blocks=blocks)


def _told(first: Source, name: str, one: Picture) -> dict[str, object]:
    """The numbers of a picture."""
    return {
        "name": name,
        "across": _axis_words(first, one.across),
        "best": one.best,
        "missing": one.missing,
        "heads": (_metric(first, one.up), _metric(first, one.across)),
        "rows": [
            (p.name, p.name in one.best, _rate(p.up), _rate(p.across), p.base) for p in one.points
        ],
    }


def _looks(sources: Sequence[Source]) -> dict[str, tuple[str, str]]:
    """A colour per run, a shape per model of it; bases are grey stars."""
    found: dict[str, tuple[str, str]] = {"base": BASE_LOOK}
    for i, source in enumerate(sources):
        others = [model for model in source.models if not model.base]
        found.update({model.label: BASE_LOOK for model in source.models if model.base})
        for j, model in enumerate(others):
            turn = j + i // len(LINES)  # a colour that comes again has another shape
            found[model.label] = LINES[i % len(LINES)], panels.SHAPES[turn % len(panels.SHAPES)]
    return found


def _draw(group: Group, one: Picture, look: dict[str, tuple[str, str]], title: str) -> str | None:
    first = group.sources[0]
    spots = [
        panels.Spot(p.name, p.across[:3], p.up[:3], p.up[:3], hollow=p.base) for p in one.points
    ]
    return panels.plane(
        spots,
        look,
        (
            f"{_metric(first, one.across)}{_arrow(one.across, '→', '←')}",
            f"{_metric(first, one.up)}{_arrow(one.up, '↑', '↓')}",
        ),
        title=title,
        limits=_ends([p.across for p in one.points]),
        heights=_ends([p.up for p in one.points]),
        path=pareto.path(one.across, one.up, one.points) if len(one.points) > 1 else (),
    )


def _ends(rates: Sequence[Estimate]) -> tuple[float, float]:
    return min(e.lo for e in rates), max(e.hi for e in rates)


def _arrow(axis: Axis, higher: str, lower: str) -> str:
    return f"  ({higher} better)" if axis.higher else f"  ({lower} better)"


def _metric(first: Source, axis: Axis) -> str:
    return first.words.metrics.get(axis.metric, lines.PLAIN.get(axis.metric, axis.metric))


def _axis_words(first: Source, axis: Axis) -> str:
    """Which rate, over what, decoded how, by whom."""
    metric, decoding = _metric(first, axis), decoding_label(axis.decoding)
    return f"{metric}: {axis.title}, {decoding}, by {axis.judge.title}"


def _rate(e: Estimate) -> tuple[str, str, str]:
    return number(e, e.value), number(e, e.lo), number(e, e.hi)


def _compared(sources: Sequence[Source], found: Sequence[Group]) -> str:
    rows = [
        {
            "label": source.label,
            "what": source.what,
            "base": source.base[:8],
            "judges": list(dict.fromkeys(key.judge.title for key in source.lead.told)),
            "decodings": list(
                dict.fromkeys(decoding_label(key.decoding) for key in source.lead.told)
            ),
            "sets": sum(name not in source.pools for name in source.kinds),
        }
        for source in sources
    ]
    return page.fill(TEMPLATES, "compared.html", rows=rows, apart=claims.by_cause(sources, found))


def _table(sources: Sequence[Source], kind: str) -> str:
    found = lines.tables(sources, kind)
    if not found:
        return ""
    return page.fill(
        TEMPLATES,
        "lines.html",
        tables=found,
        first=sources[0].lead.label,
        judged=_judged(sources, kind),
        whole=kind == next(iter(TITLES)),
        colors=(AFTER, BEFORE),
    )


def _judged(sources: Sequence[Source], kind: str) -> str:
    """Who judged, if it was the same for all."""
    told = {f"{s.words.judge}." if s.words.judge else s.words.judged for s in sources}
    if kind == "capability" or len(told) > 1:
        return ""
    return told.pop()


def _settings(sources: Sequence[Source]) -> str:
    parts = []
    for what, name in (("run", "runs"), ("measurement", "measurements")):
        own = [source for source in sources if (source.what == "measurement") == (what != "run")]
        if len(own) > 1:
            told = settings.diff(own, "settings")
            parts.append((f"Settings of the {name}", told, "no such setting"))
    parts.append(("What else differs", settings.diff(sources, "facts"), "not told"))
    alone = len({source.what == "measurement" for source in sources}) > 1
    return page.fill(TEMPLATES, "settings.html", parts=parts, mixed=alone)


def _limits(sources: Sequence[Source], found: Sequence[Group]) -> str:
    return page.fill(
        TEMPLATES,
        "limits.html",
        count=len(sources),
        apart=len(found) > 1,
        bound=any("phrase rules" in source.words.judged for source in sources),
    )
