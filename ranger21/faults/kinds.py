"""Base classes of the kinds of faults: where a fault is possible, how it is injected, mended and judged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranger21.faults.setups import Leg, Setup

if TYPE_CHECKING:
    from ranger21.faults.session import Session

Facts = dict[str, Any]
SAVE_EVERY = 5  # steps between two checkpoints of every run
MOMENT = 0.1  # seconds after a step's line within which a fault hits; the next step and a checkpoint may fall into it
TRACEBACK = "Traceback"


@dataclass(frozen=True)
class Fault:
    """A planned fault."""

    kind: str
    after: int  # number of steps of its session before it hits; 0: before or while the processes start
    where: float  # in [0, 1); determines the process, byte or moment


@dataclass
class SessionRecord:
    """The facts of one session, which `verdict` judges."""

    leg: str
    run: int
    session: int
    ranks: int
    newest: int  # step of the newest intact checkpoint at the start
    lost: int = 0  # steps lost by damage to checkpoints before the start
    resumed: int | None = None  # step from which the run says it resumed; None if it did not get that far
    reached: int = 0  # last step that was logged or saved (a stop during a validation saves first)
    saved: int = 0  # step of the newest intact checkpoint at the end, after mending
    finished: bool = False
    hung: bool = False
    ended_by_us: int = 0  # ranks that had to be killed because they did not end after another rank had
    left_behind: list[str] = field(default_factory=list)  # child processes that outlived the session
    leftovers: list[str] = field(default_factory=list)  # temporary files that a finished run left
    codes: list[int] = field(default_factory=list)  # exit codes of the processes
    faults: list[Facts] = field(default_factory=list)  # the faults that hit: kind, the step reached, and more
    told: list[str] = field(default_factory=list)  # expected messages, and TRACEBACK, found in the output
    error: str = ""  # the last line that begins with "error:"
    seconds: float = 0.0
    commit: str = ""
    start: str = ""  # how the command was started

    def facts(self) -> Facts:
        return asdict(self)


@dataclass
class Scene:
    """A run and its surroundings, as far as a fault can affect them.

    Attributes:
        directory: run directory.
        spare: folder in which faults keep files to restore.
        others: checkpoints of other runs.
        stage: folder of the run's staged pack.
        drawn: folder of the images that the run draws.
        temporary: folder for TMPDIR.
        ranks: number of ranks of the session.
        before: number of ranks of the previous session; None for the first.
        orders: faults that the processes of the next start inject into themselves, with the rank (see `inside`).
        env: environment variables of the next start.
    """

    directory: Path
    spare: Path
    others: tuple[Path, ...]
    stage: Path
    drawn: Path
    temporary: Path
    ranks: int
    before: int | None
    orders: list[Facts] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    def leftovers(self) -> list[str]:
        """Return temporary files that a finished run should have removed: those of saving, drawing and workers."""
        own = [path for pattern in ("*.tmp", "*.link", ".new-*") for path in self.directory.rglob(pattern)]
        halves = self.drawn.parent.glob(f".{self.drawn.name}-*")
        workers = [path for path in self.temporary.iterdir() if not path.name.startswith("wandb-")]  # files of wandb
        return sorted({path.name for path in (*own, *halves, *workers)})

    @property
    def last(self) -> Path:
        return self.directory / "checkpoints" / "last.pt"

    @property
    def previous(self) -> Path:
        return self.directory / "checkpoints" / "previous.pt"


class Kind:
    """Base class of all kinds of faults.

    Attributes:
        name: the name in the table.
        says: messages of which the output must contain one; empty if none is required.
        setups: names of the setups in which it is possible; empty if all.
        ranks: smallest number of ranks with which it is possible.
        often: how often it occurs in one round of all kinds of its group.
        ends: whether it may end a session.
        rank_changes: whether it is possible in a leg with a changing number of ranks.
        on_the_dead: whether it may hit after a process has ended.
    """

    name: str
    says: tuple[str, ...] = ()
    setups: tuple[str, ...] = ()
    ranks = 1
    often = 1
    ends = False
    rank_changes = False
    on_the_dead = False

    def impossible(self) -> str:
        """Return why this kind is impossible on this machine or for this user; empty if it is possible."""
        return ""

    def fits(self, leg: Leg, setup: Setup) -> bool:
        """Return whether this kind is possible in runs of a leg and setup."""
        if len(leg.ranks) > 1 and not self.rank_changes:
            return False
        return max(leg.ranks) >= self.ranks and (setup.name in self.setups or not (self.setups or setup.alone))

    def prepare(self, scene: Scene, where: float) -> Facts | None:
        """Prepare the fault before the processes start; return facts to record, or None if there is nothing to hit."""
        return {}

    def moment(self, session: Session, fault: Fault, start_up: float) -> None:
        """Wait for the moment of the fault."""
        if not fault.after:
            time.sleep(start_up * fault.where)
        elif session.wait_for_step(fault.after):
            time.sleep(MOMENT * (1e4 * fault.where % 1))

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        """Hit the living processes; return facts to record, or None if there is nothing to hit."""
        raise NotImplementedError

    def mend(self, scene: Scene) -> bool:
        """Repair the run as a user would after the processes have ended; return whether anything was repaired.

        Also called before a session, in case the campaign was killed.
        """
        return False

    def judge(self, fact: Facts, record: SessionRecord, later: Sequence[SessionRecord]) -> tuple[int, str]:
        """Return the number of steps repeated because of the fault, and what went wrong ("" if nothing did)."""
        raise NotImplementedError

    def said(self, record: SessionRecord, due: bool = True) -> str:
        """Return a description if a message was due and the output has none of the required ones; else ""."""
        if not due or not self.says or set(self.says) & set(record.told):
            return ""
        return f"no message with {' or '.join(map(repr, self.says))}"


class Between(Kind):
    """Fault between two starts of the command, after which the next start must resume the run."""

    group = "beside"  # a start has at most one fault of each group

    def judge(self, fact: Facts, record: SessionRecord, later: Sequence[SessionRecord]) -> tuple[int, str]:
        wrong = went_on([record, *later]) or self.said(record, record.resumed is not None and fact.get("found", True))
        return (record.lost if self.group == "checkpoint" else 0), wrong


class Refused(Kind):
    """Fault between two starts, after which every start must refuse to run until a user has mended it."""

    ends = True

    def judge(self, fact: Facts, record: SessionRecord, later: Sequence[SessionRecord]) -> tuple[int, str]:
        if record.hung or record.resumed is not None:
            return 0, "the run hung" if record.hung else f"was not refused: resumed from step {record.resumed}"
        if set(record.codes) != {1} or TRACEBACK in record.told:
            return 0, f"ended with {record.codes}" if set(record.codes) != {1} else "showed a traceback"
        lost = record.saved != record.newest
        return 0, self.said(record) or ("refused, but lost a checkpoint" if lost else "") or went_on(later)


class Within(Kind):
    """Fault while the command runs, after which the run must continue."""

    noticed = 6  # steps until a message is due: batches are prefetched, and files are checked when saving
    starting = False  # whether it hits only while the processes start

    def judge(self, fact: Facts, record: SessionRecord, later: Sequence[SessionRecord]) -> tuple[int, str]:
        step, ended = fact["step"], fact is record.faults[-1]
        if record.hung or (ended and any(record.codes) and not record.finished):
            return 0, "the run hung" if record.hung else f"the run ended with {record.codes}"
        at_once = not ended and record.faults[-1]["step"] == step  # the next fault ended it before another step
        if not record.finished and record.reached <= step and not at_once:
            return 0, "no step followed"
        return 0, self.said(record, record.reached > step + self.noticed)


class Ending(Kind):
    """Fault while the command runs that ends it.

    Attributes:
        code: exit code of every process; None: at least one process was ended by SIGKILL.
        starting: fraction of these faults that hit while the processes start, before the first step.
        most: largest number of steps that may be lost.
        quiet: whether no traceback may be shown.
        armed: whether the processes inject the fault into themselves, so that no second start may run beside them.
    """

    ends = True
    code: int | None = 1
    starting = 0.0
    most = SAVE_EVERY
    quiet = True
    armed = False

    def judge(self, fact: Facts, record: SessionRecord, later: Sequence[SessionRecord]) -> tuple[int, str]:
        repeated = 0 if record.finished else record.reached - record.saved
        wrong = self.said(record, fact.get("mended", False))  # a message must have told the user what to do
        return repeated, wrong or self._ended(record, repeated) or ("" if record.finished else went_on(later))

    def _ended(self, record: SessionRecord, repeated: int) -> str:
        """Describe what is wrong with the end of a session and its leftovers; "" if nothing is."""
        codes = set(record.codes)
        if record.hung or record.left_behind:
            return "the run hung" if record.hung else f"left behind: {', '.join(record.left_behind)}"
        if record.ended_by_us:
            return f"{record.ended_by_us} of {record.ranks} ranks did not end after another rank had ended"
        if record.finished or (record.resumed is None and any(codes)):
            return ""
        if -9 not in codes if self.code is None else codes != {self.code}:
            return f"ended with {record.codes}"
        if self.quiet and TRACEBACK in record.told:
            return "showed a traceback"
        if repeated > self.most:
            return f"{repeated} steps were lost" + ("" if self.most else f" after its last checkpoint, {record.saved}")
        return self.said(record)


def went_on(records: Sequence[SessionRecord]) -> str:
    """Describe what is wrong with the first of these sessions that resumed; "" if it resumed correctly."""
    for record in records:
        if record.resumed is not None:
            right = record.resumed == record.newest
            return "" if right else f"resumed from step {record.resumed}, not the newest intact one, {record.newest}"
        if record.finished:
            return ""
    return "no session resumed"
