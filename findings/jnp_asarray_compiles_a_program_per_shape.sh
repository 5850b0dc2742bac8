#!/usr/bin/env bash
# jax 0.10.2: `jnp.asarray` of a numpy array compiles a program, another one for every shape.
#
# Guess, written down before: bringing a numpy array to the device is a transfer, so that a loader
# whose batches have twenty widths compiles nothing for it.
# Seen: twenty programs named `stage` for twenty shapes, and some tenths of a second for arrays of
# some hundred bytes; `jax.device_put` of the same arrays compiles none, and neither did `jnp.asarray` of jax
# 0.7.2. A second array of a shape compiles nothing.
#
# Exits non-zero if that changes. Needs a package index; installs into a temporary folder.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/look.py" <<'PY'
import io
import logging
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_log_compiles", True)
told = io.StringIO()
logging.getLogger("jax").addHandler(logging.StreamHandler(told))
jax.block_until_ready(jax.device_put(np.zeros(1)))


def compiled(make):
    """Programs that were compiled for twenty shapes, and seconds."""
    told.truncate(0)
    told.seek(0)
    start = time.perf_counter()
    for width in range(1, 21):
        jax.block_until_ready(make(np.zeros((2, width), np.int32)))
    lines = [line for line in told.getvalue().splitlines() if "Finished XLA compilation" in line]
    return len(lines), round(time.perf_counter() - start, 3)


found = [compiled(jax.device_put), compiled(jnp.asarray), compiled(jnp.asarray)]
print(jax.__version__, dict(zip(("device_put", "asarray", "asarray again"), found, strict=True)))
sys.exit(0 if [n for n, _ in found] == [0, int(sys.argv[1]), 0] else 1)
PY
look() { # look VERSION PROGRAMS
  python3 -m venv "$work/$1"
  "$work/$1/bin/pip" install -q "jax==$1" "jaxlib==$1"
  JAX_PLATFORMS=cpu "$work/$1/bin/python" "$work/look.py" "$2" 2>/dev/null
}
look 0.10.2 20
look 0.7.2 0
