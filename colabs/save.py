"""Runs notebooks and saves what they show, so that a web page shows it too.

  python colabs/save.py NAME ...             at full size
  SMOKE=1 python colabs/save.py NAME ...     at toy size
  python colabs/save.py                      only the first cells, which all notebooks share

The extra `dev` has what it needs. Cells run in this process, one after the other; nothing is
installed. Kept are printed lines, tables and pictures without paths of this machine, and a digest
of the code that made them, by which `tests/test_colabs.py` finds outputs of other code.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
# Where the project lies. Whoever publishes it writes its URL here and runs this file.
REPOSITORY = "https://github.com/OWNER/jaxsafety"
LIMIT = 300_000  # bytes of a notebook
LONGEST = 120  # printed lines of a cell that are kept
PICTURES = 4  # likewise
PACKED = "data:image/svg+xml;base64,"
XMLNS = 'xmlns="http://www.w3.org/2000/svg"'
KINDS = ("text/plain", "text/html", "image/svg+xml", "image/png")

BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({})"
OPENED = "https://colab.research.google.com/github/{}/blob/main/colabs/{}.ipynb"
INSTALL_TEXT = """## 1. Install

In a fresh Colab this clones the project and installs it, for the GPU or TPU that is there; in a
checkout it takes that. Where it says so, or an import fails afterwards, the runtime had older
packages loaded: restart it (Runtime, Restart session) and run from the top."""
INSTALL = '''REPOSITORY = "{}"  # its URL, or that of your fork

import os
import shutil
import subprocess
import sys
from pathlib import Path

places = [Path.cwd(), *Path.cwd().parents, Path("jaxsafety").absolute()]
ROOT = next((p for p in places if (p / "jaxsafety" / "protocols.py").is_file()), None)
if ROOT is None and "/OWNER/" in REPOSITORY:
    raise RuntimeError("REPOSITORY: write the URL of the project there, or open a checkout of it")
if ROOT is None:
    subprocess.run(["git", "clone", "--depth=1", REPOSITORY, "jaxsafety"], check=True)
    ROOT = Path("jaxsafety").absolute()
os.chdir(ROOT / "colabs")
sys.path.insert(0, str(ROOT))  # an install is seen by the next session only
TPU = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev").glob("vfio/[0-9]*")]
EXTRA = "[cuda]" if shutil.which("nvidia-smi") else "[tpu]" if TPU else ""
%pip install -q -e "{{ROOT}}{{EXTRA}}"'''
DEVICES = """import jax

print("computed on", jax.default_backend(), *jax.devices())
if jax.default_backend() == "cpu" and EXTRA:
    print(f"{EXTRA[1:-1]} is there and not used: restart the runtime and run from the top")"""


def sources(notebook: Any) -> list[str]:
    """Code cells in order, without the line that installs."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return [re.sub(r"(?m)^%pip .*\n?", "", source) for source in cells]


def digest(notebook: Any) -> str:
    """Of what runs, but not of where the project lies."""
    text = "\n".join(sources(notebook)).replace(REPOSITORY, "")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def head(notebook: Any, name: str) -> None:
    """Writes the badge, the cell that installs and the cell about devices."""
    cells = notebook.cells
    owner = REPOSITORY.removeprefix("https://github.com/")
    title = re.sub(r"^\[!\[.*\n+", "", cells[0].source)
    cells[0].source = f"{BADGE.format(OPENED.format(owner, name))}\n\n{title}"
    cells[1].source = INSTALL_TEXT
    cells[2].source = INSTALL.format(REPOSITORY)
    if cells[3].get("id") != "devices":
        cells.insert(3, nbformat.v4.new_code_cell(DEVICES, id="devices"))
    cells[3].source = DEVICES


def execute(notebook: Any, name: str) -> None:
    """Runs all cells and keeps what they show.

    Raises:
      RuntimeError: a cell failed.
    """
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()
    os.chdir(FOLDER)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, (cell, source) in enumerate(zip(code, sources(notebook), strict=True), start=1):
        with capture_output() as shown:
            result = shell.run_cell(source)
        if not result.success:
            sys.stderr.write(shown.stderr)
            raise RuntimeError(f"{name}, cell {number}: {result.error_in_exec!r}\n{shown.stdout}")
        cell.execution_count = number
        cell.outputs = [*_printed(shown.stdout), *_displayed(shown.outputs)]
    notebook.metadata["jaxsafety"] = {"ran": digest(notebook)}


