"""Faults of processes: signals to ranks, workers and W&B's process."""

from __future__ import annotations

import signal
import time

from ranger21.faults.kinds import Ending, Facts, Scene, Within
from ranger21.faults.processes import children, one_of, send
from ranger21.faults.session import Session
from ranger21.faults.setups import LOADERS, OFFLINE, ONLINE

WHILE_STARTING = 0.15  # fraction of the signals that come before the first step
PATIENCE = 10  # RANGER21_PATIENCE in seconds, for faults that stop a rank


class Killed(Ending):
    """All ranks killed, as when a node fails."""

    name, code, starting, often, rank_changes = "SIGKILL", None, WHILE_STARTING, 2, True

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        return {} if send(signal.SIGKILL, *session.alive()) else None


class Stopping(Ending):
    """A signal that asks the run to save and stop, sent to one rank or to all, as by a scheduler."""

    starting, most = WHILE_STARTING, 0

    def __init__(self, number: signal.Signals, code: int) -> None:
        self.number, self.name, self.code = number, number.name, code
        self.rank_changes = number == signal.SIGTERM

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        pids = session.alive()
        return {} if send(self.number, *([one_of(pids, 2 * where)] if where < 0.5 else pids)) else None


class RankKilled(Ending):
    """One rank killed."""

    name, code, ranks, often = "one rank killed", None, 2, 2

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        return {} if send(signal.SIGKILL, one_of(session.alive(), where)) else None


class RankStopped(Ending):
    """One rank stopped for longer than the others wait, and continued after they have ended."""

    name, ranks, code = "one rank stopped (SIGSTOP) for longer than the patience", 2, 1
    says = ("has been silent",)

    def prepare(self, scene: Scene, where: float) -> Facts:
        scene.env["RANGER21_PATIENCE"] = str(PATIENCE)
        return {}

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        victim = one_of(session.alive(), where)
        if not send(signal.SIGSTOP, victim):
            return None
        deadline = time.monotonic() + 5 * PATIENCE
        while len(session.alive()) == len(session.processes) and time.monotonic() < deadline:
            time.sleep(0.05)
        send(signal.SIGCONT, victim)
        return {}


class Suspended(Within):
    """All ranks stopped and continued, as when a scheduler suspends a job; no rank may count as lost."""

    name = "all processes stopped (SIGSTOP), then continued"

    def prepare(self, scene: Scene, where: float) -> Facts:
        scene.env["RANGER21_PATIENCE"] = str(PATIENCE)
        return {}

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        pids = session.alive()
        if not send(signal.SIGSTOP, *pids):
            return None
        time.sleep(PATIENCE + 1 if len(pids) > 1 and where < 0.2 else 0.5)
        send(signal.SIGCONT, *pids)
        return {}


class ChildKilled(Within):
    """A child process of a rank killed: a worker, or W&B's process."""

    often = 3

    def __init__(self, name: str, setup: str, says: str, noticed: int, wandb: bool) -> None:
        self.name, self.setups, self.says, self.noticed, self.wandb = name, (setup,), (says,), noticed, wandb

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        own = [
            pid
            for rank in session.alive()
            for pid, name in children(rank).items()
            if name.startswith("wandb") == self.wandb
        ]
        return {} if own and send(signal.SIGKILL, one_of(sorted(own), where)) else None


OFF = "W&B is switched off"
# A killed validation worker is noticed only at the next validation.
KINDS = (
    Killed(), Stopping(signal.SIGTERM, 143), Stopping(signal.SIGUSR1, 143), Stopping(signal.SIGHUP, 129),
    RankKilled(), RankStopped(), Suspended(),
    ChildKilled("loader process killed", LOADERS.name, "are restarted", Within.noticed + 10, wandb=False),
    ChildKilled("wandb process killed, offline", OFFLINE.name, OFF, Within.noticed, wandb=True),
    ChildKilled("wandb process killed, online", ONLINE.name, OFF, Within.noticed, wandb=True),
)  # fmt: skip
