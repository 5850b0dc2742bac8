#!/usr/bin/env bash
# SafeSteer on three worlds x three seeds: presets default and adapted, five random control sets,
# then in the shipped world amounts of data, numbers of rollouts and bf16 parameters.
# Resumes where it stopped; an hour or two on two cores, besides the bases.
#   bash launch/study.sh [WORLDS...]   directories of bases; default: the shipped one and two more
#   JOBS=4 bash launch/study.sh        as many runs at once; each is content with one core
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh
# shellcheck source=launch/worlds.sh
. launch/worlds.sh
worlds=()
prepare_worlds "$@"
mkdir -p runs/study

one() { # one WORLD NAME CONFIG [FLAGS]: a run that cannot be done is kept as a line, others go on
  local dir="runs/study/$2"
  jaxsafety run --config="configs/safesteer/$3" --config.model.path="$1" --workdir="$dir" \
    "${@:4}" >"$dir.log" 2>&1 || echo "$2: $(tail -n 1 "$dir.log")"
}
export -f one

jobs() { # a line per run; seeds first, so that an early stop leaves whole rows of worlds
  local seed index draw n lift="--config.method.direction.select"
  for seed in 0 1 2; do
    for index in "${!worlds[@]}"; do
      echo "$index-default-$seed" "organism.py:seed=$seed"
      echo "$index-paper-$seed" "organism.py:seed=$seed,preset=adapted"
      # The published limits of the selection lifted, so that the rest of the method is seen too.
      echo "$index-lifted-$seed" "organism.py:seed=$seed,preset=adapted" \
        "$lift.steering=-100" "$lift.kl=10"
    done
  done
  for index in "${!worlds[@]}"; do
    for draw in 0 1 2 3 4; do
      echo "$index-matched$draw-0" "organism.py:seed=0,control=$draw"
    done
  done
  for seed in 0 1 2; do
    for n in 10 25 50 400; do
      echo "0-prompts$n-$seed" "organism.py:seed=$seed" "--config.data.prompts=$n"
    done
    for n in 1 4; do
      echo "0-rollouts$n-$seed" "organism.py:seed=$seed" "--config.method.rollouts=$n"
    done
    echo "0-bf16-$seed" "organism.py:seed=$seed" "--config.train.master=bfloat16"
    for n in float32 bfloat16; do # the rate of the paper
      echo "0-slow_$n-$seed" "organism.py:seed=$seed" "--config.train.master=$n" \
        "--config.optim.lr=1e-5"
    done
  done
}

while read -r name rest; do
  echo "'${worlds[${name%%-*}]}' $name $rest"
done < <(jobs) | xargs -P "${JOBS:-1}" -L 1 bash -c 'one "$@"' one
python tools/study.py runs/study
