#!/usr/bin/env bash
# SafeMoE's default on three fresh worlds beside its parts and LoRAs of its size; resumes.
#   bash launch/safemoe_worlds.sh           raises worlds 11 to 13 (20 minutes of a core each)
#   JOBS=2 bash launch/safemoe_worlds.sh    as many at once; each is content with one core
#   SEARCH=1 bash launch/safemoe_worlds.sh  the LoRAs' rates on world 0's validation prompts instead
# What was expected: docs/predictions/safemoe_worlds.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/venv.sh
. launch/venv.sh
make_venv
export PATH="$PWD/.venv/bin:$PATH"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/compiled}"
export RUNS="runs/safemoe-worlds" RATES="(0.003,)" # what the search chose
mkdir -p "$RUNS/bases"

measured() { # measured WORKDIR OPTIONS...: as the predictions say; 112 prompts are all there are
  local where="$1"
  shift
  jaxsafety run --config=configs/safemoe/controls.py:preset=default --config.eval.safety=112 \
    --config.method.base.measure.safety=112 --config.method.base.measure.harmless=192 \
    --config.method.base.measure.tasks=32 "$@" --workdir="$where" >>"$where.log" 2>&1 && return
  echo "$where: $(tail -n 1 "$where.log")" >&2
  return 1
}

one() { # one WORLD: its base, then every arm
  local base="$RUNS/bases/$1"
  [ -f "$base/gates.json" ] ||
    jaxsafety organism --kind=unaligned --seed="$1" --out="$base" >>"$base.log" 2>&1
  measured "$RUNS/$1" --config.model.path="$base" \
    --config.method.rates="$RATES"
}
export -f one measured

if [ "${SEARCH:-}" ]; then
  measured "$RUNS/rates" --config.eval.seed=1000 \
    --config.method.arms="('lora_pooled', 'lora_matched')" \
    --config.method.rates="(0.001, 0.003, 0.01)"
  exit
fi
printf '%s\n' 11 12 13 | xargs -P "${JOBS:-1}" -I{} bash -c 'one {}'
python tools/safemoe_worlds.py --save "$RUNS"/1[123]/
