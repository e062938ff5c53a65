"""Plan the trials of a composition: brackets of successive halving, each a set of ordinary runs of train.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ranger21.config import Config, decisive
from ranger21.config.arguments import setting
from ranger21.config.compose import Composer, composing
from ranger21.data.build import build_if_there
from ranger21.grid.jobs import PlannedRun
from ranger21.meta.arms import Arms
from ranger21.meta.space import Arm
from ranger21.records.naming import run_directory
from ranger21.run.plan import make_plan
from ranger21.system.errors import UserError
from ranger21.tuning.plan import OURS, UNSEEN, Stage, Task

FOLDER = "compose"  # the folder of the trials' runs, in OUTPUTS
ARMS = (8, 4, 2, 1)  # arms per rung of a bracket; their runs have 1/8, 1/4, 1/2 and all of the steps
PER_BRACKET = len(ARMS)  # full runs that a bracket costs, because every rung trains on as many images as one
FEWEST = 8 * ARMS[0]  # steps of a full run


@dataclass(frozen=True)
class CompositionRequest:
    """What to search, how, and for how long.

    Attributes:
        experiment: the task.
        searches: names of the searches, from `SEARCHES`.
        repeats: how often each search is repeated; the n-th has the seed n, counted from 0.
        budget: the budget of each search in full runs; a multiple of `PER_BRACKET`.
        outputs: the folder that contains the folder of the trials.
        arguments: further arguments of train.py for every trial.
    """

    experiment: str
    searches: tuple[str, ...]
    repeats: int
    budget: int
    outputs: str
    arguments: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.budget % PER_BRACKET or not self.budget:
            raise UserError(
                f"--budget {self.budget} must be a multiple of {PER_BRACKET}, because a bracket of successive halving "
                f"({', '.join(map(str, ARMS))} arms) trains on as many images as {PER_BRACKET} full runs."
            )

    @property
    def brackets(self) -> int:
        return self.budget // PER_BRACKET

    @property
    def place(self) -> Path:
        """The folder of the trials and the journal."""
        return Path(self.outputs) / FOLDER

    @property
    def recorded(self) -> tuple[str, ...]:
        """The arguments that can change a result."""
        return decisive(self.arguments)


@dataclass(frozen=True)
class Rung(Stage):
    """One rung of a bracket of one search."""

    @property
    def space_from(self) -> str:
        return "the space of the ingredients and configs/space/chain.yaml"

    @property
    def told(self) -> str:
        return f"{self.optimizer}, bracket {self.round + 1}, rung {self.rung + 1} of {self.rungs}"


class Planner:
    """Makes the trials of a request.

    Attributes:
        arms: all arms.
        steps: the number of steps of a full run.
        chance: the accuracy of guessing, as a fraction.

    Raises:
        UserError: the experiment has no holdout, its protocol has a seed of the trials, an argument sets what the
            trials set, the data is missing, or a full run has too few steps.
    """

    def __init__(self, request: CompositionRequest) -> None:
        self.request, self.arms = request, Arms()
        self._stage_space = self.arms.recorded()
        self._composer = Composer()
        self._known: dict[tuple[str, int], Task] = {}
        for word in request.arguments:
            key = word.partition("=")[0].lstrip("+~")
            if key in OURS or key in self.arms.sets():
                raise UserError(f"{word} cannot be given, because the trials set {key} themselves. See --help.")
        with composing():
            self._base = self._composer.compose([f"experiment={request.experiment}", *request.arguments])
        self._require_fair(self._base)
        self._base.data.require()
        data = build_if_there(self._base.data, self._base.seed_of_data)
        self._course = make_plan(self._base, len(data.train)).course
        self.steps, self.chance = self._course.total_steps, 1 / len(data.classes)
        if self.steps < FEWEST:
            raise UserError(
                f"A run of experiment={request.experiment} has {self.steps} steps, too few to be divided by "
                f"{ARMS[0]}. Choose at least {FEWEST} steps."
            )

    def _require_fair(self, config: Config) -> None:
        experiment = self.request.experiment
        if not config.data.holdout:
            raise UserError(
                f"experiment={experiment} has data.holdout=0, so its trials would be judged on the official validation "
                "set, which is reserved for the final runs. Add data.holdout=N to hold out N training images."
            )
        if used := sorted(set(range(self.request.repeats)) & set(config.protocol.seeds)):
            raise UserError(
                f"Seed {used[0]} is one of the seeds of protocol={config.protocol.name}, with which the winners will "
                "be compared. A winner selected on that seed would have an advantage: use fewer --searches, or another "
                "protocol=, such as protocol=none, whose final runs have the seeds 100 to 104."
            )

    def length(self, rung: int) -> int:
        """Return the number of steps of the runs of a rung."""
        return self.steps // ARMS[rung]

    def images(self, rung: int) -> int:
        """Return the number of images that a run of a rung trains on."""
        return self._course.seen(self.length(rung))

    def tasks(self, search: str, seed: int, bracket: int, rung: int, arms: Mapping[int, Arm]) -> list[Task]:
        """Return the trials of a rung. `arms` has them by their places in the bracket."""
        stage = Rung(self.request.experiment, f"{search}-{seed}", bracket, rung, len(ARMS), self._stage_space)
        with composing():
            for place, arm in arms.items():
                if (stage.name, place) not in self._known:
                    self._known[stage.name, place] = self._task(stage, seed, place, arm)
        return [self._known[stage.name, place] for place in arms]

    def _task(self, stage: Rung, seed: int, place: int, arm: Arm) -> Task:
        overrides = self.arms.overrides(arm)
        shorter = [f"trainer.steps={self.length(stage.rung)}"] if ARMS[stage.rung] > 1 else []
        words = (
            *(f"experiment={stage.experiment}", "optimizer=chain", *self.request.arguments, *overrides),
            *(*shorter, *UNSEEN, f"seed={seed}", setting("outputs", self.request.place)),
        )
        config = self._composer.compose(list(words))
        return Task(stage, place, dict(arm), overrides, PlannedRun(words, config, run_directory(config)))
