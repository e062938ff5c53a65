"""Two ways to start train.py: as a command, or forked from a process that has done the imports."""

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
    """The part of subprocess.Popen's interface that both ways of starting provide."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self) -> None: ...


def as_command(arguments: list[str], env: dict[str, str], output: Path) -> Started:
    """Start `python train.py`, with faults installed if `env` has orders (see `inside`)."""
    obedient = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from ranger21.faults import inside; inside.train()"
    program = ["-c", obedient] if inside.ORDERS in env else [str(TRAIN)]
    with open(output, "a") as file:
        return subprocess.Popen(
            [sys.executable, *program, *arguments],
            env=os.environ | ONE_THREAD | env,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_the_parent,  # so that a killed campaign leaves no process behind
        )


def forked(arguments: list[str], env: dict[str, str], output: Path) -> Started:
    """Start train.py in a forked process that has done the imports, which saves seconds."""
    os.environ.update(ONE_THREAD)  # before torch is imported there
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ranger21.run.preloaded"])
    process = context.Process(target=_train, args=(arguments, env, str(output)))
    process.start()
    return Forked(process)


class Forked:
    """A multiprocessing process with the interface of subprocess.Popen."""

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
    die_with_the_parent()  # the parent is the fork server, which ends with the campaign
    os.environ.update(env)
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.argv = [str(TRAIN), *arguments]
    inside.train()
