#!/usr/bin/env bash
# Fresh machine -> linters, types, default tests. Needs only python3; arguments go to pytest:
#   bash launch/test.sh [tests/losses -k divergence ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh

# Tests start many processes, each of which would compile the package's modules again.
unset PYTHONDONTWRITEBYTECODE
make_venv dev
export PATH="$PWD/.venv/bin:$PATH"
ruff check --quiet .
ruff format --check --quiet .
pyright --level error
# One file stays on one worker, so that its fixtures (a loaded model) are made once.
exec python -m pytest -q -n "${TEST_WORKERS:-2}" --dist loadfile --no-loadscope-reorder "$@"
