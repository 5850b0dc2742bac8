#!/usr/bin/env bash
# Sourced by study.sh and controls.sh: `prepare_worlds [DIRS...]` makes the environment and fills the
# array `worlds`: the given bases, or the shipped one ("") and two more, raised once in runs/worlds.

prepare_worlds() {
  local seed
  make_venv
  export PATH="$PWD/.venv/bin:$PATH"
  export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/runs/compiled}"
  worlds=("$@")
  [ ${#worlds[@]} -eq 0 ] || return 0
  worlds=("")
  for seed in 1 7; do
    [ -f "runs/worlds/$seed/gates.json" ] || jaxsafety organism --seed="$seed" --out="runs/worlds/$seed"
    worlds+=("runs/worlds/$seed")
  done
}
