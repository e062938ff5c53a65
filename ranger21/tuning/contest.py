"""Comparisons that tune first, and then run every optimizer's defaults and winner on fresh seeds."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ranger21.grid.jobs import PlannedRun, expand, planned_runs
from ranger21.grid.presets import Preset
from ranger21.system.errors import UserError
from ranger21.system.masking import masked_values
from ranger21.system.project import command
from ranger21.tuning.plan import Task, TuningRequest
from ranger21.tuning.record import NAME, Tuned, read_tuned, tuned_hash, write_tuned
from ranger21.tuning.search import Search
from ranger21.tuning.space import read_space
from ranger21.tuning.work import TrialWorker

Queued = Callable[[], Container[Path]]  # returns the run directories that a scheduler has queued
SEED = 0  # the trials' seed, which the comparison does not use


@dataclass(frozen=True)
class Contest:
    """The trials and runs of a preset that tunes.

    Attributes:
        untuned: a run with default settings for each experiment, optimizer and fresh seed.
        overrides: further arguments for all runs.
        given: a tuned.json to take the winners from, instead of tuning.
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
        """The path of the tuned.json with the winners."""
        return self.given or self.request(self.experiments[0]).place / NAME

    def request(self, experiment: str) -> TuningRequest:
        """Return the tuning request for a workload: all its optimizers, tuned the same way."""
        mine = [job for job in self.untuned if job.config.experiment == experiment]
        optimizers = tuple(dict.fromkeys(job.config.optimizer.name for job in mine))
        arguments = tuple(word for word in self.overrides if not word.lstrip("+").startswith("outputs="))
        return TuningRequest(
            (experiment,), optimizers, self.preset.trials, 1, False, SEED, mine[0].config.outputs, arguments
        )

    def searches(self) -> list[Search]:
        """Return the searches that are still to do, one per workload; none if a tuned.json is given."""
        winners = self.winners()
        wanted = [] if self.given else [self.request(experiment) for experiment in self.experiments]
        return [
            Search(request)
            for request in wanted
            if any((*request.experiments, optimizer) not in winners for optimizer in request.optimizers)
        ]

    def winners(self) -> dict[tuple[str, str], Tuned]:
        """Return the tunings that this contest can use, by experiment and optimizer.

        From its own tuned.json these are the tunings that match the current request and search space; from a given one,
        all that are needed.

        Raises:
            UserError: the given tuned.json lacks an optimizer, or its trials used a seed of this contest.
        """
        if not self.given and not self.record.exists():
            return {}
        found = {(one.experiment, one.optimizer): one for one in read_tuned(self.record)}
        wanted = {(job.config.experiment, job.config.optimizer.name) for job in self.untuned}
        for experiment, optimizer in sorted(wanted - found.keys()) if self.given else ():
            raise UserError(
                f"{self.given} has no trials of optimizer={optimizer} in experiment={experiment}. Tune it with "
                "scripts/tune.py, or leave it out with --only."
            )
        known = {key: found[key] for key in sorted(wanted & found.keys())}
        seeds = {job.config.seed for job in self.untuned} & {one.budget.seed for one in known.values() if self.given}
        if seeds:
            raise UserError(
                f"The trials in {self.given} used seed {min(seeds)}, which this preset's runs use, too. The winner was "
                "selected on that seed, so the comparison would be biased. Tune with another --seed."
            )
        return {key: one for key, one in known.items() if self.given or _is_of(self.request(key[0]), one)}

    def doubts(self) -> list[str]:
        """Return a warning for each workload whose winners in the given tuned.json were found with other arguments."""
        found = []
        for experiment in self.experiments if self.given else ():
            asked = set(self.request(experiment).recorded)
            others = {one.arguments for (name, _), one in self.winners().items() if name == experiment}
            for other in sorted(other for other in others if set(other) != asked):
                trials = f"the trials of experiment={experiment} in {self.given} had {_listed(other, asked)}"
                runs = f"these runs have {_listed(asked, other)}"
                found.append(f"{trials}, but {runs}: the winners were not tuned for these runs.")
        return found

    def trials(self) -> list[PlannedRun]:
        """Return the first trials of the searches that are still to do."""
        return [task.job for search in self.searches() for task in next(search.phases())]

    def runs(self, experiment: str | None = None) -> list[PlannedRun]:
        """Return the untuned runs, each followed by its winner's run if there is one; of one workload, or of all."""
        mine = [job for job in self.untuned if experiment in (None, job.config.experiment)]
        chosen = {key: winner_arguments(one) for key, one in self.winners().items() if one.winner}
        typed = len(self.overrides)
        wanted: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = []
        for job in mine:
            choices = job.overrides[: len(job.overrides) - typed - 1]  # without the seed and what follows it
            winner = chosen.get((job.config.experiment, job.config.optimizer.name))
            for more in ((), winner) if winner else ((),):
                wanted.append(((*choices, *more), job.config.seed, self.overrides))
        return planned_runs(wanted) if chosen else mine

    def to_come(self) -> list[PlannedRun]:
        """Return placeholders for the runs of winners that are not known yet, as long as the untuned runs."""
        late = {name for search in self.searches() for name in search.request.experiments}
        alike = [job for job in self.untuned if job.config.experiment in late]
        return [replace(job, directory=job.directory / "tuned") for job in alike]  # directories that do not exist


