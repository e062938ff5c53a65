"""Collect each optimizer's tuning in a workload with its runs on fresh seeds, untuned and tuned."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ranger21.report.groups.chance import chance
from ranger21.report.groups.grouping import OPTIMIZER, group_runs, trials_of
from ranger21.report.runs.run import FINISHED, RecordedRun
from ranger21.system.errors import UserError
from ranger21.tuning.best_of import BestOf, best_of
from ranger21.tuning.record import Trial, Tuned, tuned_hash


@dataclass(frozen=True)
class Tuning:
    """One optimizer's tuning in one workload, and its runs on fresh seeds.

    Attributes:
        others: the number of tuned runs that name another tuning.
        guessing: chance accuracy in per cent, which a failed trial counts as.
        unlike: labels of the groups, if untuned or tuned runs differ in more than their seeds and are not used.
    """

    tuned: Tuned
    untuned_runs: list[RecordedRun]
    tuned_runs: list[RecordedRun]
    others: int
    guessing: float
    unlike: tuple[str, ...] = ()

    @property
    def trials(self) -> list[Trial]:
        """The trials of full length."""
        return [trial for trial in self.tuned.trials if trial.rung == self.tuned.budget.rungs - 1]

    @property
    def values(self) -> list[float]:
        """The top-1 of each trial of full length, in per cent."""
        return [self.guessing if trial.objective is None else trial.objective for trial in self.trials]

    @property
    def diverged(self) -> int:
        """The number of trials, of any length, that diverged."""
        return sum(trial.state != FINISHED for trial in self.tuned.trials)

    def best(self, k: int) -> BestOf:
        """Return the best of k trials."""
        return best_of(self.values, k)


def tunings(records: Sequence[Tuned], runs: Sequence[RecordedRun]) -> dict[str, list[Tuning]]:
    """Return the tunings of each workload with their runs, sorted by name.

    Raises:
        UserError: two records are of the same optimizer and experiment, or a name is invalid.
    """
    found: dict[str, list[Tuning]] = {}
    for record in sorted(records, key=lambda record: (record.experiment, record.optimizer)):
        if not re.fullmatch(r"[^/\0.][^/\0]*", record.experiment):
            raise UserError(f"A tuned.json has the experiment {record.experiment!r}, which is not a valid folder name.")
        if any(one.tuned.optimizer == record.optimizer for one in found.get(record.experiment, [])):
            raise UserError(
                f"Two files given by --tuned tune {record.optimizer} in {record.experiment}. Give only the one that "
                "the runs used."
            )
        mine = [run for run in runs if run.config.get("experiment") == record.experiment]
        own = [run for run in mine if run.config.get(OPTIMIZER) == record.optimizer and not _is_trial(run)]
        guessing = min((one for run in mine if (one := chance(run)) is not None), default=0.0)
        untuned = [run for run in own if not trials_of(run)]
        winners = [run for run in own if trials_of(run) and run.config.get("tuning.record") == tuned_hash(record)]
        others = len(own) - len(untuned) - len(winners)
        (untuned, unlike), (winners, also) = _of_one_group(untuned), _of_one_group(winners)
        tuning = Tuning(record, untuned, winners, others, guessing, unlike + also)
        found.setdefault(record.experiment, []).append(tuning)
    return found


def _is_trial(run: RecordedRun) -> bool:
    """Whether a run is a tuning trial, which is recognised by its not having a final validation."""
    return run.config.get("trainer.final_validation") is False


def _of_one_group(runs: list[RecordedRun]) -> tuple[list[RecordedRun], tuple[str, ...]]:
    """Return the runs; if they differ in more than their seeds, return no runs and the labels of their groups."""
    labels = [group.label for group in group_runs(runs)]
    return (runs, ()) if len(labels) < 2 else ([], tuple(labels))