def _printed(text: str) -> Iterator[Any]:
    lines = _clean(text).splitlines(keepends=True)
    if len(lines) > LONGEST:
        half, left = LONGEST // 2, len(lines) - LONGEST
        lines = [*lines[:half], f"... {left} lines left out ...\n", *lines[-half:]]
    if lines:
        yield nbformat.v4.new_output("stream", name="stdout", text="".join(lines))


def _displayed(outputs: list[Any]) -> Iterator[Any]:
    """What a cell displays, with its first pictures."""
    count = 0
    for output in _all(outputs):
        picture = "image/svg+xml" in output.data
        count += picture
        if not picture or count <= PICTURES:
            yield output
    if count > PICTURES:
        text = f"{count - PICTURES} more pictures are not saved here: run the notebook\n"
        yield nbformat.v4.new_output("stream", name="stdout", text=text)


def _all(outputs: list[Any]) -> Iterator[Any]:
    for output in outputs:
        data = {kind: _clean(output.data[kind]) for kind in KINDS if kind in output.data}
        if "image/svg+xml" in data:
            data["image/svg+xml"] = _slim(data["image/svg+xml"])
        html = data.get("text/html", "")
        # Web pages that show notebooks take pictures out of HTML, but show pictures.
        for kind, part in _parts(html) if "<svg" in html or PACKED in html else [("", "")]:
            shown = {kind: part} if kind else data
            yield nbformat.v4.new_output("display_data", data=shown)


def _parts(html: str) -> Iterator[tuple[str, str]]:
    """HTML and the pictures between it, but for those in tables, as (kind, text)."""
    whole = rf'(<table.*?</table>|<svg.*?</svg>|<img[^>]*src="{re.escape(PACKED)}[^>]*>)'
    text = ""
    for part in [*re.split(whole, html, flags=re.DOTALL), "<svg"]:
        if not part.startswith(("<svg", "<img")):
            text += part
            continue
        if re.sub(r"<[^>]*>", "", text).strip():
            yield "text/html", _flat(text)
        text = ""
        if part.startswith("<img"):
            packed = part.partition(PACKED)[2].partition('"')[0]
            picture = base64.b64decode(packed).decode()
            yield "image/svg+xml", _slim(picture[picture.index("<svg") :])
        elif part != "<svg":
            named = part if "xmlns=" in part[:400] else part.replace("<svg", f"<svg {XMLNS}", 1)
            yield "image/svg+xml", _slim(named)


def _flat(text: str) -> str:
    """HTML from between pictures, which cannot be inside anything that is opened elsewhere."""
    text = re.sub(r"</?details[^>]*>", "", text)
    text = re.sub(r"<summary>(.*?)</summary>", r"<h4>\1</h4>", text, flags=re.DOTALL)
    return re.sub(r"^(\s*</\w+>)+\s*", "", text)


def _slim(picture: str) -> str:
    """A picture to a hundredth of a point, in one line: a notebook spends much on every line."""
    picture = re.sub(r"([0-9]+\.[0-9]{2})[0-9]+", r"\1", picture)
    return re.sub(r"\s*\n\s*", " ", picture).strip()


def _clean(text: str) -> str:
    """Without where this checkout lies, and without colours of a terminal."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    for place in (f"{ROOT}/", f"{FOLDER}/", str(ROOT)):
        text = text.replace(place, "")
    return text


def main(names: list[str]) -> int:
    """Writes the notebooks; those that are named with what they show."""
    files = sorted(FOLDER.glob("*.ipynb"))
    known = [file.stem for file in files]
    strangers = [name for name in names if name not in known]
    if strangers:
        print(f"{strangers[0]}: one of {', '.join(known)}", file=sys.stderr)
        return 2
    for file in files:
        notebook = nbformat.read(file, as_version=4)
        head(notebook, file.stem)
        if file.stem in names:
            execute(notebook, file.stem)
        text = nbformat.writes(notebook)
        if len(text.encode()) > LIMIT:
            raise RuntimeError(f"{file.name}: {len(text.encode())} bytes, at most {LIMIT}")
        file.write_text(f"{text.rstrip()}\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
