"""A comparison that tunes first: what is to be tuned, and the runs of every default and every winner on fresh seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ranger21.grid.jobs import PlannedRun, expand, planned_runs
from ranger21.grid.presets import Preset
from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.system.masking import masked_values
from ranger21.system.project import command
from ranger21.system.reading import read_json
from ranger21.tuning.plan import Request, Task
from ranger21.tuning.record import NAME, Tuned, read_tuned, tuned_hash
from ranger21.tuning.search import Search
from ranger21.tuning.space import read_space
from ranger21.tuning.work import Worker

Queued = Callable[[], Container[Path]]  # the run directories that a scheduler holds
SEED = 0  # of the trials, which no run of the comparison has


@dataclass(frozen=True)
class Contest:
    """The runs of a preset with trials.

    Attributes:
        untuned: a run for each experiment, optimizer and fresh seed, as the optimizer comes.
        overrides: what was typed besides, for all runs alike.
        given: a record of winners, in place of this contest's own tuning.
    """

    preset: Preset
    untuned: tuple[PlannedRun, ...]
    overrides: tuple[str, ...]
    given: Path | None

    @property
    def experiments(self) -> list[str]:
        """The workloads, in the preset's order."""
        return list(dict.fromkeys(job.config.experiment for job in self.untuned))

    @property
    def record(self) -> Path:
        """Where the winners stand."""
        return self.given or self.request(self.experiments[0]).place / NAME

    def request(self, experiment: str) -> Request:
        """What is to be tuned of a workload: all its optimizers alike."""
        mine = [job for job in self.untuned if job.config.experiment == experiment]
        optimizers = tuple(dict.fromkeys(job.config.optimizer.name for job in mine))
        arguments = tuple(word for word in self.overrides if not word.lstrip("+").startswith("outputs="))
        return Request((experiment,), optimizers, self.preset.trials, 1, False, SEED, mine[0].config.outputs, arguments)

    def searches(self) -> list[Search]:
        """The tunings that are still to do, one a workload; none where a record is given."""
        winners = self.winners()
        wanted = [] if self.given else [self.request(experiment) for experiment in self.experiments]
        return [
            Search(request)
            for request in wanted
            if any((*request.experiments, optimizer) not in winners for optimizer in request.optimizers)
        ]

    def winners(self) -> dict[tuple[str, str], Tuned]:
        """What is tuned as this contest would, by experiment and optimizer; of a given record, whatever it says.

        Raises a UserError for a given record without one of them, or whose trials had a seed of this contest.
        """
        if not self.given and not self.record.exists():
            return {}
        found = {(one.experiment, one.optimizer): one for one in read_tuned(self.record)}
        wanted = {(job.config.experiment, job.config.optimizer.name) for job in self.untuned}
        for experiment, optimizer in sorted(wanted - found.keys()) if self.given else ():
            raise UserError(
                f"{self.given} has no trials of optimizer={optimizer} in experiment={experiment}: tune it "
                "(scripts/tune.py), or leave it out with --only."
            )
        known = {key: found[key] for key in sorted(wanted & found.keys())}
        seeds = {job.config.seed for job in self.untuned} & {one.budget.seed for one in known.values() if self.given}
        if seeds:
            raise UserError(
                f"{self.given} has trials of seed {min(seeds)}, which runs of this preset have, too: their winner was "
                "chosen by its luck with that seed. Tune with another --seed."
            )
        return {key: one for key, one in known.items() if self.given or _is_of(self.request(key[0]), one)}

    def trials(self) -> list[PlannedRun]:
        """The trials of what is still to be tuned."""
        return [task.job for search in self.searches() for task in next(search.phases())]

    def runs(self, experiment: str | None = None) -> list[PlannedRun]:
        """The untuned runs, each before that of its winner if there is one; of one workload, or of all."""
        mine = [job for job in self.untuned if experiment in (None, job.config.experiment)]
        chosen = {key: words(one) for key, one in self.winners().items() if one.winner}
        typed = len(self.overrides)
        wanted: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = []
        for job in mine:
            choices = job.overrides[: len(job.overrides) - typed - 1]  # what is left stands behind the seed
            winner = chosen.get((job.config.experiment, job.config.optimizer.name))
            for more in ((), winner) if winner else ((),):
                wanted.append(((*choices, *more), job.config.seed, self.overrides))
        return planned_runs(wanted) if chosen else mine

    def to_come(self) -> list[PlannedRun]:
        """What stands for the winners' runs that are not known yet: as long as the untuned ones."""
        late = {name for search in self.searches() for name in search.request.experiments}
        alike = [job for job in self.untuned if job.config.experiment in late]
        return [replace(job, directory=job.directory / "tuned") for job in alike]  # where nothing is


def contest(
    preset: Preset, seeds: int | None, only: Sequence[str], overrides: Sequence[str], given: Path | None
) -> Contest:
    """Return a preset's contest. Raises a UserError for what cannot be run."""
    return Contest(preset, tuple(expand(preset, seeds, list(only), list(overrides))), tuple(overrides), given)


def words(one: Tuned) -> tuple[str, ...]:
    """The arguments of train.py that make a run that of a winner, and say so."""
    assert one.winner is not None
    trials = one.budget.trials * one.budget.rounds
    record = f'tuning.record="{tuned_hash(one)}"'  # in quotes, as some hashes look like numbers: 12e4
    return (*one.winner.overrides, f"tuning.trials={trials}", record)


def as_typed(request: Request) -> str:
    """The command that tunes what a request asks for."""
    names = ["--optimizers", ",".join(request.optimizers), "--trials", str(request.trials)]
    words = [f"experiment={','.join(request.experiments)}", *names, *request.arguments, f"outputs={request.outputs}"]
    return command("python", "scripts/tune.py", *words)


def _is_of(request: Request, one: Tuned) -> bool:
    """Whether a tuning had what is asked for, in the space as it is now."""
    asked, had = (request.trials, request.seed, request.recorded), (one.budget.trials, one.budget.seed, one.arguments)
    return asked == had and one.spaces[0]["hash"] == read_space(one.optimizer).hash


def tune(search: Search, queued: Queued, at_once: int, told: Callable[[Task], None]) -> list[Task]:
    """Run a workload's trials to their ends, so many at a time, and write who won.

    Returns the trials that failed: then nothing is written.
    """
    worker = Worker(search.request.place, queued, told)
    for tasks in search.phases():
        worker.begin(tasks)
        if failed := worker.run(at_once):
            return failed
    search.write()
    return []


def enqueue(searches: Iterable[Search], queued: Queued) -> list[Task]:
    """Write who won where all trials have ended, and return the others, noted as a scheduler's."""
    left: list[Task] = []
    for search in searches:
        worker = Worker(search.request.place, queued, lambda task: None)
        for tasks in search.phases():
            worker.begin(tasks)
            mine = worker.collect()
            worker.submitted(mine)
            left += mine
            if mine:
                break
        else:
            search.write()
    return left


def publish(record: Path, folder: Path) -> Path:
    """Copy a record for a publication, with what looks like a key masked; return the copy."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = masked_values(read_json(record))
    write_atomically(folder / NAME, json.dumps(shown, indent=1, ensure_ascii=False) + "\n")
    return folder / NAME
