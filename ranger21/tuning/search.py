"""Plan a tuning phase by phase: rungs that end for all optimizers before the next begins, and a second round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ranger21.system.errors import UserError
from ranger21.tuning.claims import FOLDER as CLAIMS
from ranger21.tuning.claims import Claims
from ranger21.tuning.outcome import best, edges, outcome, widened
from ranger21.tuning.plan import Planner, Stage, Task, TuningRequest
from ranger21.tuning.record import NAME, Budget, Edge, Trial, Tuned, read_tuned, winner, write_tuned
from ranger21.tuning.space import Space

Key = tuple[str, str]  # experiment, optimizer


class Search:
    """Plans the phases of a tuning from the results of the previous ones, the same way for all optimizers.

    Raises:
        UserError: see `Planner`; also if an optimizer of the same experiment has a different budget in tuned.json.
    """

    def __init__(self, request: TuningRequest) -> None:
        self.request, self.planner = request, Planner(request)
        self.keys: list[Key] = [(e, o) for e in request.experiments for o in request.optimizers]
        self.trials: dict[Key, list[Trial]] = {key: [] for key in self.keys}
        self.spaces: dict[Key, list[Space]] = {key: [self.planner.spaces[key[1]]] for key in self.keys}
        self._others()

    def phases(self) -> Iterator[list[Task]]:
        """Yield the tasks of each phase, in starting order. Request the next phase only once all tasks have ended."""
        yield from self._round(0, self.keys)
        if not self.request.widen:
            return
        wider = [key for key in self.keys if self._beyond(key[0])]
        for key in wider:
            self.spaces[key].append(widened(self.spaces[key][0], self._beyond(key[0])))
        if wider:
            yield from self._round(1, wider)

    def _round(self, number: int, keys: list[Key]) -> Iterator[list[Task]]:
        count = self.request.trials
        points = {key: list(range(number * count, (number + 1) * count)) for key in keys}
        for rung in range(self.request.rungs):
            tasks = self.tasks(number, rung, points)
            yield tasks
            came: dict[Key, list[Trial]] = {key: [] for key in keys}
            for task in tasks:
                came[task.stage.experiment, task.stage.optimizer].append(outcome(task))
            for key, trials in came.items():
                trials.sort(key=lambda trial: trial.point)
                self.trials[key] += trials
                points[key] = sorted(trial.point for trial in best(trials, self.left(rung + 1)))

    def left(self, rung: int) -> int:
        """Return the number of trials per optimizer in a rung: half of the previous rung's, and at least one."""
        return max(1, self.request.trials >> rung)

    def tasks(self, number: int, rung: int, points: Mapping[Key, list[int]]) -> list[Task]:
        """Return the trials of a rung, alternating between optimizers, so that an interruption affects all equally."""
        found: list[Task] = []
        for (experiment, optimizer), chosen in points.items():
            space = self.spaces[experiment, optimizer][number]
            stage = Stage(experiment, optimizer, number, rung, self.request.rungs, space)
            found += self.planner.tasks(stage, chosen)
        rank = {key: place for place, key in enumerate(points)}
        turn = {id(task): points[task.stage.experiment, task.stage.optimizer].index(task.point) for task in found}
        return sorted(found, key=lambda task: (turn[id(task)], rank[task.stage.experiment, task.stage.optimizer]))

    def _beyond(self, experiment: str) -> set[Edge]:
        """Return the edges at which the first round's winner of any optimizer lies."""
        found: set[Edge] = set()
        for key in self.keys:
            if key[0] == experiment:
                first = [trial for trial in self.trials[key] if trial.round == 0]
                found |= set(edges(self.spaces[key][0], winner(first, self.request.rungs), first))
        return found

    def tuned(self) -> list[Tuned]:
        """Return the results of all trials, once the last phase has ended."""
        found = []
        for key in self.keys:
            trials, spaces, request = self.trials[key], self.spaces[key], self.request
            won = winner(trials, request.rungs)
            found.append(
                Tuned(
                    *key,
                    Budget(request.trials, request.rungs, len(spaces), request.seed),
                    request.recorded,
                    tuple({"hash": space.hash, "dimensions": space.content()} for space in spaces),
                    tuple(trials),
                    won,
                    edges(spaces[-1], won, trials),
                )
            )
        return found

    def write(self) -> Path:
        """Write tuned.json, keep its entries on other experiments and optimizers, and return its path."""
        path = self.request.place / NAME
        with Claims(self.request.place / CLAIMS).turn():  # other processes may write it at the same time
            write_tuned(path, [*self._others(), *self.tuned()])
        return path

    def present(self) -> list[Task]:
        """Return the tasks of the first phase that has not ended, or of the last phase."""
        self.trials = {key: [] for key in self.keys}
        self.spaces = {key: spaces[:1] for key, spaces in self.spaces.items()}
        tasks: list[Task] = []
        for tasks in self.phases():
            if not all(task.job.ended for task in tasks):
                break
        return tasks

    def later(self) -> list[Task]:
        """Return as many tasks of later rungs as there will be. Their points are arbitrary, but they cost the same."""
        found: list[Task] = []
        for rung in range(1, self.request.rungs):
            found += self.tasks(0, rung, {key: list(range(self.left(rung))) for key in self.keys})
        return found

    def _others(self) -> list[Tuned]:
        """Return the other entries of tuned.json. Raises a UserError if budgets within an experiment would differ."""
        path = self.request.place / NAME
        if not path.exists():
            return []
        others = [one for one in read_tuned(path) if (one.experiment, one.optimizer) not in self.keys]
        own = Budget(self.request.trials, self.request.rungs, 1, self.request.seed)
        for one in others:
            alike = one.budget == own and one.arguments == self.request.recorded and not self.request.widen
            if one.experiment in self.request.experiments and not alike:
                raise UserError(
                    f"{path} has optimizer={one.optimizer} in experiment={one.experiment}, tuned with another budget "
                    "than this command's. Add it to --optimizers, so that all are tuned with the same budget."
                )
        return others
