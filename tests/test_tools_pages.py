"""Tables of the pages are what tools make of the kept lines, and verdicts the fixed words."""

import re

import pytest

from jaxsafety.benchmarks.verdict import WORDS


@pytest.fixture(scope="module")
def pages(load_tool):
    return load_tool("pages")


@pytest.mark.parametrize("name", ["safesteer.md", "safemoe.md", "smollm2.md"])
def test_a_page_is_what_its_lines_make(pages, name):
    text = (pages.DATA / name).read_text()
    assert pages.updated(text, pages.PAGES[name]()) == text, "run: python tools/pages.py"
    assert text.split("\n")[2].startswith("**In short**") and f"]({name[:-3]}.svg)" in text


@pytest.mark.parametrize("name", ["safesteer.md", "safemoe.md", "smollm2.md"])
def test_verdicts_are_the_fixed_words(pages, name):
    """In every table with a column of verdicts."""
    words, column = 0, []
    for line in (pages.DATA / name).read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if "verdict" in cells:
            column = [i for i, cell in enumerate(cells) if cell == "verdict"]
        elif not line.startswith("|"):
            column = []
        elif set(line) != set("|-"):
            for cell in (cells[i].strip("*") for i in column):
                found = re.fullmatch(r"(.+?)(?: \(alone: (.+)\))?", cell)
                assert cell == "not measured" or {found[1], found[2]} <= {*WORDS, None}, line
                words += 1
    assert words > (9 if name == "smollm2.md" else 20)


def test_tables_and_marks_have_to_agree(pages):
    text = "a\n<!-- table: x -->\nold\n<!-- end of x -->\nb\n"
    assert pages.updated(text, {"x": ["new"]}) == text.replace("old", "new")
    for blocks in ({}, {"x": [], "y": []}):
        with pytest.raises(SystemExit, match="do not agree"):
            pages.updated(text, blocks)


def test_pictures_are_small_and_do_not_change(load_tool, tmp_path):
    pictures = load_tool("pictures")
    first = {path.name: path.read_bytes() for path in pictures.draw(tmp_path)}
    second = {path.name: path.read_bytes() for path in pictures.draw(tmp_path)}
    assert first == second and len(first) == 4
    for name, data in first.items():
        assert len(data) < 100_000 and (pictures.OUT / name).stat().st_size < 100_000


def test_a_family_is_corrected_unless_all_are_asked_for(load_tool):
    claims = load_tool("claims")
    rows = [
        claims.Row("a", claims.Claim("above"), {"w": [1.0, 1.1, 1.2]}),
        claims.Row("b", claims.Claim("above"), {"w": [1.0, 2.0, 3.0]}, places=1),
        claims.Row("c", claims.Claim("below", 5), {"w": [4.0]}),
        claims.Row("d", claims.Claim("above", construction="none met it"), {"w": [1.0, 1.0]}),
        claims.Row("e", claims.Claim("below"), {}),
        claims.Row("f", claims.Claim("above"), {"w": [99.0, 100.0, 100.0]}, bounds=(0, 100)),
    ]
    out = claims.table(rows, {"w": "world"})
    assert out[0] == "| claim | limit | world | p, Holm | verdict |"
    assert out[2] == "| a | > 0 | +1 [+1, +1] | .005 | **holds** |"
    assert out[3] == "| b | > 0 | +2.0 [-0.5, +4.5] | .074 | **open** |"
    assert out[4] == "| c | < 5 | +4 (one draw) | - | **open** |"
    assert out[5] == "| d | > 0 | +1 [+1, +1] | - | **by construction** |"
    assert out[6] == "| e | < 0 | - | - | not measured |"
    assert out[7] == "| f | > 0 | +100 [+98, +100] | < .001 | **holds** |"
    assert claims.reasons(rows) == ["By construction: none met it."]
    weak = [claims.Row(str(i), claims.Claim("above"), {"w": [1.0, 1.5, 2.0]}) for i in range(3)]
    alone, joint = claims.judge(weak, "w")[0], claims.judge(weak, "w", joint=True)[0]
    assert alone.alone == joint.word == "holds" and alone.word == "open"
    assert claims.word(alone) == "open (alone: holds)" and alone.holm == joint.holm > 0.05
    assert claims.number(-0.04, 1) == "+0.0" and claims.number(-0.04, 1, signed=False) == "0.0"
    within = claims.Claim("within", 2, "configs/x.py")
    assert claims.limit(within) == "within ±2" and claims.limit(rows[2].claim) == "< 5"
