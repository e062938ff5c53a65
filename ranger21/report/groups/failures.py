"""The values that failed runs count as. A divergence is a result: leaving it out would flatter its group."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ranger21.report.groups.chance import chance
from ranger21.report.runs.run import DIVERGED, FINISHED, RecordedRun

Figure = Callable[[RecordedRun], float | None]  # computes a number from a run; None if the run has none


@dataclass(frozen=True)
class ScoredFigure:
    """A number computed from a run that is also defined for failed runs.

    Attributes:
        of: computes it for a run that did not fail.
        failed: computes it for a run that failed.
    """

    of: Figure
    failed: Figure

    def __call__(self, run: RecordedRun) -> float | None:
        """Return the figure of a run, whether or not it failed."""
        return self.failed(run) if failed(run) else self.of(run)


def failed(run: RecordedRun) -> bool:
    """Whether a run diverged, or finished with a last validation that was not finite."""
    return run.status == DIVERGED


def ended(run: RecordedRun) -> bool:
    """Whether a run finished or failed, so that its result is final."""
    return run.status == FINISHED or failed(run)


def top1_of_failed(run: RecordedRun) -> float:
    """Return chance accuracy in per cent; 0, the worst possible, if the number of classes is unknown."""
    return chance(run) or 0.0


def top5_of_failed(run: RecordedRun) -> float:
    """Return the chance accuracy of five guesses in per cent; 0 if the number of classes is unknown."""
    return min(100.0, 5 * top1_of_failed(run))


def loss_of_failed(run: RecordedRun) -> float | None:
    """Return the loss of uniform guessing, log(classes) in nats; None if the number of classes is unknown."""
    guessing = chance(run)
    return math.log(100 / guessing) if guessing else None
