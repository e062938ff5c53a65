"""A session: one start of the command and the faults that hit it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.faults import inside, processes
from ranger21.faults.kinds import Facts, Fault, Kind, Scene, SessionRecord
from ranger21.faults.start import Started, as_command, forked
from ranger21.faults.whole import saved_step
from ranger21.records.directory import last_values

PATIENCE = 240.0  # seconds without a step after which a session counts as hung
GRACE = 60.0  # seconds for ranks to end after another has ended; then they are killed, as torchrun and srun do
POLL = 0.005


@dataclass(frozen=True)
class Command:
    """The command to start, without its run directory: overrides, environment, and whether to fork it."""

    overrides: list[str]
    env: Mapping[str, str]
    fork: bool


class Session:
    """The running command, with one process for each rank of the scene, started as by torchrun."""

    def __init__(self, scene: Scene, command: Command, output: Path) -> None:
        self.directory, self.drawn, self.output = scene.directory, scene.drawn, output
        self.metrics, self.manifest = self.directory / "metrics.jsonl", self.directory / "manifest.json"
        self.log = self.directory / "log.txt"
        self._before, self._logged = len(self._sessions()), len(self._log())
        self._looked, self._step, self._under_way = (0, 0), 0, False
        self._family = dict[int, str]()  # child processes before the faults hit
        self._begun = time.monotonic()
        self.start_up: float | None = None  # seconds until the first line of metrics
        self._command, self._variables = command, dict(command.env) | scene.env
        self._ranks, self._orders = scene.ranks, list(scene.orders)
        self.processes = self._start(output)

    def _start(self, output: Path) -> list[Started]:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)
        start = forked if self._command.fork else as_command
        arguments = [*self._command.overrides, f"run_dir={self.directory}"]
        all_env = [self._variables | env for env in environments(self._ranks)]
        for rank, env in enumerate(all_env):
            if own := [order for order in self._orders if order["rank"] == rank]:
                env[inside.ORDERS] = json.dumps(own)
        return [start(arguments, env, output) for env in all_env]

    def twice(self, words: Iterable[str]) -> Facts:
        """Start the command a second time and wait until one of the two ends; continue with the other.

        Returns the exit codes of the one that ended (empty if both continued), and whether its output has one of the
        words.
        """
        others, output = self._start(new := self.output.with_suffix(".twice.txt")), self.output
        groups = [(self.processes, output), (others, new)]
        deadline, gone = time.monotonic() + GRACE, -1
        while gone < 0 and time.monotonic() < deadline:
            time.sleep(10 * POLL)
            gone = next((i for i, (group, _) in enumerate(groups) if all(p.poll() is not None for p in group)), -1)
        if gone < 0:
            for process in others:
                process.kill()
            return {"codes": [], "refused": False}
        self.processes, self.output = groups[1 - gone]
        ended, text = groups[gone][0], groups[gone][1].read_text(errors="replace")
        return {"codes": [process.wait() for process in ended], "refused": any(word in text for word in words)}

    def alive(self) -> list[int]:
        """Return the ids of the ranks' processes that have not ended."""
        return [process.pid for process in self.processes if process.poll() is None]

    def _log(self) -> str:
        """Return the text of log.txt, in which a full disk may have cut a character."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _sessions(self) -> list[dict[str, Any]]:
        return json.loads(self.manifest.read_text())["sessions"] if self.manifest.exists() else []

    @property
    def resumed(self) -> int | None:
        """The step from which this session resumed, once its manifest says so."""
        sessions = self._sessions()
        return sessions[-1]["resumed_from_step"] if len(sessions) > self._before else None

    def under_way(self) -> bool:
        """Return whether metrics.jsonl has been truncated by this session, which it does after writing the manifest."""
        if not self._under_way and self.resumed is not None and self.metrics.exists():
            self._under_way = self.metrics.stat().st_mtime_ns > self.manifest.stat().st_mtime_ns
        return self._under_way

    def reached(self) -> int:
        """Return the last step that was logged, or the last one known if a fault has removed the file."""
        if not self.metrics.exists():
            return self._step
        stat = self.metrics.stat()
        if self._looked != (stat.st_mtime_ns, stat.st_size):
            self._looked = stat.st_mtime_ns, stat.st_size
            self._step = int(last_values(self.metrics).get("step", 0))
        return self._step

    def wait_for_step(self, after: int) -> bool:
        """Wait until this session has done a number of steps; return False if it ends or hangs before."""
        deadline, seen, under_way = time.monotonic() + PATIENCE, -1, False
        while all(process.poll() is None for process in self.processes):
            if not under_way and self.under_way():
                under_way, self.start_up = True, time.monotonic() - self._begun
            step = self.reached() if under_way else -1
            if under_way and step - (self.resumed or 0) >= after:
                return True
            if step != seen:
                deadline, seen = time.monotonic() + PATIENCE, step
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL if under_way else 10 * POLL)
        return False

    def hit(self, kind: Kind, fault: Fault, scene: Scene, start_up: float) -> Facts | None:
        """Wait for the fault's moment and inject it; return facts to record, or None if there was nothing to hit."""
        kind.moment(self, fault, start_up)
        step = self.reached() if self.under_way() else (self.resumed or 0)
        self._family |= {
            pid: name for process in self.processes for pid, name in processes.children(process.pid).items()
        }
        if not kind.on_the_dead and len(self.alive()) < len(self.processes):
            return None
        facts = kind.hit(scene, self, fault.where)
        return None if facts is None else {"kind": fault.kind, "step": step} | facts

    def wait(self, record: SessionRecord, words: Iterable[str]) -> None:
        """Wait for the processes to end; record their exit codes and messages."""
        again = bool(record.codes)
        record.hung = not self._ended(record) or record.hung
        record.codes += [process.wait() for process in self.processes]
        record.left_behind += left_behind(self._family)
        output = self.output.read_text(errors="replace") + self._log()[self._logged :]
        record.told = [word for word in words if word in output and (word in record.told or not again)]
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        record.error = errors[-1] if errors else ""

    def note(self, record: SessionRecord) -> None:
        """Record the state of the run after mending."""
        record.resumed, record.finished = self.resumed, (self.directory / "result.json").exists()
        record.saved = saved_step(self.directory)
        record.reached = max(record.saved, self.reached() if self.under_way() else 0)
        record.seconds = round(record.seconds + time.monotonic() - self._begun, 2)

    def _ended(self, record: SessionRecord) -> bool:
        """Wait for all processes to end, kill those that do not; return False if the session hung."""
        deadline, size, failed = time.monotonic() + PATIENCE, -1, False
        while alive := [process for process in self.processes if process.poll() is None]:
            now = self.metrics.stat().st_size if self.metrics.exists() else -1
            if not failed and any(process.poll() for process in self.processes):
                failed, deadline = True, time.monotonic() + GRACE
            elif now != size and not failed:
                deadline, size = time.monotonic() + PATIENCE, now
            if time.monotonic() > deadline:
                for process in alive:
                    process.kill()
                record.ended_by_us = len(alive)
                return failed
            time.sleep(10 * POLL)
        return True


def environments(ranks: int) -> list[dict[str, str]]:
    """Return the environment variables of each rank, as set by torchrun."""
    if ranks == 1:
        return [{}]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        few = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    few |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return [few | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def left_behind(family: dict[int, str], patience: float = 20.0) -> list[str]:
    """Kill the processes that are still alive after `patience` seconds; return their names."""
    deadline = time.monotonic() + patience
    while (alive := {pid: name for pid, name in family.items() if processes.lives(pid, name)}) and (
        time.monotonic() < deadline
    ):
        time.sleep(10 * POLL)
    for pid in alive:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return sorted(alive.values())
