"""What a run that failed counts as. A divergence is a result: to leave it out would flatter its group."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ranger21.report.groups.chance import chance
from ranger21.report.runs.run import DIVERGED, FINISHED, Run

Figure = Callable[[Run], float | None]  # a number of a run, None where it has none


@dataclass(frozen=True)
class Scored:
    """A figure that a failed run has, too: `of` a run that did not fail, and `failed` of one that did."""

    of: Figure
    failed: Figure

    def __call__(self, run: Run) -> float | None:
        """The figure of a run, by whether it failed."""
        return self.failed(run) if failed(run) else self.of(run)


def failed(run: Run) -> bool:
    """Whether a run diverged, or finished with a last validation that is not finite."""
    return run.status == DIVERGED


def ended(run: Run) -> bool:
    """Whether a run finished or failed: it is a result, and will not change any more."""
    return run.status == FINISHED or failed(run)


def top1_of_failed(run: Run) -> float:
    """Chance, in per cent; the worst there is, 0, where the count of classes is not known."""
    return chance(run) or 0.0


def top5_of_failed(run: Run) -> float:
    """Five guesses' chance, in per cent; 0 where the count of classes is not known."""
    return min(100.0, 5 * top1_of_failed(run))


def loss_of_failed(run: Run) -> float | None:
    """The loss of guessing, log(classes) in nats; None where the count of classes is not known."""
    guessing = chance(run)
    return math.log(100 / guessing) if guessing else None
