"""The resolution of an accuracy: over n images it can only change in steps of 100 / n points, its quantum.

The quantum is a lower bound on what is known of the spread. If all seeds end at the same value, their spread is not
known to be 0, only to be too small to see. The standard error of a mean is therefore never taken to be below that of
one rounded value, quantum / sqrt(12), the standard deviation of a uniform distribution over one step. (This is not the
binomial spread of sampling other images: the validation set is the same for every run, and verdicts are about it.)
"""

from __future__ import annotations

from collections.abc import Iterable

from ranger21.report.groups.chance import data_count
from ranger21.report.runs.run import RecordedRun


def quantum(runs: Iterable[RecordedRun], split: str = "val") -> float:
    """Return the step of an accuracy in points, for the smallest `split` of the runs; 0 if none records its size."""
    counts = [images for run in runs if (images := data_count(run, f"{split}_images"))]
    return 100 / min(counts) if counts else 0.0
