"""Pictures of SafeSteer's inside: what is drawn comes from its artifacts."""

import xml.etree.ElementTree

import pytest

from jaxsafety.methods.safesteer import pictures
from jaxsafety.report import plots


def words(svg):
    return [e.text for e in xml.etree.ElementTree.fromstring(svg).iter() if e.text]


def test_direction_map_keeps_one_candidate_per_cell():
    cell = {"layer": 1, "position": -1}
    cells = [
        {**cell, "coefficient": 1.0, "score": 0.25, "passed": True, "steering": 7.5},
        {**cell, "coefficient": 2.0, "score": 0.75, "passed": False, "steering": 8.5},
    ]
    found = {"layer": 0, "position": -1, "coefficient": 1.0, "candidates": cells}
    said = words(pictures.direction(found))
    assert ".25" in said and ".75" not in said  # what passed stands for its cell
    chosen = {**found, "layer": 1, "coefficient": 2.0}
    assert ".75" in words(pictures.direction(chosen))  # unless the other was chosen
    assert pictures.direction({"candidates": []}) is None


def test_tokens_are_drawn_as_they_are():
    svg = pictures.tokens({"tokens": ["$x$", "<b>", " "], "votes": [3, 2, 1]})
    assert {"$x$", "<b>", "' '", "3"} <= set(words(svg))
    assert pictures.tokens({"tokens": []}) is None
    assert pictures.tokens({"tokens": ["a"], "votes": []}) is None


@pytest.mark.parametrize("found", [{}, {"positions": [0, 1], "kl": [1.0]}])
def test_kl_needs_matching_lists(found):
    assert pictures.position_kl(found) is None


def test_a_phone_sees_the_maps_one_below_the_other():
    cell = {"layer": 1, "position": -1, "coefficient": 1.0, "score": 0.25, "steering": 7.5}
    drawn = plots.twice(pictures.direction, {"candidates": [cell]})
    assert drawn is not None
    size = [
        [float(xml.etree.ElementTree.fromstring(svg).attrib[k].removesuffix("pt")) for k in k2]
        for svg, k2 in zip(drawn, [("width", "height")] * 2, strict=True)
    ]
    assert size[1][0] <= 72 * plots.WIDTH + 1 and size[1][1] > 1.5 * size[0][1]
