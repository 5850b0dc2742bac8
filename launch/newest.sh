#!/usr/bin/env bash
# The newest jax that pyproject.toml allows, which wants a newer Python than 3.11: some tests there,
# or a command of yours.
#
#   bash launch/newest.sh [COMMAND...]
#
# A Python 3.12 or newer of this machine serves: PYTHON_NEWEST, else one on PATH or of pyenv's. What
# is missing is one line and exit code 77; packages that can be had but do not go together, and tests
# that fail, are failures. docs/compatibility.md says what was seen.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing() {
  echo "newest: skipped: $*" >&2
  exit 77
}

fits() { "$1" -c 'import sys, venv, ssl; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; }

find_python() { # prints the first that runs, newer ones first
  local name pyenv="${PYENV_ROOT:-$HOME/.pyenv}/versions"
  set -- python3.14 python3.13 python3.12 python3 \
    "$pyenv"/3.14.*/bin/python3 "$pyenv"/3.13.*/bin/python3 "$pyenv"/3.12.*/bin/python3
  [ -z "${PYTHON_NEWEST:-}" ] || set -- "$PYTHON_NEWEST"
  for name; do
    if fits "$name"; then
      echo "$name"
      return
    fi
  done
}

in_venv() { # in_venv PYTHON COMMAND...
  local python=$1 install version='import sys; print(sys.version_info[:2])'
  shift
  if [ -x .newest/venv/bin/python ] &&
    [ "$(.newest/venv/bin/python -c "$version")" != "$("$python" -c "$version")" ]; then
    rm -rf .newest/venv # of another Python than is asked for
  fi
  if [ ! -x .newest/venv/bin/python ] && ! "$python" -m venv .newest/venv; then
    rm -rf .newest/venv # half of one would be taken for a whole one
    missing "$python makes no venv"
  fi
  install=(.newest/venv/bin/python -m pip install --quiet --disable-pip-version-check)
  "${install[@]}" --dry-run --ignore-installed --no-deps --retries 1 --timeout 20 jax \
    >/dev/null 2>&1 || missing "an index of Python packages"
  "${install[@]}" --upgrade --upgrade-strategy eager --editable '.[dev]'
  PATH="$PWD/.newest/venv/bin:$PATH" "$@"
}

# Every part runs, also when one fails.
# shellcheck disable=SC2016  # the shell that runs them expands these
tests='
  python -c "import platform, jax, flax, optax, orbax.checkpoint as o
print(\"newest: Python\", platform.python_version(), \"jax\", jax.__version__, \"flax\",
      flax.__version__, \"optax\", optax.__version__, \"orbax\", o.__version__)"
  code=0
  part() { python -m pytest -q -n 2 --timeout=300 "$@" || code=$?; }
  # As users compile: here a wrong fusion would show in a gradient.
  JAX_DISABLE_MOST_OPTIMIZATIONS=0 part tests/losses/test_eager.py
  # What compiles; how files are read does not depend on the compiler.
  # One file of each kind of program; what compares two of our own paths runs on the other stack.
  part --dist loadfile tests/losses/test_divergence.py tests/losses/test_logprobs.py \
    tests/losses/test_preference.py tests/losses/test_profile.py tests/train/test_loop.py \
    tests/train/test_step.py tests/train/test_checkpoint.py tests/train/test_optim.py \
    tests/sampling/test_decode.py tests/models/test_transformer.py
  # Whole runs, compiled as users compile.
  JAX_DISABLE_MOST_OPTIMIZATIONS=0 part -m "slow or not slow" \
    "tests/test_smoke.py::test_config_runs[sft/organism]" \
    "tests/test_smoke.py::test_config_runs[safesteer/organism]" \
    "tests/test_smoke.py::test_config_runs[safemoe/organism]"
  exit "$code"
'
[ $# -gt 0 ] || set -- bash -euc "$tests"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/.newest/xla}"
python=$(find_python)
[ -n "$python" ] || missing "Python 3.12 or newer is needed (PYTHON_NEWEST, PATH or pyenv)"
in_venv "$python" "$@"
