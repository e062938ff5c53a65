# shellcheck shell=bash
# Perlmutter (NERSC), written from its public documentation; not tried there. A GPU node has 4 A100, 64 cores and 256 GB.
# export PROJECT=m1234 && source slurm/sites/perlmutter.sh
# sbatch --gpus-per-node=4 --cpus-per-gpu=32 slurm/train.sbatch model=nf_resnet50     # 32 CPUs are 16 cores
RANGER21_SITE=$(realpath "${BASH_SOURCE[0]}")
export RANGER21_SITE
export SBATCH_ACCOUNT="${PROJECT:-project}" SBATCH_CONSTRAINT=gpu
export SBATCH_QOS=regular SBATCH_TIMELIMIT=12:00:00 # without a QOS, a job runs in debug; qos=shared for 1 or 2 GPUs

if [ -n "${SLURM_JOB_ID:-}" ]; then # in a job
    module load pytorch
    export PYTHON="${PYTHON:-python}"
fi
