#!/usr/bin/env bash
# flax 0.12.8: `nn.scan(check_constancy_invariants=False)` initializes other parameters.
#
# Guess, written down before: the option, which is documented as one tracing less, changes no
# number where nothing is broadcast out of the scan; a model may switch it to be traced faster.
# Seen: applying gives the same bits, but `init` with the same key gives other first values of every
# kernel, of the same distribution. Whoever switches it for speed trains from another start, and a
# recorded seed repeats nothing.
# Setting it to `self.is_initializing()` keeps both.
#
# Exits non-zero if that changes. Needs a package index; installs into a temporary folder.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q flax==0.12.8 jax==0.10.2 jaxlib==0.10.2
cat > "$work/look.py" <<'PY'
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.Dense(8)(nn.gelu(nn.Dense(8)(x))), None


class Stack(nn.Module):
    check: bool

    @nn.compact
    def __call__(self, x):
        layers = nn.scan(
            Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
            check_constancy_invariants=self.check,
        )
        return layers()(x, None)[0]


x = jnp.ones((2, 8))
checked, quick = (Stack(check).init(jax.random.key(0), x) for check in (True, False))
same_shapes = jax.tree.map(jnp.shape, checked) == jax.tree.map(jnp.shape, quick)
pairs = list(zip(jax.tree.leaves(checked), jax.tree.leaves(quick), strict=True))
drawn = [(a, b) for a, b in pairs if a.ndim == 3]
differ = sum(not np.array_equal(a, b) for a, b in drawn)
spread = [f"{float(a.std()):.2f} and {float(b.std()):.2f}" for a, b in drawn]
again = [Stack(check).apply(checked, x) for check in (True, False)]
applied = bool(np.array_equal(*again))
print(f"same shapes {same_shapes}, {differ} of {len(drawn)} kernels differ, spread {spread}")
print(f"applied to the same parameters: equal {applied}")
sys.exit(0 if same_shapes and differ == len(drawn) == 2 and applied else 1)
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/look.py"
# same shapes True, 2 of 2 kernels differ, spread ['0.33 and 0.33', '0.37 and 0.37']
# applied to the same parameters: equal True
