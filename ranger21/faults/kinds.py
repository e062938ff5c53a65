"""What a kind of fault is: on which runs it is possible, how it is done, what a user does then, how it is judged."""

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
MOMENT = 0.1  # seconds after a step's line, in which the next step, its line and a checkpoint may come
TRACEBACK = "Traceback"


@dataclass(frozen=True)
class Fault:
    kind: str
    after: int  # steps of its session; 0: before the processes begin, or while they start
    where: float  # in [0, 1): which process, which byte, which moment


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
    saved: int = 0  # the step of the newest whole checkpoint, as it left it and as a user has mended it
    finished: bool = False
    hung: bool = False
    ended_by_us: int = 0  # ranks that did not end by themselves when another had gone
    left_behind: list[str] = field(default_factory=list)  # child processes that outlived it
    leftovers: list[str] = field(default_factory=list)  # files that a finished run has no use for
    codes: list[int] = field(default_factory=list)
    faults: list[Facts] = field(default_factory=list)  # that hit: kind, the step then reached, and more
    told: list[str] = field(default_factory=list)  # what of the kinds' sentences, and TRACEBACK, its output has
    error: str = ""  # the last sentence that begins with "error:"
    seconds: float = 0.0
    commit: str = ""
    start: str = ""  # how the command was started

    def facts(self) -> Facts:
        return asdict(self)


@dataclass
class Scene:
    """A run, and what a fault may reach of it.

    Attributes:
        directory: the run's.
        spare: a folder for what a fault puts aside.
        others: checkpoints of other runs.
        stage, drawn, temporary: the folders of the run's staged pack, of its drawn images, and for TMPDIR.
        ranks, before: how many the session has, and the one before it (None: there was none).
        orders: what the processes of the next start do to themselves, by rank (see `inside`).
        env: variables of the next start.
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
        """What a run that has finished should have swept: of kills, full disks, first drawings and loader processes."""
        own = [path for pattern in ("*.tmp", "*.link", ".new-*") for path in self.directory.rglob(pattern)]
        halves = self.drawn.parent.glob(f".{self.drawn.name}-*")
        loaders = [
            path for path in self.temporary.iterdir() if not path.name.startswith("wandb-")
        ]  # which is W&B's own
        return sorted({path.name for path in (*own, *halves, *loaders)})

    @property
    def last(self) -> Path:
        return self.directory / "checkpoints" / "last.pt"

    @property
    def previous(self) -> Path:
        return self.directory / "checkpoints" / "previous.pt"


class Kind:
    """One kind of fault.

    Attributes:
        name: as the table has it.
        says: of these words the output must have one; empty: nothing has to be said.
        setups: the names of the setups with what is hit; empty: all.
        ranks: the fewest with which it is possible.
        often: how many times it comes in a turn of all kinds of its group.
        ends: whether a session may end by it.
        rank_changes: whether it is possible where the number of ranks changes.
        on_the_dead: whether it may hit when a process has ended already.
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
        """Why this machine or this user cannot do it; empty if it is possible."""
        return ""

    def fits(self, leg: Leg, setup: Setup) -> bool:
        """Whether there is on runs of this leg and setup what it hits."""
        if len(leg.ranks) > 1 and not self.rank_changes:
            return False
        return max(leg.ranks) >= self.ranks and (setup.name in self.setups or not (self.setups or setup.alone))

    def prepare(self, scene: Scene, where: float) -> Facts | None:
        """What is done before the processes begin; None: there was nothing to be hit."""
        return {}

    def moment(self, session: Session, fault: Fault, start_up: float) -> None:
        """Waits until the session is so far."""
        if not fault.after:
            time.sleep(start_up * fault.where)
        elif session.wait_for_step(fault.after):
            time.sleep(MOMENT * (1e4 * fault.where % 1))

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        """What is done to the processes, all of which live; None: there was nothing to be hit."""
        raise NotImplementedError

    def mend(self, scene: Scene) -> bool:
        """What a user does when the processes have ended: whether there was anything to do.

        It is done before a session, too, in case a campaign was killed.
        """
        return False

    def judge(self, fact: Facts, record: Record, later: Sequence[Record]) -> tuple[int, str]:
        """The steps that were made again because of it, and what was not as it should be."""
        raise NotImplementedError

    def said(self, record: Record, due: bool = True) -> str:
        """What is wrong if a session had its time and did not say what had happened."""
        if not due or not self.says or set(self.says) & set(record.told):
            return ""
        return f"was not told: nothing of {' or '.join(map(repr, self.says))}"


