"""The numbers that the paper's claims are about, of single runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranger21.report.metrics import Array
from ranger21.report.runs import DIVERGED, RUNNING, Run
from ranger21.report.summary import best

__all__ = ["best", "best_is_last", "catching_up", "leaves_chance", "reached", "roughness", "validation_loss"]

LOSSES = ("val/loss_smoothed", "val/loss")  # the paper's is taken for the objective, smoothed (an inference)
EARLY = 1 / 6  # of the run: epoch 10 of 60
ENOUGH_EPOCHS = 2  # of validation, before a run that still goes on can be said to be at chance


def roughness(run: Run) -> float | None:
    """Mean absolute second difference of the logarithm of the validation loss, an epoch apart (claim C5).

    Of the logarithm, so that a lower loss is not for that alone a smoother one. None with fewer than 3 validations.
    """
    loss = validation_loss(run)[1]
    return float(np.abs(np.diff(np.log(loss), 2)).mean()) if len(loss) > 2 and (loss > 0).all() else None


def reached(run: Run, loss: float) -> float | None:
    """The epoch at which a run's validation loss first is as low as `loss`, between validations by interpolation."""
    epochs, losses = validation_loss(run)
    below = np.flatnonzero(losses <= loss)
    if not len(below):
        return None
    first = int(below[0])
    if first == 0:
        return float(epochs[0])
    share = (losses[first - 1] - loss) / (losses[first - 1] - losses[first])
    return float(epochs[first - 1] + share * (epochs[first] - epochs[first - 1]))


def catching_up(leaders: Sequence[Run], followers: Sequence[Run]) -> tuple[list[tuple[float, float]], int]:
    """For each follower: the early epoch of the leaders' mean loss and the epoch at which it reaches that (claim C4).

    Of the same seed where there is one, of all leaders together otherwise. Also how many never reach it: they count
    with their last epoch.
    """
    found, never = [], 0
    for follower in followers:
        own = [run for run in leaders if run.seed == follower.seed] or list(leaders)
        marks = [mark for run in own if (mark := _early(run)) is not None]
        last = follower.last("epoch")
        if not marks or last is None or not len(validation_loss(follower)[0]):
            continue
        early, loss = np.mean(marks, axis=0)
        epoch = reached(follower, float(loss))
        never += epoch is None
        found.append((float(early), last if epoch is None else epoch))
    return found, never


def best_is_last(run: Run) -> bool:
    """Whether the highest validation top-1 is that of the last validation."""
    values = run.series("val/acc1")[1]
    return bool(len(values)) and float(values.max()) == float(values[-1])


def leaves_chance(run: Run, margin: float) -> bool | None:
    """Whether validation top-1 ever is more than `margin` points above chance (claims C6, C7).

    None where that cannot be said: no count of classes is known, or the run has hardly begun. A diverged run that was
    at chance until then has not left it.
    """
    data = run.manifest.get("data")
    classes = data.get("classes") if isinstance(data, dict) else None
    values = run.series("val/acc1")[1]
    if not isinstance(classes, int) or classes < 2:
        return None
    if bool((values > 100 / classes + margin).any()):
        return True
    unknown = len(values) < ENOUGH_EPOCHS if run.status == RUNNING else run.status != DIVERGED and not len(values)
    return None if unknown else False


def _early(run: Run) -> tuple[float, float] | None:
    """The epoch of the validation nearest to a sixth of the run, and its loss."""
    epochs, losses = validation_loss(run)
    last = run.last("epoch")
    if not len(epochs) or last is None:
        return None
    index = int(np.abs(epochs - EARLY * last).argmin())
    return float(epochs[index]), float(losses[index])


def validation_loss(run: Run) -> tuple[Array, Array]:
    """Epochs and validation losses."""
    return next((curve for key in LOSSES if len((curve := run.series(key))[0])), run.series(LOSSES[-1]))
