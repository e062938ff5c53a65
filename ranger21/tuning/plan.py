"""Which runs a tuning needs: of each study its trials, as train.py's commands and run directories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.config import Config, neutral_keys
from ranger21.config.arguments import setting
from ranger21.config.compose import Composer, compose_config, composing
from ranger21.config.mistakes import CONFIG_ERRORS, explain
from ranger21.grid.jobs import PlannedRun
from ranger21.records.naming import run_directory
from ranger21.system.errors import UserError
from ranger21.tuning.points import unit_points
from ranger21.tuning.space import Space, Value, read_space

FOLDER = "tuning"  # of the trials' runs, below OUTPUTS
# Keys that each trial sets itself.
OURS = (
    *("experiment", "optimizer", "seed", "run_dir", "trainer.final_validation", "trainer.eval_every_steps"),
    *("tuning.trials", "tuning.record"),
)
# No trial reads the official validation set. Validations on the way are for the time to a target, and cost time here.
UNSEEN = ("trainer.final_validation=false", "trainer.eval_every_steps=null")


@dataclass(frozen=True)
class Request:
    """What is to be tuned, and with how much.

    Attributes:
        trials: of each optimizer, in each round.
        rungs: of successive halving; 1 without it.
        widen: whether a second round has wider spaces where a winner is at an edge.
        seed: of every run.
        outputs: the folder above the runs' own.
        arguments: of train.py, for every run.
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
        """Those of the arguments that change a result: not where the data lie, nor how fast a run is."""
        neutral = neutral_keys()
        keys = {word: word.partition("=")[0].lstrip("+~") for word in self.arguments}
        return tuple(word for word, key in keys.items() if not {key, key.partition(".")[0]} & neutral)

    @property
    def place(self) -> Path:
        """Where the runs, the journal and tuned.json are."""
        return Path(self.outputs) / FOLDER


@dataclass(frozen=True)
class Stage:
    """One study: the trials of one optimizer, of one length, in one space. Rounds and rungs count from 0."""

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
    def told(self) -> str:
        """The name for people, who need no rounds and rungs where there is one."""
        more = f", round {self.round + 1}" if self.round else ""
        return f"{self.experiment}, {self.optimizer}{more}{f', rung {self.rung + 1}' if self.rungs > 1 else ''}"


@dataclass(frozen=True)
class Task:
    """A trial that is to be run: its point of the sequence, what it takes there, and its run."""

    stage: Stage
    point: int
    values: Mapping[str, Value]
    overrides: tuple[str, ...]
    job: PlannedRun


class Planner:
    """Makes the tasks of a request.

    Raises a UserError for what cannot be tuned: without a holdout, or where what was typed is the trials' to choose.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.spaces = {optimizer: read_space(optimizer) for optimizer in request.optimizers}
        self._require_room()
        self._composer = Composer()
        self._known: dict[tuple[str, str, int], Task] = {}
        with composing():
            self._bases = {experiment: self._base(experiment) for experiment in request.experiments}

    def _require_room(self) -> None:
        """Raise a UserError for an argument whose key the trials set themselves."""
        for word in self.request.arguments:
            key = word.partition("=")[0].lstrip("+~")
            if key in OURS:
                raise UserError(f"{word} is not possible: every trial sets {key} itself; --help tells how.")
            for optimizer, space in self.spaces.items():
                if key in space.sets():
                    raise UserError(f"{word} is not possible: {key} is tuned, by configs/space/{optimizer}.yaml.")

    def _base(self, experiment: str) -> Config:
        config = compose_config([f"experiment={experiment}", *self.request.arguments])
        if not config.data.holdout:
            raise UserError(
                f"experiment={experiment} has data.holdout=0, so its trials would be judged by the official validation "
                "set, which is for the final runs alone: say data.holdout=N, N training images that nobody trains on."
            )
        return config

    def tasks(self, stage: Stage, points: Sequence[int]) -> list[Task]:
        """The trials at these points. Raises a UserError, naming the point, for values that train.py refuses."""
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
        """What makes a run of a rung shorter, its schedule with it: half as long as the next rung's."""
        part = 2 ** (stage.rungs - 1 - stage.rung)
        if part == 1:
            return []
        trainer = self._bases[stage.experiment].trainer
        key, whole = ("steps", trainer.steps) if trainer.steps is not None else ("epochs", trainer.epochs)
        if whole < part or (key == "epochs" and whole % part):
            raise UserError(
                f"--halving {stage.rungs} is not possible: experiment={stage.experiment} has trainer.{key}={whole}, of "
                f"which there is no 1/{part}. Take fewer rungs, or say trainer.steps=N."
            )
        return [f"trainer.{key}={whole // part}"]
