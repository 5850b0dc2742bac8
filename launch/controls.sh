#!/usr/bin/env bash
# SafeSteer's controls on three worlds x three seeds; resumes where it stopped; hours of CPU.
#   bash launch/controls.sh [WORLDS...]   directories of bases; default: the shipped one and two more
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh
# shellcheck source=launch/worlds.sh
. launch/worlds.sh
worlds=()
prepare_worlds "$@"
for index in "${!worlds[@]}"; do
  for seed in 0 1 2; do
    dir="runs/controls/$index-$seed"
    mkdir -p runs/controls
    # A run that cannot be done (no direction passes, say) is kept as a line; the others go on.
    jaxsafety run --config="configs/safesteer/controls.py:seed=$seed" \
      --config.model.path="${worlds[$index]}" --workdir="$dir" >"$dir.log" 2>&1 ||
      echo "world $index, seed $seed: $(tail -n 1 "$dir.log")"
  done
done
python tools/controls.py runs/controls/*-*/
