#!/usr/bin/env bash
# SafeMoE's controls on five seeds, then their tables; resumes where it stopped.
#   bash launch/safemoe.sh [MODEL]         another unaligned base; default: the shipped one
#   JOBS=2 bash launch/safemoe.sh          as many seeds at once; each is content with one core
set -euo pipefail
MODEL="${1:+$(realpath -- "$1")}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh
make_venv
export PATH="$PWD/.venv/bin:$PATH"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/compiled}"
name="$(basename -- "${MODEL:-shipped}")"
export MODEL RUNS="runs/safemoe-controls/$name"
mkdir -p "$RUNS"

one() { # one SEED: a run that cannot be done is told as a line, the others go on
  jaxsafety run --config="configs/safemoe/controls.py:seed=$1" ${MODEL:+"--config.model.path=$MODEL"} \
    --workdir="$RUNS/$1" >>"$RUNS/$1.log" 2>&1 && return
  echo "seed $1: $(tail -n 1 "$RUNS/$1.log")" >&2
  return 1
}
export -f one
# xargs ends with 123 if a seed failed: then there are no tables of half the runs.
printf '%s\n' 0 1 2 3 4 | xargs -P "${JOBS:-1}" -I{} bash -c 'one {}'
python tools/safemoe.py "$RUNS"/*/
