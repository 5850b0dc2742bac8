"""Whether a TPU may be attached to this machine; if none can, JAX is kept from looking for one.

With the extra `tpu` installed (for `plan`), JAX loads libtpu on every start, also on a laptop,
where it fails with a page of warnings. Keeping `import libtpu` from succeeding is enough: JAX then
starts with what else there is, GPU plugins too, in its own order. Whatever hints at a TPU, or says
that the user decides, leaves everything as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

# Set by a TPU VM, a pod's launcher or the user. JAX sets TPU_SKIP_MDS_QUERY itself without a TPU.
HINTS = ("TPU_", "LIBTPU_", "CLOUD_TPU_", "COLAB_TPU_", "MEGASCALE_", "KUBE_GOOGLE_CLOUD_TPU")
DECIDED = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_FORCE_TPU_INIT")
OWN = ("TPU_SKIP_MDS_QUERY", "LIBTPU_INIT_ARGS")
GOOGLE = "0x1ae0"
NO_TPU = ("0x01", "0x02")  # PCI classes of Google's disks and network cards on every cloud machine


def skip_missing_tpus() -> bool:
    """Keeps JAX from loading libtpu where no TPU can be; call it before JAX is imported.

    Returns:
      Whether it did.
    """
    if "jax" in sys.modules or "libtpu" in sys.modules or tpu_possible():
        return False
    sys.modules["libtpu"] = None  # type: ignore[assignment]  # an import of it raises ImportError
    return True


def tpu_possible(environment: Mapping[str, str] | None = None, root: Path = Path("/")) -> bool:
    """Whether anything speaks for a TPU: the environment, a device file, the PCI bus.

    Chips appear as /dev/accelN (/dev/accel/ is other makers') or, newer ones, as /dev/vfio/N, and
    on the PCI bus as Google's devices (`jax._src.hardware_utils` knows their numbers; here any that
    is no disk and no network card counts, so that the next generation is seen too).

    Args:
      environment: by default the process's.
      root: of the file system, for tests.
    """
    given = os.environ if environment is None else environment
    if any(given.get(name) for name in DECIDED):
        return True
    if any(name.startswith(HINTS) and name not in OWN for name in given):
        return True
    if any(any((root / "dev").glob(p)) for p in ("accel[0-9]*", "accel_*", "vfio/[0-9]*")):
        return True
    return any(map(_google_chip, (root / "sys/bus/pci/devices").glob("*")))


def _google_chip(device: Path) -> bool:
    try:
        if (device / "vendor").read_text().strip() != GOOGLE:
            return False
        return not (device / "class").read_text().strip().startswith(NO_TPU)
    except OSError:
        return False
