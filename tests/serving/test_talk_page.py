"""The page in a real browser: both models answer, judges are heard, nobody else is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

from tests.serving import browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.find() is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def url(shipped):
    command = [sys.executable, "-m", "jaxsafety", "serve", "--port=0", f"--compare={shipped}"]
    process = subprocess.Popen(
        [*command, "--judges=rules,arditi"], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    yield process.stdout.readline().split("page: ")[1].split(",")[0]
    process.terminate()
    process.wait(30)


@pytest.fixture
def page(url, tmp_path):
    made = browser.Browser(tmp_path / "profile")
    made.size(1200)
    made.send("Page.navigate", url=url)
    made.wait("typeof models !== 'undefined' && models.length === 2")
    yield made
    made.close()


def ask(page, text):
    page.run(f"at('text').value = {json.dumps(text)}; at('form').requestSubmit()")
    page.wait("!running")


SAID = "[...document.querySelectorAll('article')].map(x => x.querySelector('p').textContent)"


@pytest.mark.parametrize("width", [390, 1200])
def test_a_question_goes_to_both_models(page, url, width, tmp_path):
    page.size(width)
    ask(page, "what is 11 plus 10 ?")
    assert page.run(SAID) == ["the answer is 21 ."] * 2
    names = page.run("[...document.querySelectorAll('h2')].map(x => x.textContent)")
    assert names == ["organism", "base"]
    verdicts = page.run("[...document.querySelectorAll('li')].map(x => x.textContent)")
    assert len(verdicts) == 4 and any(v.startswith("rules: ") for v in verdicts)
    inside = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.run(inside)
    columns = page.run(
        "new Set([...document.querySelectorAll('article')].map(x => x.offsetLeft)).size"
    )
    assert columns == (1 if width < 600 else 2)
    assert all(asked.startswith((url, "about:")) for asked in page.asked)
    folder = os.environ.get("PAGE_SHOTS")  # to look at them
    if folder:
        page.shot(Path(folder) / f"page_{width}.png")


def test_a_conversation_goes_on_is_cut_and_forgotten(page):
    page.run("at('most').value = 3")
    ask(page, "what is 11 plus 10 ?")
    marks = page.run("[...document.querySelectorAll('.mark')].map(x => x.textContent)")
    assert marks == ["[cut at 3 tokens]"] * 2
    ask(page, "and 3 plus 4 ?")
    assert page.run("Object.values(turns).map(x => x.length)") == [4, 4]
    page.run("at('reset').click()")
    assert page.run("document.querySelectorAll('article').length") == 0
    assert page.run("Object.values(turns).map(x => x.length)") == [0, 0]


def test_what_a_model_says_is_text(page):
    """Neither a question nor an error becomes markup; a refusal is shown where the answer was."""
    ask(page, "<img src=x onerror=document.title='hit'> " * 40)
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.title") == "jaxsafety"
    marks = page.run("[...document.querySelectorAll('.mark')].map(x => x.textContent)")
    assert all("prompt: got" in mark for mark in marks)


def test_the_policy_of_the_page(url):
    with urllib.request.urlopen(url) as told:
        assert "default-src 'none'" in told.headers["content-security-policy"]
        assert b"http" not in told.read().replace(b"http-equiv", b"")
