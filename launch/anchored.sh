#!/usr/bin/env bash
# Mitigations at equal capability on three worlds x five seeds; resumes where it stopped; hours of CPU.
#   bash launch/anchored.sh [WORLDS...]   directories of bases; default: the shipped one and two more
#   SEEDS="0 1" bash launch/anchored.sh   other seeds than 0 to 4
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh
# shellcheck source=launch/worlds.sh
. launch/worlds.sh
worlds=()
prepare_worlds "$@"
for index in "${!worlds[@]}"; do
  for seed in ${SEEDS:-0 1 2 3 4}; do
    for goals in constrained free; do
      arg="seed=$seed"
      [ "$goals" = constrained ] || arg="$goals,$arg"
      dir="runs/anchored/$index-$goals-$seed"
      mkdir -p runs/anchored
      # A run that cannot be done is kept as a line; the others go on.
      jaxsafety run --config="configs/anchored/organism.py:$arg" \
        --config.model.path="${worlds[$index]}" --workdir="$dir" >"$dir.log" 2>&1 ||
        echo "world $index, $goals, seed $seed: $(tail -n 1 "$dir.log")"
    done
  done
done
