#!/usr/bin/env bash
# SafeSteer on a published model that has learnt to refuse, beside its baselines; resumes.
#   DATA=DIR bash launch/safesteer_real.sh    DIR: files of AdvBench, XSTest and ARC easy
#   BASE=DIR        a model that refuses; default: runs/real/sft/student, of launch/real.sh
#   SEEDS="0 1 2"   training seeds        OUT=DIR   default: runs/safesteer-real
# Ten minutes an arm and seed on one core. What was expected: docs/predictions/safesteer_real.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh
: "${DATA:?a directory with files of AdvBench, XSTest and ARC easy (docs/benchmarks.md)}"
make_venv
python=.venv/bin/python
base=${BASE:-runs/real/sft/student} out=${OUT:-runs/safesteer-real}
starter=$($python -c 'from jaxsafety.data.starter import FOLDER; print(FOLDER)')
[ -f "$base/config.json" ] || { echo "safesteer_real: $base: no model; launch/real.sh makes one" >&2; exit 2; }
mkdir -p "$out"

trained() { # trained NAME PROGRAM OPTIONS...: eight updates of sixteen answers at 1e-5
  local where="$out/$1" program="$2"
  shift 2
  $python -m jaxsafety run --config="configs/$program/smollm2_135m.py:seed=${where##*-}" \
    --workdir="$where" --config.model.path="$base" --config.eval.samples=0 \
    --config.eval.sets="safety/harmful=$starter/harmful_test.jsonl" --config.eval.safety=4 \
    --config.eval.over_refusal=0 --config.eval.max_tokens=16 --config.eval.batch_size=4 "$@"
  # A run that was asked to stop ends well and has made nothing.
  [ -f "$where/student/config.json" ] ||
    { echo "safesteer_real: stopped before $where; the same command goes on" >&2; exit 1; }
}
steered() { # steered NAME OPTIONS...
  trained "$1" safesteer --config.data.harmful="$starter/harmful_train.jsonl" \
    --config.data.harmless="$starter/twins_train.jsonl" \
    --config.data.distil="$starter/harmful_train.jsonl" "${@:2}"
}
taught() { # taught NAME OTHER: both have one teacher, which is looked for once
  local place file
  mkdir -p "$out/$1/artifacts"
  for found in filter direction token_set; do
    for kind in npz json; do # the .json says that all of it is there
      file="$out/$2/artifacts/$found.$kind" place="$out/$1/artifacts/$found.$kind"
      [ ! -f "$file" ] || [ -f "$place" ] || { cp "$file" "$place.part" && mv "$place.part" "$place"; }
    done
  done
}
measure() { # measure NAME MODEL: greedy answers, tasks by log-probability, every judge
  $python -m jaxsafety eval --model="$2" --arm="$1" --out="$out/measured" --data="$DATA" \
    --suite=advbench,xstest_safe,arc_easy --limit=64 --max-tokens=48 --batch-size=16 \
    --judges=rules,arditi,gcg,harmbench_list,xstest_list
  # Likewise; the judges come last.
  [ -f "$out/measured/judges/xstest_list/verdicts/$1/xstest_safe.greedy.jsonl" ] ||
    { echo "safesteer_real: stopped before all of $1 was judged; the same command goes on" >&2; exit 1; }
}
drift() { # drift NAME MODEL
  [ -s "$out/drift/$1.json" ] && return
  $python tools/compare_models.py --base="$base" --chats="$out/harmless.jsonl" "$2" >"$out/$1.part"
  mkdir -p "$out/drift"
  mv "$out/$1.part" "$out/drift/$1.json"
}

# What the base says to harmless prompts that nothing here is trained on.
$python tools/own_answers.py --model="$base" --prompts="$starter/twins_test.jsonl" --out="$out/harmless.jsonl"
measure base "$base"
for seed in ${SEEDS:-0 1 2}; do
  steered "steered-$seed"
  steered "context-$seed" --config.method.teacher=context --config.method.variant=full
  taught "full-$seed" "steered-$seed"
  steered "full-$seed" --config.method.variant=full
  taught "bfloat16-$seed" "steered-$seed"
  steered "bfloat16-$seed" --config.train.master=bfloat16
  trained "sft-$seed" sft --config.data.chats="$starter/harmful_train.jsonl" --config.method.rank=0 \
    --config.method.steps=8 --config.method.rows=16 --config.method.packed=False \
    --config.optim.lr=1e-5 --config.optim.weight_decay=0.0
  for arm in steered context full bfloat16 sft; do
    measure "$arm-$seed" "$out/$arm-$seed/student"
    drift "$arm-$seed" "$out/$arm-$seed/student"
  done
done
