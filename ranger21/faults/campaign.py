"""A campaign: runs that are hit by faults until they finish, one after the other, with its state on disk."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ranger21.data.sample import ensure_sample
from ranger21.faults import preparation, setups
from ranger21.faults.kinds import Between, Fault, Kind, Refused, Scene, SessionRecord
from ranger21.faults.listing import BY_NAME, KINDS, WORDS
from ranger21.faults.plan import plan
from ranger21.faults.session import Command, Session
from ranger21.faults.setups import Leg
from ranger21.faults.verdict import Judged, Likeness, compare, judge
from ranger21.faults.wandb_server import Server
from ranger21.faults.whole import saved_step
from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.system.terminal import duration

Say = Callable[[str], None]
UNDISTURBED, STRANGER = "undisturbed", "other"
MOST_SESSIONS = 60  # the most sessions of a run; a run that needs more will not finish


class Campaign:
    """A number of faults distributed over the legs, determined by a seed; sessions recorded in `work` are not repeated.

    Args:
        work: folder for the runs and the campaign's state.
        faults: number of faults.
        seed: determines which fault hits when.
        ranks: a key of `setups.CHOICES`.
        fork: whether to fork train.py from a process that has done the imports.
        commit: recorded with every session.
        say: prints a line.
    """

    def __init__(self, work: Path, faults: int, seed: int, ranks: str, fork: bool, commit: str, say: Say) -> None:
        if sys.platform != "linux":
            raise UserError("Fault injection needs Linux (/proc, prlimit): run this command there.")
        self.work, self.faults, self.seed, self.fork, self.say = work.resolve(), faults, seed, fork, say
        self.commit = commit
        self.legs = setups.CHOICES[ranks]
        self.shares = list(zip(self.legs, setups.shares(faults, self.legs), strict=True))
        self.skipped = {kind.name: reason for kind in KINDS if (reason := kind.impossible())}
        self._same_as_before({"seed": seed, "ranks": ranks, "skipped": sorted(self.skipped)})
        self.path = self.work / "sessions.jsonl"
        self.records = self._known()
        self.folders = preparation.Folders(self.work)
        self.env = dict[str, str]()
        self._begun, self._before, self._start_up = time.monotonic(), self.hits(), 1.0 if fork else 5.0

    def _same_as_before(self, options: dict[str, object]) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        path, content = self.work / "campaign.json", json.dumps(options)
        if not path.exists():
            write_atomically(path, content)
        elif (there := path.read_text(errors="backslashreplace")) != content:
            raise UserError(f"{self.work} has another campaign ({there.strip()}): choose another --work, or delete it.")

    def _known(self) -> list[SessionRecord]:
        """Read the recorded sessions, and cut off an incomplete line left by a killed campaign."""
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self.path, len(whole))
        try:
            return [SessionRecord(**json.loads(line)) for line in whole.splitlines()]
        except (ValueError, TypeError) as error:
            raise UserError(f"{self.path} is damaged ({error}): choose another --work, or delete it.") from error

    def of(self, leg: Leg, run: int | None = None) -> list[SessionRecord]:
        return [r for r in self.records if r.leg == leg.name and run in (None, r.run)]

    def hits(self, leg: Leg | None = None) -> int:
        return sum(len(record.faults) for record in (self.of(leg) if leg else self.records))

    def go(self) -> None:
        """Run the remaining sessions."""
        ensure_sample(self.folders.images, train_per_class=8, val_per_class=3)
        self.folders.make_pack()
        with Server() as server, tempfile.TemporaryDirectory(prefix="ranger21-") as temporary:
            self.env = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "WANDB_SILENT": "true"}
            self.temporary = Path(temporary)
            for leg, share in self.shares:
                self._undisturbed(leg)
                self._leg(leg, share)

    def _leg(self, leg: Leg, share: int) -> None:
        run = max((record.run for record in self.of(leg)), default=0)
        while True:
            records = self.of(leg, run)
            if records and (records[-1].finished or len(records) >= MOST_SESSIONS):
                if not records[-1].finished or self.hits(leg) >= share:
                    return
                run, records = run + 1, []
            self._session(leg, run, records, share - self.hits(leg))

    def folder(self, leg: Leg, run: int | str) -> Path:
        """Return the directory of a run: a numbered one, UNDISTURBED or STRANGER."""
        return self.work / "runs" / f"{self.legs.index(leg)}-{'-'.join(map(str, leg.ranks))}-ranks-{run}"

    def scene(self, leg: Leg, run: int | str, session: int = 0) -> Scene:
        """Return the surroundings of a run's session."""
        directory = self.folder(leg, run)
        spare, temporary = directory.with_name(f"{directory.name}.spare"), self.temporary / directory.name
        for folder in (spare, temporary):
            folder.mkdir(parents=True, exist_ok=True)
        others = tuple(self.folder(leg, name) / "checkpoints" / "last.pt" for name in (STRANGER, UNDISTURBED))
        ranks = leg.ranks[session % len(leg.ranks)]
        before = leg.ranks[(session - 1) % len(leg.ranks)] if session else None
        stage, drawn = (directory.with_name(f"{directory.name}.{what}") for what in ("stage", "drawn"))
        scene = Scene(directory, spare, others, stage, drawn, temporary, ranks, before)
        scene.env["TMPDIR"] = str(temporary)
        return scene

    def command(self, leg: Leg, run: int | str, scene: Scene, *more: str) -> Command:
        setup = leg.setup(run) if isinstance(run, int) else leg.undisturbed
        folders = {"images": self.folders.images, "pack": self.folders.pack}
        own = setup.of(stage=scene.stage, drawn=scene.drawn, **folders)
        return Command([*leg.overrides, f"trainer.steps={leg.steps}", *own, *more], self.env, self.fork)

    def _undisturbed(self, leg: Leg) -> None:
        """Train the undisturbed run for comparison, and a short run with another seed for its checkpoint."""
        for name, more in ((UNDISTURBED, ()), (STRANGER, ("seed=1", "trainer.steps=10"))):
            directory = self.folder(leg, name)
            if (directory / "result.json").exists():
                continue
            if directory.exists():
                shutil.rmtree(directory)  # incomplete, and resuming it would be a disturbance
            self.say(f"{leg.name}: the {name} run")
            scene, output = self.scene(leg, name), directory.with_suffix(".txt")
            session = Session(scene, self.command(leg, name, scene, *more), output)
            record = SessionRecord(leg.name, -1, 0, leg.ranks[0], newest=0)
            session.wait(record, WORDS)
            session.note(record)
            if not record.finished:
                raise UserError(f"The {name} run ended with exit codes {record.codes}: see its output in {output}.")

    def _session(self, leg: Leg, run: int, before: list[SessionRecord], most: int) -> None:
        """Start the command and inject at most `most` faults; start it twice if the fault must make it refuse."""
        number = len(before)
        scene = self.scene(leg, run, number)
        for kind in KINDS:
            kind.mend(scene)  # a killed campaign may have left a fault unmended
        newest = saved_step(scene.directory)
        record = SessionRecord(leg.name, run, number, scene.ranks, newest, commit=self.commit)
        record.start = "forked" if self.fork else "as a command"
        ready = list[tuple[Kind, Fault]]()
        for fault in plan(self.seed, leg, run, number)[: max(0, most)]:
            kind = BY_NAME[fault.kind]
            facts = kind.prepare(scene, fault.where)
            if facts is not None and isinstance(kind, Between | Refused):
                record.faults.append({"kind": kind.name, "step": newest} | facts)
            if facts is not None:
                ready.append((kind, fault))
        self._start(leg, run, scene, record, ready)
        with open(self.path, "a") as file:
            file.write(json.dumps(record.facts()) + "\n")
        self.records.append(record)
        self._tell(record)

    def _start(self, leg: Leg, run: int, scene: Scene, record: SessionRecord, ready: list[tuple[Kind, Fault]]) -> None:
        refused = any(isinstance(kind, Refused) for kind, _ in ready)
        if not refused:
            record.lost, record.newest = record.newest - saved_step(scene.directory), saved_step(scene.directory)
        command = self.command(leg, run, scene)
        for again in range(2 if refused else 1):
            output = scene.directory.with_name(f"{scene.directory.name}.{record.session}{'b' * again}.txt")
            session = Session(scene, command, output)
            for kind, fault in ready:
                if not isinstance(kind, Between | Refused) and (hit := session.hit(kind, fault, scene, self._start_up)):
                    record.faults.append(hit)
            session.wait(record, WORDS)
        mended = {
            kind.name for kind, _ in reversed(ready) if kind.mend(scene)
        }  # in reverse order, folders before the files in them
        record.faults = [fault | {"mended": True} if fault["kind"] in mended else fault for fault in record.faults]
        session.note(record)
        record.leftovers = scene.leftovers() if record.finished else []
        self._start_up = session.start_up or self._start_up

    def _tell(self, record: SessionRecord) -> None:
        done = self.hits() - self._before
        spent = time.monotonic() - self._begun
        to_do = sum(max(0, share - self.hits(leg)) for leg, share in self.shares)
        left = duration(spent / done * to_do) if done else "?"
        hits = ", ".join(f"{fault['kind']} at {fault['step']}" for fault in record.faults) or "undisturbed to its end"
        went_on = "did not begin" if record.resumed is None else f"steps {record.resumed} to {record.reached}"
        end = "finished" if record.finished else f"saved {record.saved}"
        so_far = f"[{self.hits()} of {self.faults} faults, left {left}]"
        self.say(f"{so_far} {record.leg}, run {record.run}: {went_on}, {end}; {hits}")

    def judged(self) -> list[Judged]:
        runs = {(leg, record.run) for leg in self.legs for record in self.of(leg)}
        return [fault for leg, run in sorted(runs, key=str) for fault in judge(leg, self.of(leg, run))]

    def likenesses(self) -> dict[tuple[str, int], Likeness]:
        """Compare every run with the undisturbed run now; return the results by leg and number."""
        return {
            (leg.name, run): compare(self.folder(leg, run), self.folder(leg, UNDISTURBED), leg.tolerance)
            for leg in self.legs
            for run in sorted({record.run for record in self.of(leg)})
        }
