#!/usr/bin/env bash
# The newest jax that pyproject.toml allows, which wants a newer Python than 3.11: some tests there,
# or a command of yours.
#
#   bash launch/newest.sh [COMMAND...]
#
# A Python 3.12 or newer of this machine serves: PYTHON_NEWEST, one on PATH, or one of pyenv's.
# Without one, on a Debian machine and as root, a Debian 13 root is made in .newest/debian (two
# minutes, 1.5 GB; before deleting it: umount its proc and dev). Where neither can be had, one line
# says what is missing, and the exit code is 77.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing() {
  echo "newest: skipped: $*" >&2
  exit 77
}

find_python() { # prints the newest one that runs
  local name pyenv="${PYENV_ROOT:-$HOME/.pyenv}/versions"
  for name in "${PYTHON_NEWEST:-}" python3.14 python3.13 python3.12 python3 \
    "$pyenv"/3.14.*/bin/python3 "$pyenv"/3.13.*/bin/python3 "$pyenv"/3.12.*/bin/python3; do
    [ -n "$name" ] || continue
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 || continue
    echo "$name"
    return
  done
}

in_venv() { # in_venv PYTHON COMMAND...
  local python=$1
  shift
  [ -x .newest/venv/bin/python ] || "$python" -m venv .newest/venv || missing "$python makes no venv"
  .newest/venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade \
    --upgrade-strategy eager --editable '.[dev]' || missing "the packages cannot be installed"
  PATH="$PWD/.newest/venv/bin:$PATH" "$@"
}

in_debian() { # in_debian COMMAND...
  local root=.newest/debian mirror place
  [ "$(id -u)" -eq 0 ] || missing "Python 3.12 or newer, or root to make a Debian 13 root"
  command -v debootstrap >/dev/null ||
    { apt-get update -qq && apt-get install -y -qq debootstrap; } >/dev/null 2>&1 ||
    missing "debootstrap, or Python 3.12 or newer"
  mirror=$(grep -rhoE 'https?://[^ ]+/debian/?' /etc/apt/sources.list /etc/apt/sources.list.d/ \
    2>/dev/null | grep -v security | head -n 1) || missing "a Debian mirror in apt's configuration"
  if [ ! -x "$root/usr/bin/python3" ]; then
    mkdir -p .newest
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates,git trixie \
      "$root" "$mirror" >.newest/debian.log 2>&1 || missing "debootstrap failed, see .newest/debian.log"
  fi
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  mkdir -p "$root/etc/ssl/certs"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || true
  for place in proc dev; do # XLA's CPU runtime reads /proc
    mountpoint -q "$root/$place" || mount --bind "/$place" "$root/$place" || missing "mount --bind"
  done
  # The tree as it is, without what was built here.
  rm -rf "$root/repo.new" && mkdir -p "$root/repo.new" "$root/repo"
  git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$root/repo.new"
  [ ! -d "$root/repo/.venv" ] || mv "$root/repo/.venv" "$root/repo.new/.venv"
  rm -rf "$root/repo" && mv "$root/repo.new" "$root/repo"
  # shellcheck disable=SC2016  # the inner shell expands these
  env -u PIP_FIND_LINKS -u PYTHONPATH HOME=/ chroot "$root" /bin/bash -euc '
    cd /repo
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/pip install --quiet --upgrade --upgrade-strategy eager --editable ".[dev]" || exit 77
    PATH="/repo/.venv/bin:$PATH" "$@"' _ "$@"
}

# shellcheck disable=SC2016  # the shell that runs them expands these
tests='
  python -c "import platform, jax, flax, optax, orbax.checkpoint as o
print(\"newest: Python\", platform.python_version(), \"jax\", jax.__version__, \"flax\",
      flax.__version__, \"optax\", optax.__version__, \"orbax\", o.__version__)"
  # As users compile: here a wrong fusion would show in a gradient.
  JAX_DISABLE_MOST_OPTIMIZATIONS=0 python -m pytest -q -n 2 tests/losses tests/sampling
  python -m pytest -q -n 2 --dist loadfile tests/models tests/adapters tests/train
  exec python -m pytest -q -n 2 -m "slow or not slow" \
    "tests/test_smoke.py::test_config_runs[sft/organism]" \
    "tests/test_smoke.py::test_config_runs[safesteer/organism]" \
    "tests/test_smoke.py::test_config_runs[safemoe/organism]"
'
[ $# -gt 0 ] || set -- bash -euc "$tests"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/.newest/xla}"
python=$(find_python)
if [ -n "$python" ]; then in_venv "$python" "$@"; else in_debian "$@"; fi
