# shellcheck shell=bash
# Settings of a site for sbatch and the jobs. Copy this file, fill it in, and before sbatch run
#   source slurm/sites/MY_SITE.sh
# The file is sourced twice: by you, so that sbatch reads the SBATCH_* variables (they take precedence over #SBATCH
# lines, and options on the command line over both), and by the job, to load modules.
RANGER21_SITE=$(realpath "${BASH_SOURCE[0]}")
export RANGER21_SITE
# export SBATCH_ACCOUNT=my_account SBATCH_PARTITION=gpu SBATCH_CONSTRAINT=a100 SBATCH_QOS=normal SBATCH_TIMELIMIT=20:00:00
# export SBATCH_GPUS_PER_NODE=4 SBATCH_CPUS_PER_GPU=8 SBATCH_MEM_PER_GPU=60G    # memory, GPUs and CPUs of a job
# export PYTHON=/path/to/env/bin/python    # if it is not .venv/bin/python

if [ -n "${SLURM_JOB_ID:-}" ]; then # in a job
    : # module load python/3.11 cuda/12.4
    # export WANDB_MODE=offline NCCL_SOCKET_IFNAME=ib0
fi
