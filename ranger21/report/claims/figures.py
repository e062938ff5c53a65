"""Compute, for single runs, the numbers that the paper's claims are about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy.special import ndtri  # the normal distribution's quantiles

from ranger21.report.groups.chance import chance, data_count
from ranger21.report.runs.metrics import Array
from ranger21.report.runs.run import DIVERGED, FINISHED, RUNNING, RecordedRun, Seed, finite
from ranger21.report.statistics.pairs import by_seed

LOSS = "loss_smoothed"  # the paper's loss is interpreted as the validation loss with label smoothing
EARLY = 1 / 6  # share of the run: epoch 10 of 60
LATEST_EARLY = 1 / 4  # share of the run: a validation later than this is not early
END = 1 / 4  # share of the validations that count as the end, but at least FEWEST_AT_END of them
FEWEST_AT_END = 3
SMOOTHEST = 1e-9  # the least roughness, so that the logarithm is finite
CHANCE_MARGIN = 1.0  # points above chance that still count as chance; more if noise alone can exceed it
ONCE = 0.00135  # the probability that noise exceeds the margin in any validation of a run: that of three sigma


def validation_loss(run: RecordedRun) -> tuple[Array, Array]:
    """Return the epochs and losses, with label smoothing, of the validations during training."""
    return run.series(f"{run.watched}/{LOSS}")


def validations(run: RecordedRun) -> int:
    """Return the number of validations of a run, during training and at its end."""
    return len(run.series(f"{run.watched}/acc1")[1])


def roughness(run: RecordedRun) -> float | None:
    """Return the mean absolute second difference of the log validation loss from epoch to epoch (claim C5).

    The logarithm makes it independent of the scale of the loss. None if there are fewer than 3 validations.
    """
    loss = validation_loss(run)[1]
    return float(np.abs(np.diff(np.log(loss), 2)).mean()) if len(loss) > 2 and (loss > 0).all() else None


def log_roughness(run: RecordedRun) -> float | None:
    """Return the logarithm of the roughness, so that two curves are compared by a factor."""
    rough = roughness(run)
    return None if rough is None else math.log(max(rough, SMOOTHEST))


def early_loss(run: RecordedRun) -> float | None:
    """Return the loss at the early validation, nearest to a sixth of the run (claim C4); None if there is none."""
    mark = _early_validation(run)
    return None if mark is None else float(validation_loss(run)[1][mark])


def lowest_early_loss(run: RecordedRun) -> float | None:
    """Return the lowest validation loss up to the early validation; None if there is none."""
    mark = _early_validation(run)
    return None if mark is None else float(validation_loss(run)[1][: mark + 1].min())


def early_epoch(runs: Sequence[RecordedRun]) -> tuple[float, float]:
    """Return the epoch of the early validation and the last epoch, from the first finished run that has both."""
    for run in runs:
        if run.status == FINISHED and (mark := _early_validation(run)) is not None:
            return float(validation_loss(run)[0][mark]), run.last("epoch") or 0.0
    return 0.0, 0.0


def last_slope(run: RecordedRun) -> float | None:
    """Return the slope of top-1 over the last validations, in points per epoch (claim C7); None if too few."""
    epochs, values = run.series(f"{run.watched}/acc1")
    count = max(FEWEST_AT_END, round(END * len(values)))
    if len(values) < count or epochs[-count] == epochs[-1]:
        return None
    return float(np.polyfit(epochs[-count:] - epochs[-1], values[-count:], 1)[0])


def reached(run: RecordedRun, loss: float) -> float | None:
    """Return the epoch at which the validation loss first falls to `loss`, interpolated; None if it never does."""
    epochs, losses = validation_loss(run)
    below = np.flatnonzero(losses <= loss)
    if not len(below):
        return None
    first = int(below[0])
    if first == 0:
        return float(epochs[0])
    share = (losses[first - 1] - loss) / (losses[first - 1] - losses[first])
    return float(epochs[first - 1] + share * (epochs[first] - epochs[first - 1]))


def catching_up(
    leaders: Sequence[RecordedRun], followers: Sequence[RecordedRun]
) -> tuple[dict[Seed, tuple[float, float]], int]:
    """Compare when leaders and followers reach the leader's early loss, for each seed that both have (claim C4).

    A seed is left out if the leader's first validation is its early one, because then no follower could be earlier.

    Returns:
        For each seed the leader's and the follower's time as shares of the run's length (the mean if a seed was run
        more than once), and the number of seeds whose follower never reaches the loss. These count with share 1.
    """
    found = [
        (leader.seed, *delay)
        for leader, follower in product(leaders, followers)
        if leader.seed is not None and leader.seed == follower.seed and (delay := _delay(leader, follower)) is not None
    ]
    early = by_seed((seed, share) for seed, share, _ in found)
    later = by_seed((seed, 1.0 if share is None else share) for seed, _, share in found)
    return {seed: (early[seed], later[seed]) for seed in early}, len(
        {seed for seed, _, share in found if share is None}
    )


def between_validations(runs: Sequence[RecordedRun]) -> float:
    """Return the longest interval between validations, as a share of the run's length; 0 if there are none."""
    return max((1 / len(losses) for run in runs if len(losses := validation_loss(run)[1])), default=0.0)


