"""Large pages for what is computed on CPUs: glibc is asked for them when a command starts.

XLA takes the room of a program's temporaries from malloc anew at every call, which takes what is so
large from the system and gives it back: a step of training meets some hundred thousand page faults,
each of 4 KiB that the system fills with zeros. With `glibc.malloc.hugetlb=1` (glibc 2.35 or newer)
malloc advises pages of 2 MiB there, which leaves a few hundred. glibc reads the setting when a
process begins, so the console script begins again, once, as the same process. Whoever has set
GLIBC_TUNABLES has decided; where the system gives large pages to all, or to nobody, nothing is
done. No result depends on it.
Pinned by tests/core/test_pages.py.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE, SETTING = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
SYSTEM = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SINCE = (2, 35)


def begin_again() -> None:
    """Begins this command again with large pages; returns where that is not wanted."""
    if "jax" not in sys.modules and _is_ours() and wanted(os.environ, libc(), SYSTEM):
        environment = {**os.environ, VARIABLE: SETTING}
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def wanted(environment: Mapping[str, str], version: str, system: Path) -> bool:
    """Whether the setting is free, known to this C library, and has an effect here.

    Args:
      environment: of the process.
      version: what `libc` says.
      system: the file in which Linux says who gets large pages: "always [madvise] never".
    """
    found = re.fullmatch(r"glibc (\d+)\.(\d+).*", version)
    if VARIABLE in environment or found is None or tuple(map(int, found.groups())) < SINCE:
        return False
    try:
        return "[madvise]" in system.read_text()
    except (OSError, UnicodeDecodeError):
        return False


def libc() -> str:
    """The C library and its version, "" where it does not say."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        return ""


def _is_ours() -> bool:
    """Whether the process is the console script or `python -m jaxsafety`, and nobody else's."""
    file = Path(getattr(sys.modules.get("__main__"), "__file__", None) or "")
    module = file.name == "__main__.py" and file.parent == Path(__file__).parents[1]
    return module or file.stem == "jaxsafety"