class Between(Kind):
    """Something between two starts of the command, after which the next start must go on."""

    group = "beside"  # of the kinds of a group one comes at most

    def judge(self, fact: Facts, record: Record, later: Sequence[Record]) -> tuple[int, str]:
        wrong = went_on([record, *later]) or self.said(record, record.resumed is not None and fact.get("found", True))
        return (record.lost if self.group == "checkpoint" else 0), wrong


class Refused(Kind):
    """Something between two starts, after which no start may do anything until a user has mended it."""

    ends = True

    def judge(self, fact: Facts, record: Record, later: Sequence[Record]) -> tuple[int, str]:
        if record.hung or record.resumed is not None:
            return 0, "the run hung" if record.hung else f"was not refused: it went on from step {record.resumed}"
        if set(record.codes) != {1} or TRACEBACK in record.told:
            return 0, f"ended with {record.codes}" if set(record.codes) != {1} else "showed a traceback"
        lost = record.saved != record.newest
        return 0, self.said(record) or ("lost what it refused" if lost else "") or went_on(later)


class Within(Kind):
    """Something while the command runs, after which it must go on."""

    noticed = 6  # steps after which it must have been told: batches are made ahead, files are looked at in saving
    starting = False  # whether it comes while the processes start, and at no other time

    def judge(self, fact: Facts, record: Record, later: Sequence[Record]) -> tuple[int, str]:
        step, ended = fact["step"], fact is record.faults[-1]
        if record.hung or (ended and any(record.codes) and not record.finished):
            return 0, "the run hung" if record.hung else f"the run ended with {record.codes}"
        at_once = not ended and record.faults[-1]["step"] == step  # what ended it came before a step could be made
        if not record.finished and record.reached <= step and not at_once:
            return 0, "no step was made afterwards"
        return 0, self.said(record, record.reached > step + self.noticed)


class Ending(Kind):
    """Something while the command runs that ends it.

    Attributes:
        code: of every process; None: of one at least it is that of SIGKILL.
        starting: of these faults so many come while the processes start, before the first step.
        most: steps that may be lost.
        quiet: no traceback may be shown.
        armed: the processes know when they start what they will do; no other start may do it, too.
    """

    ends = True
    code: int | None = 1
    starting = 0.0
    most = SAVE_EVERY
    quiet = True
    armed = False

    def judge(self, fact: Facts, record: Record, later: Sequence[Record]) -> tuple[int, str]:
        repeated = 0 if record.finished else record.reached - record.saved
        wrong = self.said(record, fact.get("mended", False))  # a user must have been told what to do
        return repeated, wrong or self._ended(record, repeated) or ("" if record.finished else went_on(later))

    def _ended(self, record: Record, repeated: int) -> str:
        """What is wrong with how a session ended and what it left behind."""
        codes = set(record.codes)
        if record.hung or record.left_behind:
            return "the run hung" if record.hung else f"left behind: {', '.join(record.left_behind)}"
        if record.ended_by_us:
            return f"{record.ended_by_us} of {record.ranks} ranks did not end when another had gone"
        if record.finished or (record.resumed is None and any(codes)):
            return ""
        if -9 not in codes if self.code is None else codes != {self.code}:
            return f"ended with {record.codes}"
        if self.quiet and TRACEBACK in record.told:
            return "showed a traceback"
        if repeated > self.most:
            return f"{repeated} steps were lost" + ("" if self.most else f" after its last checkpoint, {record.saved}")
        return self.said(record)


def went_on(records: Sequence[Record]) -> str:
    """What is wrong with how the first of these sessions that came so far went on."""
    for record in records:
        if record.resumed is not None:
            right = record.resumed == record.newest
            return (
                "" if right else f"went on from step {record.resumed}, not from the newest whole one, {record.newest}"
            )
        if record.finished:
            return ""
    return "no session went on"
