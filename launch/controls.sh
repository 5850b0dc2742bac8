#!/usr/bin/env bash
# SafeSteer's controls on three worlds x three seeds; resumes where it stopped; hours of CPU.
#   bash launch/controls.sh [WORLDS...]   directories of bases; default: the shipped one and two more
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/venv.sh
make_venv
export PATH="$PWD/.venv/bin:$PATH"
worlds=("$@")
if [ ${#worlds[@]} -eq 0 ]; then
  worlds=("")
  for seed in 1 2; do
    [ -f "runs/worlds/$seed/gates.json" ] || jaxsafety organism --seed="$seed" --out="runs/worlds/$seed"
    worlds+=("runs/worlds/$seed")
  done
fi
for index in "${!worlds[@]}"; do
  for seed in 0 1 2; do
    jaxsafety run --config="configs/safesteer/controls.py:seed=$seed" \
      --config.model.path="${worlds[$index]}" --workdir="runs/controls/$index-$seed"
  done
done
python tools/controls.py runs/controls/*-*
