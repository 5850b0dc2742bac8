#!/usr/bin/env bash
# SafeSteer on three worlds x three seeds: default preset, paper preset, five mass-matched controls.
# Resumes where it stopped; an hour or two on two cores, besides the bases.
#   bash launch/study.sh [WORLDS...]   directories of bases; default: the shipped one and two more
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh
# shellcheck source=launch/worlds.sh
. launch/worlds.sh
worlds=()
prepare_worlds "$@"

one() { # one WORLD_INDEX NAME ARG: a run that cannot be done (no direction passes) is kept as a line
  local index=$1 dir="runs/study/$1-$2"
  mkdir -p runs/study
  jaxsafety run --config="configs/safesteer/organism.py:$3" \
    --config.model.path="${worlds[$index]}" --workdir="$dir" >"$dir.log" 2>&1 ||
    echo "world $index, $2: $(tail -n 1 "$dir.log")"
}

for index in "${!worlds[@]}"; do
  for seed in 0 1 2; do
    one "$index" "default-$seed" "seed=$seed"
    one "$index" "paper-$seed" "seed=$seed,preset=paper"
  done
  for draw in 0 1 2 3 4; do
    one "$index" "matched$draw-0" "seed=0,control=$draw"
  done
done
python tools/study.py runs/study