def best_is_last(run: RecordedRun) -> bool:
    """Whether the last validation has the highest top-1."""
    values = run.series(f"{run.watched}/acc1")[1]
    return bool(len(values)) and float(values.max()) == float(values[-1])


def leaves_chance(run: RecordedRun) -> bool | None:
    """Whether validation top-1 ever exceeds chance by more than the margin (claims C6, C7).

    None if that is unknown: the number of classes is not recorded, or the run has not ended and has not reached EARLY,
    where the paper stopped. A diverged run that never exceeded chance has not left it.
    """
    values, guessing = run.series(f"{run.watched}/acc1")[1], chance(run)
    if guessing is None:
        return None
    images = run.config.get("data.holdout") or data_count(run, "val_images")
    each = -float(ndtri(ONCE / max(1, len(values))))  # standard errors, corrected for the number of validations
    noise = each * math.sqrt(guessing * (100 - guessing) / images) if finite(images) and images > 0 else 0.0
    if bool((values > guessing + max(CHANCE_MARGIN, noise)).any()):
        return True
    length = run.config.get("trainer.epochs")
    too_early = run.status == RUNNING and (run.last("epoch") or 0.0) < EARLY * (length if finite(length) else math.inf)
    return None if too_early or (run.status != DIVERGED and not len(values)) else False


def _early(run: RecordedRun) -> tuple[float, float] | None:
    """Return epoch and loss of the early validation; None if it is the first validation."""
    mark = _early_validation(run)
    epochs, losses = validation_loss(run)
    return (float(epochs[mark]), float(losses[mark])) if mark else None


def _early_validation(run: RecordedRun) -> int | None:
    """Return the index of the validation nearest to a sixth of the run; None if it is later than a quarter."""
    epochs, last = validation_loss(run)[0], run.last("epoch")
    if not len(epochs) or not last:
        return None
    index = int(np.abs(epochs - EARLY * last).argmin())
    return index if epochs[index] <= LATEST_EARLY * last else None


def _delay(leader: RecordedRun, follower: RecordedRun) -> tuple[float, float | None] | None:
    """Return when two finished runs have the leader's early loss, as shares of their length.

    The follower's share is None if it never reaches the loss. The result is None if a run has not finished, or logged
    too little.
    """
    mark, end, own_end = _early(leader), leader.last("epoch"), follower.last("epoch")
    if {leader.status, follower.status} != {FINISHED} or mark is None or not end or not own_end:
        return None
    if not len(validation_loss(follower)[0]):
        return None
    epoch = reached(follower, mark[1])
    return mark[0] / end, None if epoch is None else epoch / own_end
