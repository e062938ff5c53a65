"""A campaign: runs that are hit by faults until they are finished, one after the other. Its state is on the disk."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ranger21.data.sample import ensure_sample
from ranger21.errors import UserError
from ranger21.faults import harm, plan
from ranger21.faults.plan import Leg
from ranger21.faults.session import Record, Session
from ranger21.faults.verdict import Judged, Likeness, compare, judge
from ranger21.files import write_atomically
from ranger21.tracking.console import duration

Say = Callable[[str], None]
MOST_SESSIONS = 40  # of a run; one that needs more is not going to finish


class Campaign:
    """`faults` faults over the legs, each a pure function of `seed`; what has been done in `work` is not done again."""

    def __init__(self, work: Path, faults: int, seed: int, ranks: str, fork: bool, say: Say) -> None:
        if sys.platform != "linux":
            raise UserError("Faults are injected with what Linux has (/proc, prlimit): run this there.")
        self.work, self.faults, self.seed, self.fork, self.say = work.resolve(), faults, seed, fork, say
        self.legs = plan.CHOICES[ranks]
        self.shares = list(zip(self.legs, plan.shares(faults, self.legs), strict=True))
        self._same_as_before({"seed": seed, "ranks": ranks})
        self.images = ensure_sample(self.work / "images", train_per_class=8, val_per_class=3)
        self.path = self.work / "sessions.jsonl"
        self.records = self._known()
        self._begun, self._before, self._start_up = time.monotonic(), self.hits(), 5.0

    def _same_as_before(self, options: dict[str, object]) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        path, content = self.work / "campaign.json", json.dumps(options)
        if not path.exists():
            write_atomically(path, content)
        elif (there := path.read_text(errors="backslashreplace")) != content:
            raise UserError(f"{self.work} has another campaign ({there.strip()}): choose another --work, or delete it.")

    def _known(self) -> list[Record]:
        """What is known already, without half a line: the campaign may have been killed in the middle of one."""
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self.path, len(whole))
        try:
            return [Record(**json.loads(line)) for line in whole.splitlines()]
        except (ValueError, TypeError) as error:
            raise UserError(f"{self.path} is damaged ({error}): choose another --work, or delete it.") from error

    def of(self, leg: Leg, run: int | None = None) -> list[Record]:
        return [r for r in self.records if r.leg == leg.name and run in (None, r.run)]

    def hits(self, leg: Leg | None = None) -> int:
        return sum(len(record.faults) for record in (self.of(leg) if leg else self.records))

    def go(self) -> None:
        """Does what is still to be done."""
        for leg, share in self.shares:
            self._reference(leg)
            run = max((record.run for record in self.of(leg)), default=0)
            while True:
                records = self.of(leg, run)
                if records and (records[-1].finished or len(records) >= MOST_SESSIONS):
                    if not records[-1].finished or self.hits(leg) >= share:
                        break
                    run, records = run + 1, []
                self._session(leg, run, len(records), share - self.hits(leg))

    def folder(self, leg: Leg, run: int | None = None) -> Path:
        """A run's; None: the undisturbed one's."""
        name = "-".join(str(ranks) for ranks in leg.ranks)
        return self.work / "runs" / f"{name}-ranks-{'undisturbed' if run is None else run}"

    def command(self, leg: Leg) -> list[str]:
        return [*leg.overrides, f"data.root={self.images}", f"trainer.steps={leg.steps}"]

    def _reference(self, leg: Leg) -> None:
        directory = self.folder(leg)
        if (directory / "result.json").exists():
            return
        if directory.exists():
            shutil.rmtree(directory)  # half a run, which going on with would disturb
        self.say(f"{leg.name}: the undisturbed run")
        output = directory.with_suffix(".txt")
        overrides = [*self.command(leg), "data.workers=0", "logger=none"]
        session = Session(directory, overrides, leg.ranks[0], output, self.fork)
        record = Record(leg.name, -1, 0, leg.ranks[0], newest=0)
        session.end(record)
        if not record.finished:
            raise UserError(f"The undisturbed run ended with {record.codes}; what it said is in {output}.")

    def _session(self, leg: Leg, run: int, number: int, most: int) -> None:
        """One start of the command, hit by at most so many faults."""
        directory, ranks = self.folder(leg, run), leg.ranks[number % len(leg.ranks)]
        faults = plan.plan(self.seed, leg, run, number)
        record = Record(leg.name, run, number, ranks, newest=harm.saved_step(directory))
        if number and record.newest and ranks != self.of(leg, run)[-1].ranks and most:
            record.faults.append({"kind": plan.RANKS_CHANGED, "step": record.newest})
        for fault in faults[: most - len(record.faults)]:
            if fault.kind in plan.DAMAGES and harm.damage(fault.kind, fault.where, directory):
                record.faults.append({"kind": fault.kind, "step": record.newest})
        record.lost, record.newest = record.newest - harm.saved_step(directory), harm.saved_step(directory)
        output = directory.with_name(f"{directory.name}.{number}.txt")
        session = Session(directory, [*self.command(leg), *leg.of_run(run)], ranks, output, self.fork)
        for fault in faults:
            if fault.kind not in plan.DAMAGES and len(record.faults) < most:
                hit = session.hit(fault, self._start_up)
                record.faults += [hit] if hit else []
        session.end(record)
        self._start_up = session.start_up or self._start_up
        with open(self.path, "a") as file:
            file.write(record.to_json() + "\n")
        self.records.append(record)
        self._tell(record)

    def _tell(self, record: Record) -> None:
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
        """Every run beside the undisturbed one, by leg and number; looked at now, whenever they ran."""
        return {
            (leg.name, run): compare(self.folder(leg, run), self.folder(leg), leg.tolerance)
            for leg in self.legs
            for run in sorted({record.run for record in self.of(leg)})
        }
