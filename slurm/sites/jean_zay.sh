# shellcheck shell=bash
# Jean Zay (IDRIS), written from its public documentation; not tried there. Your login shell sets IDRPROJ.
# source slurm/sites/jean_zay.sh && sbatch --gpus-per-node=4 slurm/train.sbatch model=nf_resnet50
RANGER21_SITE=$(realpath "${BASH_SOURCE[0]}")
export RANGER21_SITE
export SBATCH_ACCOUNT="${IDRPROJ:-project}@${RANGER21_GPU:-v100}" # v100, a100 or h100; each has its own hours
case "${RANGER21_GPU:-v100}" in
    v100) export SBATCH_CONSTRAINT=v100-32g ;;
    *) export SBATCH_CONSTRAINT="$RANGER21_GPU" ;;
esac
export SBATCH_QOS=qos_gpu-t3 SBATCH_TIMELIMIT=20:00:00 SBATCH_HINT=nomultithread

if [ -n "${SLURM_JOB_ID:-}" ]; then # in a job
    module purge
    if [ "${RANGER21_GPU:-v100}" != v100 ]; then module load "arch/$RANGER21_GPU"; fi
    module load pytorch-gpu/py3/2.6.0
    export PYTHON="${PYTHON:-python}" WANDB_MODE=offline # compute nodes have no internet
fi
