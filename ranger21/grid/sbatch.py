"""sbatch: where the batch files are, the options that a job needs by default, and how a SLURM command is called."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from ranger21.system.errors import UserError

TIMEOUT = 120  # seconds for a SLURM command
AGAIN = "run the same command again later, or on a login node"
MOST_CPUS = 8  # per GPU by default; a run uses at most this many workers for each
GPUS = re.compile(r"-G|--(gpus|gres(?!-flags)|tres-per)")
CPUS = re.compile(r"-c|--(cpus|mincpus|exclusive)")
NO_GPU = re.compile(r"-G=?0|--gpus[a-z-]*=0|--gres=none")
PARTITION = re.compile(r"(?:-p=?|--partition=)(.+)")
SILENT = re.compile(
    r"Unable to (contact|establish|process configuration)|timed out|Zero Bytes|connection", re.IGNORECASE
)
UNSURE = re.compile(r"timed out|Zero Bytes|reset", re.IGNORECASE)  # the request may have arrived
GPU_COUNT = re.compile(r"\bgpu(?::[^:,(]+)?:(\d+)")


class NoAnswer(UserError):
    """SLURM does not answer.

    Attributes:
        unsure: whether it may have done what was asked all the same.
    """

    def __init__(self, message: str, unsure: bool) -> None:
        super().__init__(message)
        self.unsure = unsure


def with_defaults(options: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the options of sbatch, after defaults for what they do not request: one GPU, and CPUs for each GPU.

    The CPUs for each GPU are eight, or fewer if a node of the partition has fewer.
    """
    words = joined(options)
    chosen = [
        *words,
        *(f"--{name[7:].lower().replace('_', '-')}={environ[name]}" for name in environ if name[:7] == "SBATCH_"),
    ]
    added = [] if any(map(GPUS.match, chosen)) else ["--gpus-per-node=1"]
    if not any(map(CPUS.match, chosen)) and not any(map(NO_GPU.fullmatch, chosen)):
        partition = next((match[1] for word in reversed(chosen) if (match := PARTITION.fullmatch(word))), None)
        if cpus := cpus_per_gpu(partition):
            added.append(f"--cpus-per-gpu={cpus}")
    return [*added, *options]


def requests_gpus(options: Sequence[str]) -> bool:
    """Return whether options say anything about GPUs, also that there shall be none."""
    return any(map(GPUS.match, joined(options)))


def joined(options: Sequence[str]) -> list[str]:
    """Return options with each value in the word of its option: `-p gpu` and `--partition gpu` are joined by `=`."""
    words: list[str] = []
    for word in options:
        if (
            words
            and not word.startswith("-")
            and "=" not in words[-1]
            and (words[-1][:2] == "--" or len(words[-1]) == 2)
        ):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def cpus_per_gpu(partition: str | None) -> int:
    """Return how many cores every node with GPUs has for each of them, at most MOST_CPUS; 0 if SLURM does not tell."""
    try:
        told = run_slurm(
            ["sinfo", "--noheader", "--Node", "--format=%c %Z %G", *([f"--partition={partition}"] if partition else [])]
        )
    except UserError:
        return 0
    found = []
    for line in told.splitlines():
        cpus, threads, gres = line.split(maxsplit=2)
        gpus = sum(map(int, GPU_COUNT.findall(gres)))
        if gpus and cpus.isdecimal() and threads.isdecimal():
            found.append(int(cpus) // int(threads) // gpus)
    return min(MOST_CPUS, max(1, min(found))) if found else 0


def run_slurm(command: Sequence[str], keep: Sequence[int] = (), env: Mapping[str, str] | None = None) -> str:
    """Return the output of a SLURM command.

    Raises a UserError with its error message if it fails, and a NoAnswer if SLURM does not answer.

    Args:
        command: the words of the command.
        keep: file descriptors that the command inherits.
        env: its environment; None: that of this process.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, pass_fds=keep, env=env)
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} was not found: run this on a login node, outside of any container.") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"{command[0]} timed out after {TIMEOUT} s: {AGAIN}.", unsure=True) from error
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        if SILENT.search(said):
            told = f"SLURM does not answer ({said.splitlines()[-1]}): {AGAIN}."
            raise NoAnswer(told, bool(UNSURE.search(said)))
        raise UserError(f"{shlex.join(command)} failed: {said}")
    return done.stdout.strip()
