"""One start of the command, and the faults that hit it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ranger21.faults import harm, plan
from ranger21.faults.plan import Fault
from ranger21.faults.start import as_command, forked
from ranger21.records import last_values

PATIENCE = 240.0  # seconds without a step, after which a process is called hung
GRACE = 60.0  # seconds that ranks are given when another has gone; then they are ended, as torchrun and srun do
POLL = 0.005
MOMENT = 0.1  # seconds after a step's line, in which the next step, its line and a checkpoint may come


@dataclass
class Record:
    """What happened in a session: facts alone, judged elsewhere."""

    leg: str
    run: int
    session: int
    ranks: int
    newest: int  # the step of the newest whole checkpoint, as the process found it
    lost: int = 0  # steps by damage to the checkpoints before it
    resumed: int | None = None  # the step it says it went on from; None: it did not come so far
    reached: int = 0  # the last step that it logged or saved (a stop in a validation saves first)
    saved: int = 0  # the step of the newest whole checkpoint, as it left it
    finished: bool = False
    hung: bool = False
    ended_by_us: int = 0  # ranks that did not end by themselves when another had gone
    left_behind: list[str] = field(default_factory=list)  # child processes that outlived it
    codes: list[int] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)  # that hit: kind, and the step then reached
    told: list[str] = field(default_factory=list)  # what of SENTENCES, and TRACEBACK, its output has
    seconds: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


SENTENCES = {
    plan.DISK_FULL: "could not be written", plan.CUT: "is damaged", plan.FLIPPED: "is damaged",
    plan.WANDB_KILLED: "W&B is switched off", plan.WORKER_KILLED: "started anew",
}  # fmt: skip
TRACEBACK = "Traceback"


class Session:
    """The command with `ranks` processes, each as torchrun would start it, in the run directory `directory`."""

    def __init__(self, directory: Path, overrides: list[str], ranks: int, output: Path, fork: bool = False) -> None:
        self.directory, self.output = directory, output
        self.metrics, self.manifest = directory / "metrics.jsonl", directory / "manifest.json"
        self.log = directory / "log.txt"
        self._before, self._logged = len(self._sessions()), len(self._log())
        self._looked, self._step, self._under_way = (0, 0), 0, False
        self._family = dict[int, str]()  # its child processes, as they were before it was hit
        self._begun = time.monotonic()
        self.start_up: float | None = None  # seconds until its first line
        output.parent.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)
        arguments, start = [*overrides, f"run_dir={directory}"], forked if fork else as_command
        self.processes = [start(arguments, env, output) for env in environments(ranks)]

    def _log(self) -> str:
        """What the run has logged; a full disk may have cut a letter in its middle."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _sessions(self) -> list[dict[str, Any]]:
        return json.loads(self.manifest.read_text())["sessions"] if self.manifest.exists() else []

    @property
    def resumed(self) -> int | None:
        """The step this process says it went on from, once it has said so."""
        sessions = self._sessions()
        return sessions[-1]["resumed_from_step"] if len(sessions) > self._before else None

    def under_way(self) -> bool:
        """Whether what metrics.jsonl has is this process's: it cuts it back when it has written its manifest."""
        if not self._under_way and self.resumed is not None and self.metrics.exists():
            self._under_way = self.metrics.stat().st_mtime_ns > self.manifest.stat().st_mtime_ns
        return self._under_way

    def reached(self) -> int:
        """The last step that is logged."""
        stat = self.metrics.stat()
        if self._looked != (stat.st_mtime_ns, stat.st_size):
            self._looked = stat.st_mtime_ns, stat.st_size
            self._step = int(last_values(self.metrics).get("step", 0))
        return self._step

    def wait_for_step(self, after: int) -> bool:
        """True when so many steps of this session are done; False if it has ended or hangs."""
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

    def hit(self, fault: Fault, start_up: float) -> dict[str, Any] | None:
        """Waits for the fault's moment and lets it hit; None if there was nothing to be hit any more."""
        if not fault.after:
            time.sleep(start_up * fault.where)
        elif self.wait_for_step(fault.after):
            time.sleep(MOMENT * (1e4 * fault.where % 1))
        step = self.reached() if self.under_way() else (self.resumed or 0)
        self._family = {pid: name for process in self.processes for pid, name in harm.children(process.pid).items()}
        alive = [process.pid for process in self.processes if process.poll() is None]
        if len(alive) < len(self.processes) or not harm.hit(fault.kind, alive, fault.where, self.directory):
            return None
        return {"kind": fault.kind, "step": step}

    def end(self, record: Record) -> None:
        """Waits for the processes' end, and notes it all."""
        record.hung = not self._ended(record)
        record.codes = [process.wait() for process in self.processes]
        record.left_behind = left_behind(self._family)
        record.resumed, record.finished = self.resumed, (self.directory / "result.json").exists()
        record.saved = harm.saved_step(self.directory)
        record.reached = max(record.saved, self.reached() if self.under_way() else 0)
        output = self.output.read_text(errors="replace") + self._log()[self._logged :]
        record.told = [words for words in sorted({*SENTENCES.values(), TRACEBACK}) if words in output]
        record.seconds = round(time.monotonic() - self._begun, 2)

    def _ended(self, record: Record) -> bool:
        """Whether all ended by themselves, or could when the first of them had failed."""
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
    """The variables of each rank, as torchrun sets them."""
    few = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    if ranks == 1:
        return [few]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        few |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    few |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return [few | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def left_behind(family: dict[int, str], patience: float = 20.0) -> list[str]:
    """The names of the processes that still live after a while; they are ended now."""
    deadline = time.monotonic() + patience
    while (alive := {pid: name for pid, name in family.items() if harm.lives(pid, name)}) and (
        time.monotonic() < deadline
    ):
        time.sleep(10 * POLL)
    for pid in alive:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return sorted(alive.values())
