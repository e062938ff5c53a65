"""Two ways to start train.py: as a command, or forked from a process that has done the imports already."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from ranger21.faults import inside
from ranger21.records.code import PROJECT
from ranger21.system.processes import die_with_the_parent
from ranger21.system.project import TRAIN

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # several processes share the machine


class Started(Protocol):
    """What subprocess.Popen has of a process."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self) -> None: ...


def as_command(arguments: list[str], env: dict[str, str], output: Path) -> Started:
    """`python train.py`; with orders, the same in a process that obeys them."""
    obedient = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from ranger21.faults import inside; inside.train()"
    program = ["-c", obedient] if inside.ORDERS in env else [str(TRAIN)]
    with open(output, "a") as file:
        return subprocess.Popen(
            [sys.executable, *program, *arguments],
            env=os.environ | ONE_THREAD | env,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_the_parent,  # a campaign that is killed leaves nothing running
        )


def forked(arguments: list[str], env: dict[str, str], output: Path) -> Started:
    """The same without the seconds that the imports take: train.py runs as the main program all the same."""
    os.environ.update(ONE_THREAD)  # before torch is imported there
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ranger21.run.experiment"])
    process = context.Process(target=_train, args=(arguments, env, str(output)))
    process.start()
    return Forked(process)


class Forked:
    """A process of multiprocessing's, spoken to as to one of subprocess's."""

    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid: int = process.pid
        self.kill = process.kill

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        return code


def _train(arguments: list[str], env: dict[str, str], output: str) -> None:
    die_with_the_parent()  # the fork server, which goes with the campaign
    os.environ.update(env)
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.argv = [str(TRAIN), *arguments]
    inside.train()
