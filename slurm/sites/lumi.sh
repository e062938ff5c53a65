# shellcheck shell=bash
# LUMI-G (CSC), written from its public documentation; not tried there. A node has 8 GPUs (the dies of 4 MI250X), 56 cores
# that jobs can use (7 for each GPU) and 512 GB. torch's ROCm build names the GPUs cuda.
# export PROJECT=project_465000000 && source slurm/sites/lumi.sh
# sbatch --gpus-per-node=8 --cpus-per-gpu=7 slurm/train.sbatch model=nf_resnet50
RANGER21_SITE=$(realpath "${BASH_SOURCE[0]}")
export RANGER21_SITE
export SBATCH_ACCOUNT="${PROJECT:-project}"
export SBATCH_PARTITION=standard-g SBATCH_TIMELIMIT=1-00:00:00 # whole nodes; small-g for fewer than 8 GPUs

if [ -n "${SLURM_JOB_ID:-}" ]; then # in a job
    module use /appl/local/csc/modulefiles # the PyTorch of CSC, which runs in a container
    module load pytorch
    export PYTHON="${PYTHON:-python3}" NCCL_SOCKET_IFNAME=hsn
fi
