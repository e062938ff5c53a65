"""Faults of a start: failing reads, the clock, a second start, and kills at particular moments."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from ranger21.faults import whole
from ranger21.faults.kinds import TRACEBACK, Between, Ending, Facts, Fault, Kind, Scene, SessionRecord, Within, went_on
from ranger21.faults.processes import send
from ranger21.faults.session import Session
from ranger21.faults.setups import DRAWN, Leg, Setup

DAY = 86_400


class RanksChanged(Between):
    """A different number of ranks from the previous session's."""

    name, group, rank_changes = "number of ranks changed", "ranks", True

    def fits(self, leg: Leg, setup: Setup) -> bool:
        return len(leg.ranks) > 1

    def prepare(self, scene: Scene, where: float) -> Facts | None:
        changed = scene.before not in (None, scene.ranks) and whole.saved_step(scene.directory)
        return {} if changed else None


class CheckpointReadError(Between):
    """Reads of the newest checkpoint that fail with EIO; the start must resume, or report that it cannot read it."""

    name, group, often = "EIO from reads of a checkpoint", "checkpoint", 2
    ends = True
    says = ("cannot be read",)

    def prepare(self, scene: Scene, where: float) -> Facts | None:
        if whole.state(scene.last) is None:
            return None
        times = (1, 2, 3, 1_000_000)[int(4 * (100 * where % 1))]
        scene.orders.append({"rank": int(where * scene.ranks), "unreadable": str(scene.last), "times": times})
        return {"times": times}

    def judge(self, fact: Facts, record: SessionRecord, later: Sequence[SessionRecord]) -> tuple[int, str]:
        if record.resumed is not None:
            return 0, went_on([record])
        alone = fact is record.faults[-1] or not record.faults
        if alone and set(record.codes) != {1}:
            return 0, f"ended with {record.codes}"
        if record.saved < record.newest:
            return 0, "an unreadable checkpoint was abandoned"
        if TRACEBACK in record.told:
            return 0, "showed a traceback"
        return 0, (self.said(record) if alone else "") or went_on(later)


class ClockSetBack(Between):
    """Files of the run dated tomorrow, and a clock that jumps back by a day soon after the start."""

    name = "clock set back"

    def prepare(self, scene: Scene, where: float) -> Facts | None:
        tomorrow = time.time() + DAY
        for path in scene.directory.rglob("*"):
            # Session.under_way reads the modification time of metrics.jsonl.
            if path.name != "metrics.jsonl" and not path.is_symlink():
                os.utime(path, (tomorrow, tomorrow))
        scene.orders += [{"rank": rank, "clock": DAY, "after": 3 * where} for rank in range(scene.ranks)]
        return {}


class TwoStarts(Within):
    """The same command started twice at once: one must train, the other must be refused."""

    name, starting, noticed = "two starts at once", True, 0
    says = ("is being used by", "Another process has just started")

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        return session.twice(self.says)

    def judge(self, fact: Facts, record: SessionRecord, later: Sequence[SessionRecord]) -> tuple[int, str]:
        if set(fact["codes"]) != {1} or not fact["refused"]:
            return 0, f"the other start ended with {fact['codes']}" if fact["codes"] else "both starts trained"
        if TRACEBACK in record.told:
            return 0, "showed a traceback"
        return 0, went_on([record, *later])


class KilledBeforeBest(Ending):
    """The main rank killed when it is about to rename a file to best.pt, after saving last.pt."""

    name, code, often, on_the_dead = "killed between last.pt and best.pt", None, 2, True
    armed = True
    noticed = 12  # steps that include a validation, which may be the best so far

    def prepare(self, scene: Scene, where: float) -> Facts:
        scene.orders.append({"rank": 0, "die_before": "best.pt"})
        return {}

    def moment(self, session: Session, fault: Fault, start_up: float) -> None:
        session.wait_for_step(self.noticed)

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        time.sleep(0.2)  # a process that kills itself does not disappear at once
        if session.processes[0].poll() == -signal.SIGKILL:
            return {}
        return {"kind": "SIGKILL"} if send(signal.SIGKILL, *session.alive()) else None


class KilledWhileDrawing(Ending):
    """A run killed while it draws its images for the first time."""

    name, setups, code, often, starting = "killed while it draws the images", (DRAWN.name,), None, 3, 1.0

    def prepare(self, scene: Scene, where: float) -> Facts:
        shutil.rmtree(scene.drawn, ignore_errors=True)
        return {}

    def moment(self, session: Session, fault: Fault, start_up: float) -> None:
        deadline = time.monotonic() + 60
        while not self._halves(session.drawn) and session.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(fault.where)

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        half = self._halves(scene.drawn)
        return {} if half and send(signal.SIGKILL, *session.alive()) else None

    @staticmethod
    def _halves(drawn: Path) -> list[Path]:
        return [*drawn.parent.glob(f".{drawn.name}-*")]


KINDS: tuple[Kind, ...] = (
    CheckpointReadError(), ClockSetBack(), RanksChanged(), TwoStarts(), KilledBeforeBest(), KilledWhileDrawing(),
)  # fmt: skip
