# shellcheck shell=bash
# What sbatch and the jobs need to know of a site. Copy it, fill it in, and before sbatch:  source slurm/sites/MY_SITE.sh
# Sourced twice: by you, for sbatch, which reads the SBATCH_* variables (they win over #SBATCH lines, and options on the
# command line win over them); and by the job, for the modules.
RANGER21_SITE=$(realpath "${BASH_SOURCE[0]}")
export RANGER21_SITE
# export SBATCH_ACCOUNT=my_account SBATCH_PARTITION=gpu SBATCH_CONSTRAINT=a100 SBATCH_QOS=normal SBATCH_TIMELIMIT=20:00:00
# export PYTHON=/path/to/env/bin/python    # where it is not .venv/bin/python

if [ -n "${SLURM_JOB_ID:-}" ]; then # in a job
    : # module load python/3.11 cuda/12.4
    # export WANDB_MODE=offline NCCL_SOCKET_IFNAME=ib0
fi
