"""Compiled programs kept from one process to the next, so that a second start compiles nothing.

JAX can keep them in a folder and is not asked to; the console script asks it, in a folder of the
user's. Whoever has said something about that cache (JAX_COMPILATION_CACHE_DIR, also empty,
JAX_ENABLE_COMPILATION_CACHE, or jax.config) has decided: then nothing is set. JAX's own key holds
the program, the flags, the library and the kind of accelerator, but neither the cores nor the
instructions of a CPU, which what is compiled for one depends on, to the last digit of its results:
so each kind of machine that shares a home has a folder of its own. What is in it is code that will
be run: the folder is the user's alone, or it is not used. Processes of one run all compile, and
share nothing here. JAX writes an entry in place and never a second time, so that a killed process
can leave half of one, which then warns at every start: those are looked for, and deleted. On an
Intel CPU alone nothing is kept: XLA refuses to read back there what it kept, an error in the log
per program (jax-ml/jax#38445, openxla/xla#44565; seen by others from jax 0.9.1 to 0.10.1, not on
the AMD CPUs that this was tried on).
Pinned by tests/core/test_compiled.py.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import sys
import time
import zlib
from collections.abc import Iterator, MutableMapping
from pathlib import Path

DECIDED = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
FOLDER, SECONDS = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
LEAST = "0.1"  # seconds of compilation: what takes less is not worth a file
LIMIT = 2 << 30  # bytes, of all machines of a home; what was used longest ago goes first
KIND = "xla-"  # folders of this module's begin with it
CHECKED = "checked"  # a file as old as what is known to be whole
WRITING = 60.0  # seconds after which nobody writes to an entry any more
CPU = Path("/proc/cpuinfo")
ZSTD = b"\x28\xb5\x2f\xfd"


def keep(environment: MutableMapping[str, str] | None = None, limit: int = LIMIT) -> Path | None:
    """Has JAX keep what it compiles; call it before anything is compiled.

    Args:
      environment: that of the process by default.
      limit: bytes that earlier processes may have left.

    Returns:
      The folder, or None where the user has decided or no folder of theirs can be had.
    """
    given = os.environ if environment is None else environment
    if any(name in given for name in DECIDED) or (environment is None and _configured()):
        return None
    if not read_back():
        return None
    try:
        folder = _private(given)
        if folder is not None:
            mend(folder)
            prune(folder.parent, limit)
    except OSError:  # read-only, full, gone, a file in its place
        return None
    if folder is None:
        return None
    given[FOLDER] = str(folder)
    given.setdefault(SECONDS, LEAST)
    if environment is None and "jax" in sys.modules:  # which has read the environment already
        import jax

        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", float(given[SECONDS]))
    return folder


def _configured() -> bool:
    """Whether this process has told JAX of a folder already."""
    if "jax" not in sys.modules:
        return False
    import jax

    return bool(getattr(jax.config, FOLDER.lower()))


def read_back(info: Path = CPU, devices: Path = Path("/dev")) -> bool:
    """Whether what is kept can be used here: not on an Intel CPU without an accelerator.

    Args:
      info: what Linux tells of the CPU.
      devices: where accelerators appear.
    """
    try:
        intel = "GenuineIntel" in info.read_text("utf-8", "replace")
    except OSError:
        return True
    found = any(
        any(devices.glob(name)) for name in ("nvidia[0-9]*", "kfd", "accel*", "vfio/[0-9]*")
    )
    return found or not intel


def machine(info: Path = CPU) -> str:
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


def prune(above: Path, limit: int) -> int:
    """Deletes what was used longest ago, of every machine's folder, until the rest fits.

    Args:
      above: of the machines' folders.
      limit: bytes.

    Returns:
      How many bytes are left.
    """
    found = [(max(at.st_atime, at.st_mtime), at.st_size, file) for file, at in _files(above)]
    left = sum(size for _, size, _ in found)
    for _, size, file in sorted(found, key=lambda one: one[0]):
        if left <= limit:
            break
        if _delete(file):
            left -= size
    return left


def mend(folder: Path) -> int:
    """Deletes entries that a process left half written since the last look.

    Returns:
      How many.
    """
    note, now, deleted = folder / CHECKED, time.time(), 0
    since = note.stat().st_mtime if note.is_file() else 0.0
    for file, at in _files(folder.parent, folder.name):
        if since <= at.st_mtime < now - WRITING and file.name.endswith("-cache"):
            deleted += not _whole(file) and _delete(file)
    note.touch()
    os.utime(note, (now - WRITING, now - WRITING))  # what is newer may still be written to
    return deleted


def _files(above: Path, name: str = f"{KIND}*") -> Iterator[tuple[Path, os.stat_result]]:
    """Every file below the folders of that name."""
    for file in above.glob(f"{name}/**/*"):
        try:
            at = file.stat()
        except OSError:  # another process deletes too
            continue
        if file.is_file() and file.name != CHECKED:
            yield file, at


def _delete(file: Path) -> bool:
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _whole(file: Path) -> bool:
    """Whether an entry can be unpacked; what this process cannot judge is whole."""
    try:
        data = file.read_bytes()
        if data.startswith(ZSTD):
            unpack = importlib.import_module("zstandard").ZstdDecompressor().decompress
            return len(unpack(data, 1 << 28)) > 0
        return len(zlib.decompress(data)) > 0
    except (ImportError, OSError):
        return True
    except Exception:  # of either library, which have an error class each
        return False


def _private(given: MutableMapping[str, str]) -> Path | None:
    """A folder that nobody else may write to, or None."""
    home, own = given.get("HOME") or "", getattr(os, "getuid", lambda: None)()
    above = Path(given.get("XDG_CACHE_HOME") or (home and f"{home}/.cache"))
    if not above.is_absolute():
        return None
    # As another user in somebody's home, root above all, one would leave files that bar the owner.
    for place in (above, *above.parents):
        if place.exists():
            if own is not None and place.stat().st_uid != own:
                return None
            break
    above.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = above / "jaxsafety" / f"{KIND}{machine()}"
    for place in (folder.parent, folder):
        place.mkdir(mode=0o700, exist_ok=True)
        at = place.stat()
        if (own is not None and at.st_uid != own) or at.st_mode & 0o022:
            return None
    return folder if os.access(folder, os.W_OK) else None
