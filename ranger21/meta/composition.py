"""Run the searches of a request phase by phase: each phase is one rung of one bracket, of all searches together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

from ranger21.grid.jobs import PlannedRun
from ranger21.meta.plan import ARMS, CompositionRequest, Planner
from ranger21.meta.propose import SEARCHES
from ranger21.meta.record import Composed, Searched
from ranger21.meta.results import observations
from ranger21.meta.space import Arm
from ranger21.system.wording import counted
from ranger21.tuning.outcome import best, outcome
from ranger21.tuning.plan import Task
from ranger21.tuning.record import Trial, winner

LAST = len(ARMS) - 1
MOST_BRACKETS = 1000


@dataclass
class SearchState:
    """One search and its results so far. The trials' `round` is the bracket, `point` the place of the arm in it."""

    name: str
    seed: int
    trials: list[Trial] = field(default_factory=list)
    arms: dict[int, dict[int, Arm]] = field(default_factory=dict)  # by bracket and place

    @property
    def winner(self) -> Trial | None:
        """The best trial of full length; None if all of them diverged."""
        return winner(self.trials, len(ARMS))


class Composition:
    """All searches of a request. What they propose depends only on the results, so that a killed search continues.

    The searches advance together, so that the runs of all of them fill the machine.
    """

    def __init__(self, request: CompositionRequest) -> None:
        self.request, self.planner = request, Planner(request)
        self.searches = [SearchState(name, seed) for seed in range(request.repeats) for name in request.searches]
        self._known: dict[Hashable, list[Arm]] = {}  # proposals, which take seconds, by all that they depend on

    def phases(self) -> Iterator[list[Task]]:
        """Yield the trials of each phase. Request the next phase only once all trials have ended."""
        for search in self.searches:
            search.trials, search.arms = [], {}
        for bracket in range(self.request.brackets):
            left = {id(search): self._proposed(search, bracket) for search in self.searches}
            for rung, count in enumerate(ARMS):
                of_search = [
                    (search, self.planner.tasks(search.name, search.seed, bracket, rung, left[id(search)]))
                    for search in self.searches
                ]
                yield [task for _, tasks in of_search for task in tasks]
                for search, tasks in of_search:
                    came = [outcome(task) for task in tasks]
                    search.trials += came
                    more = ARMS[rung + 1] if rung < LAST else count
                    kept = sorted(trial.point for trial in best(came, more))
                    left[id(search)] = {place: search.arms[bracket][place] for place in kept}

    def _proposed(self, search: SearchState, bracket: int) -> Mapping[int, Arm]:
        """Return the arms of a search's next bracket by their places. The first bracket of a seed is random for all."""
        name = search.name if bracket else "random"
        seed = search.seed * MOST_BRACKETS + bracket  # not by the budget, so that a larger one continues the search
        key = (name, seed, tuple((trial.directory, trial.objective) for trial in search.trials))
        if key not in self._known:
            history = observations(search.trials, self.planner.chance)
            self._known[key] = SEARCHES[name](self.planner.arms.space, len(ARMS), history, ARMS[0], seed)
        search.arms[bracket] = dict(enumerate(self._known[key]))
        return search.arms[bracket]

    def composed(self) -> Composed:
        """Return the results of all searches, once the last phase has ended."""
        request, planner = self.request, self.planner
        return Composed(
            request.experiment,
            request.recorded,
            request.budget,
            planner.steps,
            planner.images(LAST),
            planner.chance,
            planner.arms.space.content(),
            tuple(Searched(one.name, one.seed, tuple(one.trials), one.winner) for one in self.searches),
        )

    def told(self) -> str:
        """Return the searches and their budget as a sentence."""
        request, planner = self.request, self.planner
        images = len(self.searches) * request.budget * planner.images(LAST) / 1e6
        runs = len(self.searches) * request.brackets * sum(ARMS)
        names = ", ".join(f"{one.name}-{one.seed}" for one in self.searches)
        return (
            f"{names} in experiment={request.experiment}: each has {counted(request.budget, 'full run')} of "
            f"{planner.steps:,} steps, in {counted(request.brackets, 'bracket')} of {sum(ARMS)} trials; together "
            f"{runs} trials, {images:.3g} million images"
        )

    def images_left(self) -> int:
        """Return the number of images that the trials of unfinished phases train on."""
        bracket = sum(count * self.planner.images(rung) for rung, count in enumerate(ARMS))
        done = sum(self.planner.images(trial.rung) for one in self.searches for trial in one.trials)
        return len(self.searches) * self.request.brackets * bracket - done

    def present(self) -> list[Task]:
        """Return the trials of the first phase that has not ended, or of the last phase."""
        tasks: list[Task] = []
        for tasks in self.phases():
            if not all(task.job.ended for task in tasks):
                break
        return tasks

    def jobs(self) -> list[PlannedRun]:
        """Return the runs of the present trials, each once: searches with the same seed share their first bracket."""
        return list({task.job.directory: task.job for task in self.present()}.values())
