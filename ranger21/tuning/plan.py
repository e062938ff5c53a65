"""Plan the trials of a tuning request, as commands of train.py with their run directories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.config import Config, decisive
from ranger21.config.arguments import setting
from ranger21.config.compose import Composer, compose_config, composing
from ranger21.config.mistakes import CONFIG_ERRORS, explain
from ranger21.grid.jobs import PlannedRun
from ranger21.records.naming import run_directory
from ranger21.system.errors import UserError
from ranger21.tuning.points import unit_points
from ranger21.tuning.space import Space, Value, read_space

FOLDER = "tuning"  # the folder of the trials' runs, in OUTPUTS
# Keys that the trials set themselves.
OURS = (
    *("experiment", "optimizer", "seed", "run_dir", "trainer.final_validation", "trainer.eval_every_steps"),
    *("tuning.trials", "tuning.record"),
)
# No trial reads the official validation set. Validations during training only serve time to target, which is unused.
UNSEEN = ("trainer.final_validation=false", "trainer.eval_every_steps=null")


@dataclass(frozen=True)
class TuningRequest:
    """The optimizers and experiments to tune, and the budget.

    Attributes:
        trials: the number of trials per optimizer and round.
        rungs: the number of rungs of successive halving; 1 without it.
        widen: whether to run a second round in wider spaces if a winner is at an edge.
        seed: the seed of every trial.
        outputs: the folder that contains the folder of the trials.
        arguments: further arguments of train.py for every trial.
    """

    experiments: tuple[str, ...]
    optimizers: tuple[str, ...]
    trials: int
    rungs: int
    widen: bool
    seed: int
    outputs: str
    arguments: tuple[str, ...]

    @property
    def recorded(self) -> tuple[str, ...]:
        """The arguments that can change a result: without paths, and without settings that only affect speed."""
        return decisive(self.arguments)

    @property
    def place(self) -> Path:
        """The folder of the trials, the journal and tuned.json."""
        return Path(self.outputs) / FOLDER


@dataclass(frozen=True)
class Stage:
    """One study: the trials of one optimizer, with one length, in one space. `round` and `rung` count from 0."""

    experiment: str
    optimizer: str
    round: int
    rung: int
    rungs: int
    space: Space

    @property
    def name(self) -> str:
        return f"{self.experiment}/{self.optimizer}/round {self.round + 1}/rung {self.rung + 1} of {self.rungs}"

    @property
    def space_from(self) -> str:
        """Where the space is defined."""
        return f"configs/space/{self.optimizer}.yaml"

    @property
    def told(self) -> str:
        """The name to show; it mentions round and rung only if there are several."""
        more = f", round {self.round + 1}" if self.round else ""
        return f"{self.experiment}, {self.optimizer}{more}{f', rung {self.rung + 1}' if self.rungs > 1 else ''}"


@dataclass(frozen=True)
class Task:
    """A trial to be run: its point of the sequence, its values there, and its job."""

    stage: Stage
    point: int
    values: Mapping[str, Value]
    overrides: tuple[str, ...]
    job: PlannedRun


class Planner:
    """Makes the tasks of a tuning request.

    Raises:
        UserError: an experiment has no holdout, its protocol has the seed of the trials, or an argument sets what the
            trials set.
    """

    def __init__(self, request: TuningRequest) -> None:
        self.request = request
        self.spaces = {optimizer: read_space(optimizer) for optimizer in request.optimizers}
        self._require_room()
        self._composer = Composer()
        self._known: dict[tuple[str, str, int], Task] = {}
        with composing():
            self._bases = {experiment: self._base(experiment) for experiment in request.experiments}

    def _require_room(self) -> None:
        """Raise a UserError if an argument sets a key that the trials set."""
        for word in self.request.arguments:
            key = word.partition("=")[0].lstrip("+~")
            if key in OURS:
                raise UserError(f"{word} cannot be given, because the trials set {key} themselves. See --help.")
            for optimizer, space in self.spaces.items():
                if key in space.sets():
                    raise UserError(f"{word} cannot be given, because configs/space/{optimizer}.yaml tunes {key}.")

    def _base(self, experiment: str) -> Config:
        config = compose_config([f"experiment={experiment}", *self.request.arguments])
        if not config.data.holdout:
            raise UserError(
                f"experiment={experiment} has data.holdout=0, so its trials would be judged on the official validation "
                "set, which is reserved for the final runs. Add data.holdout=N to hold out N training images."
            )
        if (seed := self.request.seed) in config.protocol.seeds:
            raise UserError(
                f"--seed {seed} is one of the seeds of protocol={config.protocol.name}, with which the winners will be "
                f"compared. A winner selected on that seed would have an advantage: add --seed "
                f"{max(config.protocol.seeds) + 1}, for example."
            )
        return config

    def tasks(self, stage: Stage, points: Sequence[int]) -> list[Task]:
        """Return the trials at these points. Raises a UserError for a point whose values train.py refuses."""
        keys = [(stage.name, stage.space.hash, point) for point in points]
        with composing():
            for key in keys:
                if key not in self._known:
                    self._known[key] = self._task(stage, key[2])
        return [self._known[key] for key in keys]

    def _task(self, stage: Stage, point: int) -> Task:
        values = stage.space.values(unit_points(1 + point)[point])
        overrides = stage.space.overrides(values)
        try:
            return Task(stage, point, values, overrides, self._job(stage, overrides))
        except (UserError, *CONFIG_ERRORS) as error:
            told = str(error) if isinstance(error, UserError) else explain(error)
            raise UserError(f"configs/space/{stage.optimizer}.yaml, point {point}: {told}") from error

    def _job(self, stage: Stage, overrides: Sequence[str]) -> PlannedRun:
        words = (
            *(f"experiment={stage.experiment}", f"optimizer={stage.optimizer}", *self.request.arguments, *overrides),
            *(*self._length(stage), *UNSEEN),
            *(f"seed={self.request.seed}", setting("outputs", self.request.place)),
        )
        config = self._composer.compose(list(words))
        return PlannedRun(words, config, run_directory(config))

    def _length(self, stage: Stage) -> list[str]:
        """Return the overrides that shorten a rung's runs, with their schedules, to half of the next rung's length."""
        part = 2 ** (stage.rungs - 1 - stage.rung)
        if part == 1:
            return []
        trainer = self._bases[stage.experiment].trainer
        key, whole = ("steps", trainer.steps) if trainer.steps is not None else ("epochs", trainer.epochs)
        if whole < part or (key == "epochs" and whole % part):
            raise UserError(
                f"--halving {stage.rungs} cannot be used: trainer.{key}={whole} of experiment={stage.experiment} "
                f"cannot be divided by {part}. Use fewer rungs, or set trainer.steps=N."
            )
        return [f"trainer.{key}={whole // part}"]
