"""Bin the curve of a run, and average curves over runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ranger21.report.groups.grouping import Group
from ranger21.report.runs.metrics import Array

Curve = tuple[Array, Array]  # epochs, values


def bin_width(groups: Sequence[Group]) -> float:
    """Return the bin width for the training loss, in epochs: a round number near a hundredth of the longest run."""
    longest = max((run.last("epoch") or 0.0 for group in groups for run in group.runs), default=0.0)
    if longest <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(longest / 100))
    return next(unit * times for times in (1, 2, 5, 10) if unit * times >= longest / 100 * (1 - 1e-9))


def binned(curve: Curve, width: float) -> Curve:
    """Return the means of a curve over the bins (0, width], (width, 2 width], … of epochs, at the bin centres."""
    epochs, values = curve
    index = np.maximum(np.ceil(epochs / width - 1e-9), 1.0)
    bins, place = np.unique(index, return_inverse=True)
    return (bins - 0.5) * width, np.bincount(place, values) / np.bincount(place)


def average(curves: Sequence[Curve]) -> tuple[Array, Array, Array, Array]:
    """Return the epochs, mean, minimum and maximum of several curves, on the union of their epochs.

    The range is limited to where every curve has values, so that the same runs are averaged along the whole line.
    """
    curves = [curve for curve in curves if len(curve[0])]
    if not curves:
        return (np.empty(0),) * 4
    first, last = max(epochs[0] for epochs, _ in curves), min(epochs[-1] for epochs, _ in curves)
    union = np.unique(np.concatenate([epochs for epochs, _ in curves]))
    union = union[(union >= first) & (union <= last)]
    stack = np.stack([np.interp(union, epochs, values) for epochs, values in curves])
    return union, stack.mean(axis=0), stack.min(axis=0), stack.max(axis=0)
