#!/usr/bin/env bash
# Fresh machine -> SafeSteer on the embedded model -> table and report. Needs only python3.
#   bash launch/demo.sh [--config.section.key=VALUE ...]
# A second run goes on where the first one stopped, or repeats its table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh

make_venv
exec .venv/bin/python -m jaxsafety run --config=configs/safesteer/organism.py --workdir=runs/demo "$@"
