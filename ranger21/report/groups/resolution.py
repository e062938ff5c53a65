"""How finely a figure can be told: an accuracy over n images moves in steps of 100 / n points, its quantum.

The quantum bounds the spread from below. Where all seeds end at the same value, or a step apart, their spread is not
known to be 0, or a step: it is less than can be seen. So a mean is taken to be no surer than one rounded value is. Its
standard deviation is quantum / sqrt(12) if nothing is known of where it lies within the step. (It is not the binomial
spread of drawing other images: the validation set is the same for every run, and a verdict is about that set.)
"""

from __future__ import annotations

from collections.abc import Iterable

from ranger21.report.groups.chance import count
from ranger21.report.runs.run import Run


def quantum(runs: Iterable[Run], split: str = "val") -> float:
    """The step of an accuracy in points: of the smallest set of images among the runs; 0 where no manifest tells."""
    counts = [images for run in runs if (images := count(run, f"{split}_images"))]
    return 100 / min(counts) if counts else 0.0
