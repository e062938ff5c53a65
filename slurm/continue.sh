# shellcheck shell=bash
# Requeue a job that was stopped, or print the command that continues it. train.sbatch sources this file at its end.
# TERM to the batch script comes from SLURM itself, which then decides about requeueing: a cancelled job stays cancelled.
# Otherwise a run that was warned, or that lost a node, is requeued. A run that failed by itself is not.
# shellcheck disable=SC2154
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}} # an array's number alone means all of its tasks
job=${job:-$SLURM_JOB_ID}
ask() { (trap '' TERM && exec scontrol "$@"); } # a requeue sends TERM to all of the job's processes, scontrol included
state() { ask --oneliner show job "$job" 2>/dev/null; }
requeued() { [[ "$1" =~ \ Restarts=([0-9]+) ]] && ((BASH_REMATCH[1] > ${SLURM_RESTART_COUNT:-0})); }

if [ -n "$why" ] && [ -z "$terminated" ] && ask requeue "$job"; then
    echo "$why: SLURM requeues job $job."
    return
fi
seen=$(state)
if requeued "$seen"; then
    echo "${why:-The job was told to end}: SLURM requeues job $job."
    return
fi
arguments=
[ $# = 0 ] || printf -v arguments ' %q' "$@"
printf -v place %q "$PWD"
printf -v file %q "${RANGER21_HOME:+$RANGER21_HOME/}slurm/train.sbatch"
[ -z "${RANGER21_HOME:-}" ] || printf -v place '%q && export RANGER21_HOME=%q PYTHON=%q' "$PWD" "$RANGER21_HOME" "$python"
again="--partition=$SLURM_JOB_PARTITION${SLURM_JOB_ACCOUNT:+ --account=$SLURM_JOB_ACCOUNT} $again"
continued="cd $place && sbatch $again $file$arguments"
[ -n "${SLURM_ARRAY_JOB_ID:-}" ] || continued=${RANGER21_AGAIN:-$continued} # submit.py's own command line
[ -n "$seen" ] && when="SLURM does not requeue the job. C" || when="Unless SLURM requeues the job, c"
echo "${why:-The job was told to end}. ${when}ontinue from the checkpoint with
  $continued"
