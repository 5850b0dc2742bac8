"""Every kind of page on a screen of 390 pixels: nothing sticks out, and pictures can be read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxsafety.report import html
from jaxsafety.report.compare import page as compared
from jaxsafety.report.measurement import page as measured
from tests.methods.test_selfmoa_sections import probe
from tests.report import test_compare_page as beside
from tests.report import test_experts, test_measurement, test_words
from tests.serving import browser
from tests.studies import anchored_results, test_weak_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.find() is None, reason="no Chromium on this machine"),
]

LONG = "configs/some_folder/of_a_set_with_a_long_name_and_no_blank_in_it"
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
# Pictures, and what sticks out of a card that cannot be scrolled.
OUTSIDE = """[...document.querySelectorAll('main *')].filter(x => {
  const box = x.getBoundingClientRect(), card = x.closest('.card');
  const scrolls = card && x !== card && getComputedStyle(card).overflowX === 'auto';
  return box.width && box.right > innerWidth + 1 && !scrolls && !x.closest('svg');
}).map(x => x.outerHTML.slice(0, 80))"""
SCALES = """[...document.querySelectorAll('img')].filter(x => x.width)
  .map(x => [x.getBoundingClientRect().right <= innerWidth, x.width / x.naturalWidth])"""


def run(folder, workdir):
    return html.write(shutil.copytree(workdir, folder / "run"))


def methods(folder, workdir):
    """What sections of other methods show, from a run of no known method: all of them are asked."""
    out = shutil.copytree(workdir, folder / "run")
    (out / "config.json").write_text("{}")
    (folder / "moe").mkdir()
    test_experts.kept(folder / "moe")
    shutil.copytree(folder / "moe/artifacts", out / "artifacts", dirs_exist_ok=True)
    attack = {"expanded": [], "rejected": {"seen": 30, "alike": 1, "short": 200}, "tokens": {}}
    told = {"won": [True, False], "pairs": [[0, 1, 0]], "left_out": {"long": 2}, "untold": 1}
    for number in range(3):
        (out / f"artifacts/attack.{number}.json").write_text(json.dumps(attack))
        (out / f"artifacts/round.{number}.json").write_text(
            json.dumps({**told, "calls": {"safety": 8, "helpful": 8}, "answer_tokens": 95})
        )
        scores = np.array([[0.25, 0.5], [0.75, 0.5]])
        np.savez(out / f"artifacts/round.{number}.npz", safe=scores, helpful=scores)
        (out / f"artifacts/probe.{number}.json").write_text(json.dumps(probe(8 - number)))
    return html.write(out)


def files(folder, workdir):
    facts = {"path": f"{LONG}.jsonl", "layout": "AdvBench layout", "rows": 520, "used": 64}
    sets = {name: facts for name in ("plain", "over_refusal", "facts")}
    meta = {LONG: {LONG: LONG}, "files": {LONG: 8 * "0123abcd"}, "sets": sets}
    return html.write(test_words.on_files(workdir, folder / "run", **meta))


def anchored(folder, workdir):
    del workdir
    return html.write(anchored_results.write(folder))


def weak(folder, workdir):
    out = shutil.copytree(workdir, folder / "run")
    (out / "config.json").write_text('{"program": "weak_supervision"}')
    (out / "artifacts/table.json").write_text(json.dumps(test_weak_results.table()))
    return html.write(out)


def measurement(folder, workdir):
    del workdir
    return measured.write(test_measurement.write(folder))


def comparison(folder, workdir):
    del workdir
    compared.write(beside.make(folder), folder / "beside.html")
    return folder / "beside.html"


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    made = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.mark.parametrize(
    "make", [run, methods, files, anchored, weak, measurement, comparison], ids=lambda f: f.__name__
)
def test_nothing_sticks_out(screen, workdir, tmp_path, make):
    path = make(tmp_path, workdir)
    screen.asked.clear()
    for width in (390, 1200):
        screen.size(width)
        screen.send("Page.navigate", url=path.resolve().as_uri())
        screen.wait("document.readyState === 'complete'")
        screen.run("document.querySelectorAll('details').forEach(x => x.open = true)")
        screen.wait("[...document.images].every(x => x.complete)")
        assert screen.run(FITS)
        assert screen.run(OUTSIDE) == []
        pictures = screen.run(SCALES)
        assert bool(pictures) == (make is not measurement)
        assert all(inside and scale > 0.9 for inside, scale in pictures), pictures
        folder = os.environ.get("PAGE_SHOTS")  # to look at them
        if folder:
            screen.size(width, min(16000, screen.run("document.documentElement.scrollHeight")))
            screen.shot(Path(folder) / f"{make.__name__}_{width}.png")
    assert all(asked.startswith(("file:", "data:")) for asked in screen.asked)
