"""GPUs to compile for that are not there: what XLA has to be told of a card, and its devices.

The compiler is JAX's CUDA plugin with ptxas and libdevice (`pip install 'jaxsafety[gpu-plan]'`,
some 255 MB of wheels; no driver, cuBLAS or NCCL). Only where cuDNN is installed too
(`nvidia-cudnn-cu13`, 0.9 GB) attention is planned with its kernels (`models/cudnn.py`), as it runs;
else as matrices, which take more memory. The compiler learns of the card by a
`GpuTargetConfigProto` in text form. The format is no promise of XLA's: what is said here is what
jax 0.10 and 0.12 accept, with the fields that tile sizes need; the facts are the cards' data sheets
and what XLA's own target files say of them. No version of CUB is named: with one, XLA asks a driver
for its sort, which is not there; without, it takes its own.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import Any, NamedTuple

from jaxsafety.core.errors import bad

UNCHECKED = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"  # for CUDA libraries
DEFAULT_FRACTION = 0.75  # of the card's memory, that JAX's allocator takes unless told otherwise
FRACTION = "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"  # and its older name


class Card(NamedTuple):
    """What XLA asks of a card.

    Attributes:
      name: as the driver says it.
      major: of its compute capability.
      cores: streaming multiprocessors.
      units: float32 units a core.
      memory: bytes.
      bandwidth: bytes/s.
      cache: bytes of L2.
      shared: bytes of shared memory a core.
      optin: of these a block may ask for.
      clock: GHz.
    """

    name: str
    major: int
    cores: int
    units: int
    memory: int
    bandwidth: int
    cache: int
    shared: int
    optin: int
    clock: float


H100 = Card(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    cores=132,
    units=128,
    memory=84942979072,
    bandwidth=3352320000000,
    cache=50 << 20,
    shared=228 << 10,
    optin=227 << 10,
    clock=1.98,
)
H200 = H100._replace(name="NVIDIA H200 141GB HBM3e", memory=151397597184, bandwidth=4800000000000)
A100 = Card(
    name="NVIDIA A100-SXM4-80GB",
    major=8,
    cores=108,
    units=64,
    memory=85100068864,
    bandwidth=2039040000000,
    cache=40 << 20,
    shared=164 << 10,
    optin=163 << 10,
    clock=1.41,
)
CARDS = {"h100": H100, "h200": H200, "a100": A100}
COUNTS = ("1", "2", "4", "8", "16", "32")
# bfloat16 FLOP/s of the data sheets, without sparsity.
FLOPS = {"h100": 989e12, "h200": 989e12, "a100": 312e12}
LINKS = {"h100": 450e9, "h200": 450e9, "a100": 300e9}  # NVLink within a host, bytes/s one way


def target(card: Card) -> str:
    """The card as the compiler's text."""
    told = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "threads_per_core_limit": 2048,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
        "shared_memory_per_block": 48 << 10,
        "shared_memory_per_core": card.shared,
        "shared_memory_per_block_optin": card.optin,
        "core_count": card.cores,
        "fpus_per_core": card.units,
        "l2_cache_size": card.cache,
        "clock_rate_ghz": card.clock,
        "device_memory_size": card.memory,
        "memory_bandwidth": card.bandwidth,
    }
    lines = [f"  {name}: {value}" for name, value in told.items()]
    lines.append(f"  cuda_compute_capability {{ major: {card.major} }}")
    body = "\n".join(lines)
    name = f'device_description_str: "{card.name}"'
    return f'gpu_device_info {{\n{body}\n}}\nplatform_name: "CUDA"\n{name}\n'


def prepare() -> None:
    """Keeps JAX off real GPUs and XLA from a warning per large program; before backends start."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import jax

    if not jax.config.jax_platforms:  # type: ignore[attr-defined]
        jax.config.update("jax_platforms", "cpu")


def devices(generation: str, count: int) -> list[Any]:
    """`count` cards, on hosts of eight.

    Raises:
      UsageError: the compiler is not installed, or refuses; what it says is told.
    """
    from jax.experimental import topologies

    card, hosts = CARDS[generation], max(1, count // 8)
    shape = f"1x{hosts}x{count // hosts}"

    def ask() -> list[Any]:
        found = topologies.get_topology_desc(
            platform="cuda", topology=shape, target_config=target(card)
        )
        return list(found.devices)

    plugin = _plugin()
    if plugin is None:
        raise bad("--topology", f"{generation}:{count}", "pip install 'jaxsafety[gpu-plan]'")
    try:
        return ask()
    except Exception as error:  # several types
        if "not implemented" not in str(error):
            raise _refused(generation, error) from error
    # The plugin has looked for the CUDA libraries that are not here, and did not register.
    before = os.environ.get(UNCHECKED)
    os.environ[UNCHECKED] = "1"
    try:
        plugin.initialize()
        return ask()
    except Exception as error:
        raise _refused(generation, error) from error
    finally:
        del os.environ[UNCHECKED]
        if before is not None:
            os.environ[UNCHECKED] = before


def _plugin() -> Any:
    """The CUDA plugin of whichever CUDA version is installed, or None."""
    try:
        plugins = importlib.import_module("jax_plugins")
        names = [m.name for m in pkgutil.iter_modules(plugins.__path__) if "cuda" in m.name]
        return importlib.import_module(f"jax_plugins.{max(names)}") if names else None
    except ImportError:
        return None


def _refused(generation: str, error: Exception) -> Exception:
    import jax

    given = f"{generation}: {' '.join(str(error).split())[:200]}"
    return bad("--topology", given, f"what the CUDA plugin of jax {jax.__version__} compiles for")


def fraction() -> float:
    """The part of a card's memory that JAX takes at its start, by this process's environment.

    Raises:
      UsageError: a value that is no fraction, or both names of the variable at once, as in JAX.
    """
    told = {name: os.environ[name] for name in FRACTION if os.environ.get(name)}
    if len(told) > 1:
        raise bad(" and ".join(told), " and ".join(told.values()), "one of the two")
    for name, text in told.items():
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= 1:
            raise bad(name, text, "more than 0, at most 1")
        return value
    return DEFAULT_FRACTION
