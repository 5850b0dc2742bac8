#!/usr/bin/env bash
# One run on a Cloud TPU slice: asks for it, installs, runs on every worker, asks again when the
# slice is taken away, deletes it at the end. The workdir lies in a bucket that all workers mount,
# so a run goes on where it was stopped, on a new slice too.
#
#   NAME=ours ZONE=us-east5-a TYPE=v5p-32 BUCKET=my-bucket bash launch/tpu_pod.sh \
#     --config=configs/safesteer/llama3_8b.py --config.model.path=meta-llama/Meta-Llama-3-8B-Instruct
#
# --dry-run first prints the commands and runs none. Also: PROJECT; RUNTIME (default: by TYPE);
# SPOT=0 (default 1: spot capacity); KEEP=1 keeps the slice; WAIT (seconds between looks, 30);
# TRIES (slices to ask for, 20); HF_TOKEN goes to the workers when it is set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry=""
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi
for needed in NAME ZONE TYPE BUCKET; do
  [ -n "${!needed:-}" ] || { echo "tpu_pod: set $needed (see the head of $0)" >&2; exit 2; }
done
case " $* " in *" --config="*) ;; *) echo "tpu_pod: needs --config=FILE" >&2; exit 2 ;; esac
case "${RUNTIME:-$TYPE}" in
  v5litepod-*) RUNTIME=v2-alpha-tpuv5-lite ;;
  v5p-*) RUNTIME=v2-alpha-tpuv5 ;;
  v6e-*) RUNTIME=v2-alpha-tpuv6e ;;
  v4-*) RUNTIME=tpu-ubuntu2204-base ;;
  *) [ -n "${RUNTIME:-}" ] || { echo "tpu_pod: set RUNTIME for TYPE=$TYPE" >&2; exit 2; } ;;
esac

where=(--zone="$ZONE" ${PROJECT:+--project="$PROJECT"})
workdir="bucket/runs/$NAME"

tpu() { # tpu SUBCOMMAND...: gcloud, or what it would be asked
  if [ -n "$dry" ]; then
    printf 'gcloud compute tpus'
    printf ' %q' "$@" "${where[@]}"
    echo
    return 0
  fi
  gcloud compute tpus "$@" "${where[@]}"
}

state() { # of the request; "" when there is none
  [ -z "$dry" ] || { echo ACTIVE; return 0; }
  gcloud compute tpus queued-resources describe "$NAME" "${where[@]}" \
    --format="value(state.state)" 2>/dev/null || true
}

ask() {
  local spot=()
  [ "${SPOT:-1}" = 0 ] || spot=(--spot)
  tpu queued-resources create "$NAME" --node-id="$NAME" --accelerator-type="$TYPE" \
    --runtime-version="$RUNTIME" "${spot[@]}"
}

drop() { tpu queued-resources delete "$NAME" --force --quiet; }

everywhere() { tpu tpu-vm ssh "$NAME" --worker=all --command="$1"; }

acquire() { # asks until the slice is there
  local now asked=0
  while :; do
    now=$(state)
    case "$now" in
      ACTIVE) return 0 ;;
      "" | SUSPENDED | FAILED)
        asked=$((asked + 1))
        [ "$asked" -le "${TRIES:-20}" ] || { echo "tpu_pod: no slice in $asked tries" >&2; return 1; }
        [ -z "$now" ] || drop
        ask ;;
      *) echo "tpu_pod: $NAME is $now" >&2; sleep "${WAIT:-30}" ;;
    esac
  done
}

install() { # the committed source, an environment, the bucket
  local folder
  folder=$(mktemp -d)
  git archive --format=tar.gz HEAD >"$folder/jaxsafety.tar.gz"
  tpu tpu-vm scp "$folder/jaxsafety.tar.gz" "$NAME:jaxsafety.tar.gz" --worker=all || return
  if [ -n "${HF_TOKEN:-}" ]; then # as a file: a command line is seen by others and logged
    (umask 077 && printf '%s\n' "$HF_TOKEN" >"$folder/token")
    tpu tpu-vm scp "$folder/token" "$NAME:.jaxsafety_token" --worker=all || return
  fi
  rm -rf "$folder"
  # The images have an older Python and perhaps no gcsfuse. Renames of directories, which commit a
  # checkpoint, and what other workers wrote have to be seen at once.
  everywhere "set -e; mkdir -p jaxsafety bucket; tar -xzf jaxsafety.tar.gz -C jaxsafety
    command -v gcsfuse >/dev/null || { sudo apt-get -q update && sudo apt-get -qy install gcsfuse; }
    mountpoint -q bucket || gcsfuse --implicit-dirs --rename-dir-limit=100000 \
      --metadata-cache-ttl-secs=0 $BUCKET bucket
    python3 -m pip install --user --quiet uv; export PATH=\$HOME/.local/bin:\$PATH
    uv python install 3.12; cd jaxsafety; . launch/venv.sh
    PYTHON=\$(uv python find 3.12) make_venv tpu"
}

arguments=""
for word in "$@"; do arguments+=" $(printf '%q' "$word")"; done
token="[ ! -f \$HOME/.jaxsafety_token ] || export HF_TOKEN=\$(cat \$HOME/.jaxsafety_token)"
run="$token; cd jaxsafety; .venv/bin/python -m jaxsafety run --distributed"
run+=" --workdir=\$HOME/$workdir$arguments"

gone() { # whether the slice was taken away; that it was is not known at once
  local look
  for look in 1 2 3 4 5 6; do
    [ "$(state)" = ACTIVE ] || return 0
    [ "$look" = 6 ] || sleep "${WAIT:-30}"
  done
  return 1
}

if [ -n "$dry" ]; then # every command once, in order
  ask
  install
  everywhere "$run"
  [ "${KEEP:-0}" = 1 ] || drop
  exit 0
fi

for _ in $(seq "${TRIES:-20}"); do
  acquire
  code=0
  { install && everywhere "$run"; } || code=$?
  if [ "$code" -ne 0 ]; then
    if [ "$code" -eq 2 ] || ! gone; then # 2 is a mistake in the input
      echo "tpu_pod: the run failed ($code); the slice is kept, delete it when you are done" >&2
      exit "$code"
    fi
  # The report is written last. After SIGTERM the run ends with 0 and without it.
  elif tpu tpu-vm ssh "$NAME" --worker=0 --command="test -f \$HOME/$workdir/report.html"; then
    [ "${KEEP:-0}" = 1 ] || drop
    exit 0
  fi
  echo "tpu_pod: stopped before the end; going on" >&2
done
echo "tpu_pod: not finished after ${TRIES:-20} starts" >&2
exit 1
