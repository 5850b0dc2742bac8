#!/usr/bin/env bash
# Runs any command in the project's environment:
#   bash launch/local.sh jaxsafety chat
#   EXTRAS=dev bash launch/local.sh pre-commit run --all-files
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh

make_venv "${EXTRAS:-}"
PATH="$PWD/.venv/bin:$PATH" exec "$@"
