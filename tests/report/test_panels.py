"""Small pictures: what is given is drawn, with its legend, no wider than a phone."""

from __future__ import annotations

import re
import xml.etree.ElementTree

import pytest

from jaxsafety.report import panels
from jaxsafety.report.panels import Line, Spot, Stack

LABELS = ("across", "up")
LOOK = panels.looks(["one", "two"])


def texts(svg):
    """Everything that a reader of the picture sees in words."""
    root = xml.etree.ElementTree.fromstring(svg)
    width = float(re.fullmatch(r"([\d.]+)pt", root.attrib["width"]).group(1))
    assert width <= 72 * panels.WIDTH + 1
    return [element.text for element in root.iter() if element.text and element.text.strip()]


def spot(name, x=0.5, low=0.2, high=0.4, **options):
    return Spot(
        name, (x, x - 0.1, x + 0.1), (low, low - 0.1, low), (high, high, high + 0.1), **options
    )


def test_a_plane_has_axes_title_and_every_name():
    svg = panels.plane(
        [spot("one"), spot("two", hollow=True)], LOOK, LABELS, title="where", goal=0.6
    )
    assert {"across", "up", "where", "one", "two", "50 %"} <= {*texts(svg)}


def test_a_goal_a_level_and_a_hollow_mark_change_the_picture():
    plain = panels.plane([spot("one")], LOOK, LABELS)
    others = [
        panels.plane([spot("one")], LOOK, LABELS, goal=0.5),
        panels.plane([spot("one")], LOOK, LABELS, level=(0.1, 0.2)),
        panels.plane([spot("one", hollow=True)], LOOK, LABELS),
        panels.plane([spot("one")], LOOK, LABELS, limits=(0.0, 1.0)),
        panels.plane([spot("one")], LOOK, LABELS, heights=(0.2, 0.4)),
        panels.plane([spot("one")._replace(across=(0.5, None, None))], LOOK, LABELS),
    ]
    assert len({plain, *others}) == 7
    assert plain == panels.plane([spot("one")], LOOK, LABELS)  # the same bytes


def test_curves_and_stairs_and_their_marks():
    curve = Line("one", [1, 2, 3], [0.1, 0.5, 0.9])
    bare = panels.learning([curve], LOOK, LABELS)
    marked = panels.learning([curve._replace(marks=[(2, 0.5)])], LOOK, LABELS, goal=0.4, start=0.1)
    assert bare != marked and "one" in texts(marked)
    assert {"one", "two"} <= {
        *texts(panels.stairs([curve, curve._replace(name="two")], LOOK, LABELS))
    }


def test_stacks_have_headings_names_and_shares():
    bars = [Stack("one", {"unsafe": 0.25, "refusal": 0.7, "incoherent": 0.05}, 20)]
    words = {"unsafe": "Unsafe", "refusal": "Refused", "incoherent": "No answer"}
    said = texts(panels.stacks({"a set": bars}, words, title="bars"))
    assert {"a set", "one", "25", "70", "Unsafe", "Refused", "No answer", "bars"} <= {*said}
    assert "5" not in said  # too small to write in


def test_nothing_to_draw_is_no_picture():
    assert panels.plane([], LOOK, LABELS) is None
    assert panels.learning([], LOOK, LABELS) is None
    assert panels.stairs([Line("one", [], [])], LOOK, LABELS) is None
    assert panels.stacks({"a set": []}, {"unsafe": "unsafe"}) is None


def test_long_and_many_names_stay_within_the_picture():
    names = [f"lisa:safe=2,task=18,steps=24{i}, and some more words" for i in range(20)]
    look = panels.looks(names)
    assert len({*look.values()}) == 20
    svg = panels.learning([Line(name, [1, 2], [0.1, 0.2]) for name in names], look, LABELS)
    assert sum(text.endswith("…") for text in texts(svg)) == 20
    assert panels.looks(names) == look


@pytest.mark.parametrize(
    ("limits", "ends"),
    [((0.0, 1.0), (-5, 105)), ((0.5, 0.52), (39.2, 62.8)), ((0, 0.02), (-1.4, 12.4))],
)
def test_an_axis_is_no_narrower_than_a_fifth(limits, ends):
    assert panels._room(limits) == pytest.approx(ends, abs=0.3)


@pytest.mark.parametrize(("text", "most", "short"), [("abc", 3, "abc"), ("abcd", 3, "ab…")])
def test_shorten(text, most, short):
    assert panels.shorten(text, most) == short
