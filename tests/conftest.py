"""Settings of every test, made before jax is imported: 8 virtual CPU devices, a cache."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import signal
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# Tests that start processes compile the same programs again and again; the workers share too. The
# number of cores is in what XLA compiles for CPUs, and so in the bits, but not in the cache's key.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
CACHE = Path(tempfile.gettempdir()) / f"jaxsafety-xla-{os.getuid()}-{CORES}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Nearly all the time goes into compiling programs that run once. `tests/parity` and the whole runs
# of launch/newest.sh compile as users do, with JAX_DISABLE_MOST_OPTIMIZATIONS=0.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# XLA's older emitters of fused loops compile three times as fast. Later versions have none, and end
# the process at a flag that they do not know. Tests that set a process's flags pass it on.
QUICK = ""
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and version("jaxlib").startswith("0.10."):
    QUICK = "--xla_cpu_use_fusion_emitters=false"
for flag in ("--xla_force_host_platform_device_count=8", QUICK):
    if flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
os.environ.setdefault("MPLBACKEND", "agg")

import pytest  # noqa: E402

# In the background of a shell Ctrl-C is ignored; tests of it want what a terminal gives.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


# Files of few and long tests begin first, so that no worker is left alone with one at the end.
LONG = (
    "test_smoke",
    "test_safesteer_program",
    "test_base",
    "test_safemoe_controls",
    "test_processes",
    "test_safesteer_kills",
    "test_anchored_kills",
    "test_toy_kills",
    "test_safemoe_kills",
    "test_selfmoa_kills",
)


def pytest_collection_modifyitems(items):
    """Only the order of files changes; xdist keeps it with --no-loadscope-reorder."""
    items.sort(key=lambda item: item.path.stem not in LONG)  # stable: the rest stays as it was


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=30, help="how often tests/faults kill a run")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def load_tool(root):
    """`load_tool(name)`: the module tools/NAME.py, which is in no package."""

    def loaded(name: str):
        spec = importlib.util.spec_from_file_location(f"{name}_tool", root / f"tools/{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return loaded


@pytest.fixture(scope="session")
def shipped(root) -> Path:
    """The Hugging Face directory of the shipped organism."""
    return root / "jaxsafety" / "organism" / "base"


@pytest.fixture
def kills(request) -> int:
    """How often a fault test kills its run (`--kills`)."""
    return request.config.getoption("--kills")


@pytest.fixture(scope="module")
def fused():
    """Compiles a file with the newer emitters after all: two of its programs are equal to the bit
    or nearly so, which holds by how these fuse."""
    if not QUICK:
        yield
        return
    import jax
    from jax._src import compiler

    usual = compiler.get_compile_options

    def newer(*args, env_options_overrides=None, **kwargs):
        options = {"xla_cpu_use_fusion_emitters": True} | (env_options_overrides or {})
        return usual(*args, env_options_overrides=options, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        jax.clear_caches()
        patch.setattr(compiler, "get_compile_options", newer)
        yield
    jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def lean():
    """Lets go of compiled programs once they are many: a bloated process is far slower."""
    yield
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    if pages * os.sysconf("SC_PAGE_SIZE") > 2 << 30:
        import jax

        jax.clear_caches()
        gc.collect()
