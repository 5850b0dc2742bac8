#!/usr/bin/env bash
#SBATCH --job-name=jaxsafety
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=runs/slurm-%j.log
# One run on GPUs under Slurm, one task per GPU; two minutes before the time is over it saves and is
# queued again. Submit it in the repository, with a workdir that all nodes see:
#
#   mkdir -p runs && sbatch --nodes=2 --ntasks-per-node=8 launch/gpu_slurm.sh \
#     --config=configs/safesteer/llama3_8b.py --config.model.path=DIR --workdir=runs/ours
set -euo pipefail

workdir=""
for word in "$@"; do
  case "$word" in --workdir=*) workdir=${word#--workdir=} ;; esac
done
[ -n "$workdir" ] || { echo "gpu_slurm: needs --workdir=DIR, seen by all nodes" >&2; exit 2; }
[ -f pyproject.toml ] || { echo "gpu_slurm: submit it in the repository" >&2; exit 2; }
# shellcheck source=launch/venv.sh
. launch/venv.sh
make_venv cuda

together=()
[ "${SLURM_NTASKS:-1}" -le 1 ] || together=(--distributed)
code=0
# Every task sees all GPUs of its node and JAX takes the one of its local rank.
srun --gpu-bind=none --kill-on-bad-exit=1 .venv/bin/python -m jaxsafety run "$@" "${together[@]}" || code=$?
# The report is written last. After SIGTERM the run ends with 0 and without it.
if [ "$code" -eq 0 ] && [ ! -f "$workdir/report.html" ]; then
  echo "gpu_slurm: saved before the end; queued again" >&2
  exec scontrol requeue "${SLURM_JOB_ID:?}"
fi
exit "$code"
