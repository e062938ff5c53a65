"""Optuna's journal of the trials, shared by all workers: which are waiting, running and finished."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.tuning.claims import FOLDER, PAUSE, Claims
from ranger21.tuning.plan import Stage, Task
from ranger21.tuning.record import Trial
from ranger21.tuning.space import LogRange, Space

NAME = "tuning.journal"
ANEW = "which reuses all finished runs"
CURE = f"move the file away and repeat the command, {ANEW}"


class Journal:
    """The queue of trials: Optuna's JournalStorage in one file, with one study per stage.

    Results are read from the runs themselves, not from the journal. Only one thread of one process may call its methods
    at a time.

    Raises:
        UserError: Optuna is not installed, or the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._optuna = import_optuna()
        self._studies: dict[str, Any] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        _cut_torn_line(path)
        backends = self._optuna.storages.journal
        with self._reading():
            place = str(path.resolve())
            backend = backends.JournalFileBackend(place, lock_obj=_Lock(path.parent / FOLDER))
            self._storage = self._optuna.storages.JournalStorage(backend)

    def enqueue(self, tasks: Sequence[Task]) -> None:
        """Enqueue the trials that are not in the journal yet.

        Raises:
            UserError: the journal has these trials with a different search space or different run directories.
        """
        with self._reading():
            for task in tasks:
                study = self._study(task.stage)
                known = self._numbers.get((task.stage.name, task.point))
                directory = f"{task.stage.experiment}/{task.job.directory.name}"
                if known is None:
                    study.add_trial(self._waiting(task, directory))
                    self._note(task.stage, study)
                elif (then := self._trial(task).user_attrs.get("directory")) != directory:
                    raise UserError(
                        f"{self.path}: trial {task.point} of {task.stage.name} was the run {then}, but this command "
                        f"makes it {directory}. Choose another outputs=, or {CURE}."
                    )

    def take(self, task: Task) -> None:
        """Mark a trial as running."""
        with self._reading():
            trial = self._trial(task)
            if trial.state == self._optuna.trial.TrialState.WAITING:
                self._storage.set_trial_state_values(trial._trial_id, self._optuna.trial.TrialState.RUNNING)

    def tell(self, task: Task, came: Trial) -> None:
        """Record the result of a trial. A divergence counts as 0, the worst top-1.

        Raises:
            UserError: the journal has a different result for it.
        """
        value = 0.0 if came.objective is None else came.objective
        self.take(task)
        with self._reading():
            trial = self._trial(task)
            if not trial.state.is_finished():
                self._study(task.stage).tell(trial.number, value)
            elif trial.value != value:
                raise UserError(
                    f"{self.path}: trial {task.point} of {task.stage.name} had the result {trial.value}, but "
                    f"{task.job.directory} now has {value}. If that run is correct, {CURE}."
                )

    def has_ended(self, task: Task) -> bool:
        """Whether the journal has a result for the trial."""
        with self._reading():
            return bool(self._trial(task).state.is_finished())

    def _study(self, stage: Stage) -> Any:
        if stage.name not in self._studies:
            study = self._optuna.create_study(
                storage=self._storage,
                study_name=stage.name,
                direction="maximize",
                sampler=self._optuna.samplers.RandomSampler(seed=0),  # unused, as every trial is enqueued
                load_if_exists=True,
            )
            if "space" not in study.user_attrs:
                study.set_user_attr("space", stage.space.hash)
            if study.user_attrs["space"] != stage.space.hash:
                raise UserError(
                    f"{self.path} has trials of {stage.name} in another search space ({study.user_attrs['space']}; "
                    f"{stage.space_from} now has {stage.space.hash}). Choose another outputs=, or {CURE}."
                )
            self._studies[stage.name] = study
            self._note(stage, study)
        return self._studies[stage.name]

    def _note(self, stage: Stage, study: Any) -> None:
        for trial in study.get_trials(deepcopy=False):
            self._numbers.setdefault((stage.name, trial.user_attrs["point"]), trial._trial_id)

    def _trial(self, task: Task) -> Any:
        return self._storage.get_trial(self._numbers[task.stage.name, task.point])

    def _waiting(self, task: Task, directory: str) -> Any:
        """Return the trial as a waiting Optuna trial."""
        distributions = _distributions(self._optuna.distributions, task.stage.space)
        return self._optuna.trial.create_trial(
            state=self._optuna.trial.TrialState.WAITING,
            params={name: task.values[name] for name in distributions},
            distributions=distributions,
            user_attrs={"point": task.point, "directory": directory},
        )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn errors that Optuna raises for a damaged file into a UserError."""
        try:
            yield
        except FileNotFoundError as error:
            raise UserError(f"{self.path} was deleted during use. Repeat the command, {ANEW}.") from error
        except (UserError, OSError):
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise UserError(f"{self.path} is damaged, or is not an Optuna journal ({told}): {CURE}.") from error


class _Lock:
    """Optuna's lock on the journal, which ends with its process. Optuna's own outlives a kill by up to 30 seconds."""

    def __init__(self, folder: Path) -> None:
        self._claims = Claims(folder)

    def acquire(self) -> bool:
        while not self._claims.take(NAME):
            time.sleep(PAUSE)
        return True

    def release(self) -> None:
        self._claims.release(NAME)


def _distributions(kinds: Any, space: Space) -> dict[str, Any]:
    return {
        name: kinds.FloatDistribution(one.low, one.high, log=True)
        if isinstance(one, LogRange)
        else kinds.CategoricalDistribution(list(one.options))
        for name, one in space.dimensions.items()
    }


def import_optuna() -> Any:
    """Return the module optuna; raise a UserError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "This command needs Optuna: pip install 'ranger21-imagenet[tune]', or pip install optuna."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line left by a killed writer, because appended records would be lost with it."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
