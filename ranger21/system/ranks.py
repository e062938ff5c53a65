"""This process's rank and the number of ranks, from the environment of torchrun or srun. Imports no torch."""

import os
import re
from pathlib import Path

from ranger21.system.errors import UserError

PATIENCE = 50  # seconds to wait for missing or silent ranks; RANGER21_PATIENCE overrides it
TORCHRUN = {"rank": "RANK", "size": "WORLD_SIZE", "local_rank": "LOCAL_RANK", "local_size": "LOCAL_WORLD_SIZE"}
SLURM = {"rank": "SLURM_PROCID", "size": "SLURM_STEP_NUM_TASKS", "local_rank": "SLURM_LOCALID"}
HOW = "unset it, or start the ranks with torchrun or srun"


def environment() -> dict[str, int] | None:
    """Return the ranks and sizes set by torchrun, or by srun with several tasks; None for a single process.

    Sets MASTER_ADDR and MASTER_PORT for srun's tasks if they are unset. Raises a UserError for variables that are not
    numbers, incomplete or contradictory; otherwise each process would train the whole run alone. Also raises one in an
    interactive shell of several tasks, where the other ranks would never start.
    """
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        place = {key: _number(name, 0) for key, name in TORCHRUN.items()}
        place["local_size"] = (
            place["local_size"] or place["local_rank"] + 1
        )  # may be unset if ranks are started by hand
        return _possible(place, TORCHRUN)
    slurm = _by_slurm()
    size = slurm["size"] if slurm else 1
    if "RANK" in env or _number("WORLD_SIZE", size) != size:
        there, lacking = ("RANK", "WORLD_SIZE") if "RANK" in env else ("WORLD_SIZE", "RANK")
        raise UserError(f"{there}={env[there]} without {lacking} does not say which rank this process is: {HOW}.")
    return slurm


def _by_slurm() -> dict[str, int] | None:
    env, size = os.environ, _number("SLURM_STEP_NUM_TASKS", 1)
    if size == 1:
        return None
    if "SLURM_PROCID" not in env:
        text = f"SLURM_STEP_NUM_TASKS={size} without SLURM_PROCID does not say which task this process is"
        raise UserError(f"{text}: {HOW}.")
    if _in_interactive_shell():
        raise UserError(
            f"This shell (srun --pty) is one of {size} tasks, and only this task would train: write srun --overlap "
            f"--ntasks={size} before the command, or open the shell with --ntasks=1."
        )
    # A different port for every job and step, below the ephemeral ports (from 32768).
    port = 10_000 + (_number("SLURM_JOB_ID", 0) * 16 + _number("SLURM_STEP_ID", 0) % 16) % 20_000
    env.setdefault("MASTER_PORT", str(port))
    place = {key: _number(name, 0) for key, name in SLURM.items()}
    name = "SLURM_STEP_TASKS_PER_NODE" if "SLURM_STEP_TASKS_PER_NODE" in env else "SLURM_TASKS_PER_NODE"
    place["local_size"] = tasks_of_node(env.get(name, "1"), _number("SLURM_NODEID", 0))
    nodes = env.get("SLURM_STEP_NODELIST", "localhost")
    env.setdefault("MASTER_ADDR", "127.0.0.1" if place["local_size"] == size else first_host(nodes))
    return _possible(place, SLURM | {"local_size": name})


def _in_interactive_shell() -> bool:
    """Return whether srun --pty started a shell, and this process is a command typed there, with its own group."""
    env = os.environ
    if "SLURM_PTY_PORT" not in env or not env.get("SLURM_TASK_PID", "").isdecimal():
        return False
    try:
        return os.getpgid(int(env["SLURM_TASK_PID"])) != os.getpgrp()
    except OSError:  # not a process of this machine or container
        return False


def _possible(place: dict[str, int], names: dict[str, str]) -> dict[str, int]:
    for rank, size in (("rank", "size"), ("local_rank", "local_size")):
        if place[rank] >= place[size]:
            told = f"{names[rank]}={place[rank]} is out of range for {names[size]}={os.environ.get(names[size], 1)}"
            raise UserError(f"{told}: ranks count from 0. Unset both, or start the ranks with torchrun or srun.")
    if place["size"] > 1:
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(name):
                raise UserError(
                    f"{name} is not set, but {place['size']} ranks need it to find each other: use torchrun or srun."
                )
        if not 0 < _number("MASTER_PORT", 0) < 65536:
            port = os.environ["MASTER_PORT"]
            raise UserError(f"MASTER_PORT={port} is not a valid port: choose one from 1024 to 65535.")
    return place


def tasks_left_alone() -> int:
    """Return how many tasks SLURM granted to this job if this process was not started by srun or torchrun; else 0."""
    env = os.environ
    started = "SLURM_STEP_NUM_TASKS" in env or "RANK" in env
    return 0 if started or not env.get("SLURM_NTASKS", "").isdecimal() else int(env["SLURM_NTASKS"])


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UserError(f"{name}={text} is not a number: {HOW}.")
    return int(text)


def tasks_of_node(counts: str, node: int) -> int:
    """Return how many tasks a node has in SLURM's list: in `4(x2),1` nodes 0 and 1 have 4 tasks, node 2 has 1.

    Raises a UserError for an invalid list.
    """
    tasks: list[int] = []
    for part in counts.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?", part)
        if not match:
            raise UserError(f"SLURM's list of tasks per node, {counts}, is invalid: {HOW}.")
        tasks += [int(match[1])] * min(int(match[2] or 1), 100_000)
    return tasks[min(node, len(tasks) - 1)]


def first_host(nodes: str) -> str:
    """Return the first name in a SLURM node list: node[07-09,12] -> node07."""
    match = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\])?([^,]*)", nodes)
    return "".join(part or "" for part in match.groups()) if match else nodes


def seconds_of_patience() -> int:
    """Return how long to wait for missing or silent ranks, in whole seconds, which srun's --wait takes.

    Raises a UserError unless RANGER21_PATIENCE is between 1 and 9,999,999.
    """
    text = os.environ.get("RANGER21_PATIENCE", str(PATIENCE))
    if not re.fullmatch(r"0*[1-9]\d{0,6}", text):
        raise UserError(f"RANGER21_PATIENCE={text} is invalid: it must be a whole number of seconds from 1 to 9999999.")
    return int(text)


def record_collectives(folder: Path) -> None:
    """Have NCCL's flight recorder write each rank's last 2,000 collectives to FOLDER/nccl-rank-N if one fails.

    Variables that the user has set, by torch's current names or by older ones, are kept.
    """
    wanted = {
        ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"): "2000",
        ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"): str(folder.absolute() / "nccl-rank-"),
        ("TORCH_NCCL_DUMP_ON_TIMEOUT",): "1",
    }
    for names, value in wanted.items():
        if not any(name in os.environ for name in names):
            os.environ[names[0]] = value
