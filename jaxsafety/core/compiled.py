"""Compiled programs kept from one process to the next, so that a second start compiles nothing.

JAX can keep them in a folder and is not asked to; the console script asks it, in a folder of the
user's. Whoever has said something about that cache (JAX_COMPILATION_CACHE_DIR, also empty, or
JAX_ENABLE_COMPILATION_CACHE) has decided: then nothing is set. JAX's own key holds the program, the
flags, the library and the kind of accelerator, but neither the cores nor the instructions of a CPU,
which what is compiled for one depends on, to the last digit of its results: so each kind of machine
that shares a home has a folder of its own. What is in it is code that will be run: the folder is
the user's alone, or it is not used. Processes of one run all compile, and share nothing here.
Pinned by tests/core/test_compiled.py.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import MutableMapping
from pathlib import Path

DECIDED = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
FOLDER, SECONDS = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
LEAST = "0.1"  # seconds of compilation: what takes less is not worth a file
LIMIT = 2 << 30  # bytes; what was not used for longest goes first


def keep(environment: MutableMapping[str, str] | None = None, limit: int = LIMIT) -> Path | None:
    """Has JAX keep what it compiles; call it before anything is compiled.

    Args:
      environment: that of the process by default.
      limit: bytes that the folder may hold from earlier processes.

    Returns:
      The folder, or None where the user has decided or no folder of theirs can be had.
    """
    given = os.environ if environment is None else environment
    if any(name in given for name in DECIDED):
        return None
    folder = _private(given)
    if folder is None:
        return None
    prune(folder, limit)
    given[FOLDER] = str(folder)
    given.setdefault(SECONDS, LEAST)
    if environment is None and "jax" in sys.modules:  # which has read the environment already
        import jax

        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", float(given[SECONDS]))
    return folder


def machine(info: Path = Path("/proc/cpuinfo")) -> str:
    """A name for what programs are compiled for: architecture, cores, a CPU's instructions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        lines = info.read_text("utf-8", "replace").splitlines()
    except OSError:  # not Linux
        lines = [f"model name: {platform.processor()}"]
    # Instructions are "flags" on x86 and "Features" on ARM.
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    kind = [v for k, v in sorted(told.items()) if k.strip() in ("model name", "flags", "Features")]
    digest = hashlib.sha256("\n".join(kind).encode()).hexdigest()[:8]
    return f"{platform.machine()}-{cores}-{digest}"


def prune(folder: Path, limit: int) -> int:
    """Deletes what was used longest ago until the rest fits.

    Returns:
      How many bytes are left.
    """
    found = []
    for file in folder.iterdir():
        try:
            at = file.stat()
        except OSError:  # another process deletes too
            continue
        found.append((max(at.st_atime, at.st_mtime), at.st_size, file))
    left = sum(size for _, size, _ in found)
    for _, size, file in sorted(found, key=lambda one: one[0]):
        if left <= limit:
            break
        try:
            file.unlink(missing_ok=True)
        except OSError:
            continue
        left -= size
    return left


def _private(given: MutableMapping[str, str]) -> Path | None:
    """A folder that nobody else may write to, or None."""
    above = given.get("XDG_CACHE_HOME") or (given.get("HOME") and f"{given['HOME']}/.cache")
    if not above or not Path(above).is_absolute():
        return None
    folder = Path(above) / "jaxsafety" / f"xla-{machine()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        at = folder.stat()
    except OSError:  # a read-only home, a file in its place
        return None
    own = not hasattr(os, "getuid") or at.st_uid == os.getuid()
    return folder if own and not at.st_mode & 0o022 and os.access(folder, os.W_OK) else None