def contest(
    preset: Preset, seeds: int | None, only: Sequence[str], overrides: Sequence[str], given: Path | None
) -> Contest:
    """Return a preset's contest. Raises a UserError if its runs would be refused."""
    return Contest(preset, tuple(expand(preset, seeds, list(only), list(overrides))), tuple(overrides), given)


def winner_arguments(one: Tuned) -> tuple[str, ...]:
    """Return the arguments of train.py that give a run the winner's settings and record their origin."""
    assert one.winner is not None
    trials = one.budget.trials * one.budget.rounds
    record = f'tuning.record="{tuned_hash(one)}"'  # quoted, because hashes such as 12e4 look like numbers
    return (*one.winner.overrides, f"tuning.trials={trials}", record)


def as_typed(request: TuningRequest) -> str:
    """Return the command that runs a tuning request."""
    names = ["--optimizers", ",".join(request.optimizers), "--trials", str(request.trials)]
    words = [f"experiment={','.join(request.experiments)}", *names, *request.arguments, f"outputs={request.outputs}"]
    return command("python", "scripts/tune.py", *words)


def _listed(words: Iterable[str], known: Container[str]) -> str:
    return ", ".join(sorted(word for word in words if word not in known)) or "no other argument"


def _is_of(request: TuningRequest, one: Tuned) -> bool:
    """Whether a tuning matches a request and the current search space."""
    asked, had = (request.trials, request.seed, request.recorded), (one.budget.trials, one.budget.seed, one.arguments)
    return asked == had and one.spaces[0]["hash"] == read_space(one.optimizer).hash


def tune(search: Search, queued: Queued, at_once: int, told: Callable[[Task], None]) -> list[Task]:
    """Run all trials of a workload, `at_once` at a time, and write the winners to tuned.json.

    Returns:
        The trials that failed. If there are any, nothing is written.
    """
    worker = TrialWorker(search.request.place, queued, told)
    for tasks in search.phases():
        worker.begin(tasks)
        if failed := worker.run(at_once):
            return failed
    search.write()
    return []


def enqueue(searches: Iterable[Search], queued: Queued) -> list[Task]:
    """Write the winners of searches whose trials have all ended. Return the other trials, marked as submitted."""
    left: list[Task] = []
    for search in searches:
        worker = TrialWorker(search.request.place, queued, lambda task: None)
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
    """Copy the tunings of a tuned.json into the one in `folder` for publication, and return its path.

    They replace the tunings of the same experiments and optimizers; others there are kept, because a comparison may be
    recorded one workload at a time. Values that look like keys are masked.

    Raises:
        UserError: one of the two files is damaged or of a newer version.
    """
    target = folder / NAME
    found = [*(read_tuned(target) if target.exists() else ()), *read_tuned(record)]
    shown = {
        (one.experiment, one.optimizer): replace(one, arguments=tuple(masked_values(one.arguments))) for one in found
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_tuned(target, list(shown.values()))
    return target
