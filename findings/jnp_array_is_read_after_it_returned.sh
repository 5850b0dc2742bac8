#!/usr/bin/env bash
# jax 0.10.2 on a CPU: `jnp.array(x)` of a numpy array is no copy yet when it returns.
#
# Guess, written down before: `jnp.array` copies by default (copy=True), so that whoever refills a
# numpy buffer afterwards, as a data loader does, changes nothing; `jnp.asarray` and
# `jax.device_put` may share memory and promise less.
# Seen: of 200 arrays of 100,000 floats that were overwritten right after the call, some twenty to
# eighty hold values of later, some of them partly; with copy=True said aloud too. The conversion is
# a compiled program that is dispatched and reads the buffer when it runs. jax 0.7.2: none of 200.
# Arrays of 1,000 floats or fewer, `jnp.array(x.copy())` and `jax.block_until_ready` before the
# buffer is touched: none.
#
# Exits non-zero if that changes. Needs a package index; installs into a temporary folder.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/look.py" <<'PY'
import sys

import jax
import jax.numpy as jnp
import numpy as np

ARRAYS, SIZE = 200, 100_000


def changed(make):
    """How many of the arrays hold a value that was written after they were made."""
    count = 0
    for _ in range(ARRAYS):
        x = np.zeros(SIZE, np.float32)
        y = make(x)
        x[:] = 1.0
        count += bool(np.asarray(y).any())
    return count


found = {
    "array": changed(jnp.array),
    "array, copy=True": changed(lambda x: jnp.array(x, copy=True)),
    "array of a copy": changed(lambda x: jnp.array(x.copy())),
    "array, waited for": changed(lambda x: jax.block_until_ready(jnp.array(x))),
}
print(jax.__version__, found)
late = found["array"] > 0 and found["array, copy=True"] > 0
safe = found["array of a copy"] == found["array, waited for"] == 0
sys.exit(0 if safe and late == (sys.argv[1] == "late") else 1)
PY
look() { # look VERSION EXPECTED
  python3 -m venv "$work/$1"
  "$work/$1/bin/pip" install -q "jax==$1" "jaxlib==$1"
  JAX_PLATFORMS=cpu "$work/$1/bin/python" "$work/look.py" "$2"
}
look 0.10.2 late
look 0.7.2 never
