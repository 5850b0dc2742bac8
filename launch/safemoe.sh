#!/usr/bin/env bash
# SafeMoE's controls on five seeds, then their tables; resumes where it stopped.
#   bash launch/safemoe.sh [MODEL]         another unaligned base; default: the shipped one
#   JOBS=2 bash launch/safemoe.sh          as many seeds at once; each is content with one core
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh
make_venv
export PATH="$PWD/.venv/bin:$PATH"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/compiled}"
mkdir -p runs/safemoe-controls
export MODEL="${1:-}"

one() { # one SEED: a run that cannot be done is told as a line, the others go on
  local dir="runs/safemoe-controls/$1"
  jaxsafety run --config="configs/safemoe/controls.py:seed=$1" ${MODEL:+"--config.model.path=$MODEL"} \
    --workdir="$dir" >"$dir.log" 2>&1 || echo "seed $1: $(tail -n 1 "$dir.log")"
}
export -f one
printf '%s\n' 0 1 2 3 4 | xargs -P "${JOBS:-1}" -I{} bash -c 'one {}'
python tools/safemoe.py runs/safemoe-controls/*/
