#!/usr/bin/env bash
# A published chat model that refuses nothing: measured, taught to refuse, measured again.
#   bash launch/real.sh                            SmolLM2-135M-Instruct and the starter set
#   DATA=DIR bash launch/real.sh                   your prompts instead (docs/starter.md: the names)
#   MODEL=DIR|FILE.gguf|ID bash launch/real.sh     another model
#   OUT=DIR                                        default: runs/real
# Twenty minutes on two quiet cores. A second start goes on where the first one stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh

make_venv
python=.venv/bin/python
out=${OUT:-runs/real}
data=${DATA:-$($python -c 'from jaxsafety.data.starter import FOLDER; print(FOLDER)')}

part() { # part NAME: the one file of this name, whatever its format
  local found=("$data/$1".*)
  [ -e "${found[0]}" ] && [ "${#found[@]}" -eq 1 ] ||
    { echo "real: $data: one file $1.jsonl, .json, .csv or .txt is needed (docs/starter.md)" >&2; exit 2; }
  echo "${found[0]}"
}
harmful_train=$(part harmful_train) harmful_test=$(part harmful_test)
twins_train=$(part twins_train) twins_test=$(part twins_test)
capability=$(part capability) everyday=$(part everyday)

if [ -z "${MODEL:-}" ]; then
  MODEL=$($python tools/smollm2.py)
fi

made() { # made MODEL: a run that was asked to stop ends well and has made nothing
  [ -f "$1/config.json" ] || { echo "real: stopped before $1; the same command goes on" >&2; exit 1; }
}
measure() { # measure ARM MODEL
  $python -m jaxsafety eval --model="$2" --arm="$1" --out="$out/measured" --judges=rules \
    --data="safety/harmful=$harmful_test" --data="over_refusal/twins=$twins_test" \
    --data="capability/capability=$capability" --max-tokens=48 --batch-size=16
}

echo "== the model as it is published"
measure base "$MODEL"
own() { # own NAME PROMPTS: what the model itself says, so that it goes on saying it
  $python tools/own_answers.py --model="$MODEL" --prompts="$2" --out="$out/$1.jsonl"
}
own twins "$twins_train"
own everyday "$everyday"
echo "== a LoRA of refusals and harmless twins"
$python -m jaxsafety run --config=configs/sft/smollm2_135m.py --workdir="$out/sft" \
  --config.model.path="$MODEL" \
  --config.data.mix="('$harmful_train=0.27','$out/twins.jsonl=0.38','$out/everyday.jsonl=0.35')"
made "$out/sft/student"
measure sft "$out/sft/student"
echo "== SafeSteer on what refuses now"
$python -m jaxsafety run --config=configs/safesteer/smollm2_135m.py --workdir="$out/safesteer" \
  --config.model.path="$out/sft/student" --config.data.harmful="$harmful_train" \
  --config.data.harmless="$twins_train" --config.data.distil="$harmful_train" \
  --config.eval.sets="safety/harmful=$harmful_test,over_refusal/twins=$twins_test" \
  --config.eval.safety=0 --config.eval.over_refusal=0 --config.eval.samples=0 \
  --config.eval.max_tokens=48 --config.eval.batch_size=16
made "$out/safesteer/student"
measure safesteer "$out/safesteer/student"
