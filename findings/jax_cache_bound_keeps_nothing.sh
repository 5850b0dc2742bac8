#!/usr/bin/env bash
# jax 0.10.2: a bound on the persistent compilation cache turns it off, where `filelock` is missing.
#
# Guess, written down before: `jax_compilation_cache_max_size` without the package that it needs, and
# that jax does not install, is an error that names the package.
# Seen: everything runs. One warning speaks of *reading* one entry (the first program's), and names
# filelock; nothing is kept of any program, in this process or a later one.
# Without the bound the same programs are kept. A job that bounds its cache therefore compiles
# everything at every start, and one warning among others is all that says so.
#
# Exits non-zero if that changes. Needs a package index; installs into a temporary folder.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2
cat > "$work/look.py" <<'PY'
import pathlib
import sys
import warnings

import jax
import jax.numpy as jnp

folder, bound = pathlib.Path(sys.argv[1]), sys.argv[2:]
jax.config.update("jax_compilation_cache_dir", str(folder))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
if bound:
    jax.config.update("jax_compilation_cache_max_size", int(bound[0]))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for i in range(3):
        total = jax.jit(lambda x, i=i: jnp.sin(x @ x) + i)(jnp.eye(8)).sum()
kept = len(list(folder.glob("*"))) if folder.is_dir() else 0
named = [str(one.message) for one in told if "filelock" in str(one.message)]
print(f"bound {bound}: result {float(total):.2f}, {kept} files kept, {len(named)} warnings: {named}")
if bound:
    sys.exit(0 if kept == 0 and len(named) == 1 and "Error reading" in named[0] else 1)
sys.exit(0 if kept > 0 and not named else 1)
PY
"$work/venv/bin/pip" list 2>/dev/null | grep -qi '^filelock' && exit 1
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/look.py" "$work/free"
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/look.py" "$work/bounded" 1000000000
# bound []: result 134.73, 10 files kept, 0 warnings: []
# bound ['1000000000']: result 134.73, 0 files kept, 1 warnings: ["Error reading persistent
#   compilation cache entry for 'jit_convert_element_type': RuntimeError: Please install the
#   `filelock` package to set `jax_compilation_cache_max_size`"]
