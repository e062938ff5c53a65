"""The numbers that the paper's claims are about, of single runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy.special import ndtri  # the normal distribution's quantiles

from ranger21.report.groups.chance import chance, count
from ranger21.report.runs.metrics import Array
from ranger21.report.runs.run import DIVERGED, FINISHED, RUNNING, Run, Seed, finite
from ranger21.report.statistics.pairs import by_seed

LOSS = "loss_smoothed"  # the paper's is taken for the validation's, with label smoothing (an inference)
EARLY = 1 / 6  # of the run: epoch 10 of 60
LATEST_EARLY = 1 / 4  # of the run: a first validation that comes later is not early
END = 1 / 4  # of the validations, the last ones, but at least FEWEST_AT_END
FEWEST_AT_END = 3
SMOOTHEST = 1e-9  # what no curve is smoother than: its logarithm can be taken
CHANCE_MARGIN = 1.0  # points above chance that are chance still, or what a run at chance hardly ever exceeds, if more
ONCE = 0.00135  # how often a run at chance exceeds that, whatever its number of validations: as three standard errors


def validation_loss(run: Run) -> tuple[Array, Array]:
    """Epochs and losses of the validations while it trained, with label smoothing."""
    return run.series(f"{run.watched}/{LOSS}")


def validations(run: Run) -> int:
    """How many validations a run has, while it trained and at its end."""
    return len(run.series(f"{run.watched}/acc1")[1])


def roughness(run: Run) -> float | None:
    """Mean absolute second difference of the logarithm of the validation loss, an epoch apart (claim C5).

    Of the logarithm, so that a lower loss is not for that alone a smoother one. None with fewer than 3 validations.
    """
    loss = validation_loss(run)[1]
    return float(np.abs(np.diff(np.log(loss), 2)).mean()) if len(loss) > 2 and (loss > 0).all() else None


def log_roughness(run: Run) -> float | None:
    """The logarithm of the roughness, so that of two curves one is smoother by a factor."""
    rough = roughness(run)
    return None if rough is None else math.log(max(rough, SMOOTHEST))


def early_loss(run: Run) -> float | None:
    """The loss of the validation nearest to a sixth of the run (claim C4); None if that is later than a quarter."""
    mark = _early_validation(run)
    return None if mark is None else float(validation_loss(run)[1][mark])


def lowest_early_loss(run: Run) -> float | None:
    """The lowest loss until then."""
    mark = _early_validation(run)
    return None if mark is None else float(validation_loss(run)[1][: mark + 1].min())


def early_epoch(runs: Sequence[Run]) -> tuple[float, float]:
    """The epoch of that validation, and the last epoch, of the first finished run that has them."""
    for run in runs:
        if run.status == FINISHED and (mark := _early_validation(run)) is not None:
            return float(validation_loss(run)[0][mark]), run.last("epoch") or 0.0
    return 0.0, 0.0


def last_slope(run: Run) -> float | None:
    """The slope of top-1 over the last validations, in points an epoch (claim C7); None without enough of them."""
    epochs, values = run.series(f"{run.watched}/acc1")
    count = max(FEWEST_AT_END, round(END * len(values)))
    if len(values) < count or epochs[-count] == epochs[-1]:
        return None
    return float(np.polyfit(epochs[-count:] - epochs[-1], values[-count:], 1)[0])


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


def catching_up(leaders: Sequence[Run], followers: Sequence[Run]) -> tuple[dict[Seed, tuple[float, float]], int]:
    """For each seed that both have: the leader's early epoch, and the follower's with the same loss (claim C4).

    In shares of the run's length; the mean where a seed was run more than once, as its runs are not independent. Also
    in how many seeds a follower never reaches it: it counts with its end. Without a seed whose leader had a validation
    before the early one nothing can be said: the follower could not be earlier.
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


def between_validations(runs: Sequence[Run]) -> float:
    """The longest step from one validation to the next, as a share of the run's length; 0 without validations."""
    return max((1 / len(losses) for run in runs if len(losses := validation_loss(run)[1])), default=0.0)


def best_is_last(run: Run) -> bool:
    """Whether the highest validation top-1 is that of the last validation."""
    values = run.series(f"{run.watched}/acc1")[1]
    return bool(len(values)) and float(values.max()) == float(values[-1])


def leaves_chance(run: Run) -> bool | None:
    """Whether validation top-1 ever is more than CHANCE_MARGIN points above chance (claims C6, C7).

    None where that cannot be said: the count of classes is not known, or a run without an end has not come as far as
    EARLY, where the paper stopped. A diverged run that was at chance until then has not left it.
    """
    values, guessing = run.series(f"{run.watched}/acc1")[1], chance(run)
    if guessing is None:
        return None
    images = run.config.get("data.holdout") or count(run, "val_images")
    each = -float(ndtri(ONCE / max(1, len(values))))  # standard errors: more looks, more of them by chance
    noise = each * math.sqrt(guessing * (100 - guessing) / images) if finite(images) and images > 0 else 0.0
    if bool((values > guessing + max(CHANCE_MARGIN, noise)).any()):
        return True
    length = run.config.get("trainer.epochs")
    too_early = run.status == RUNNING and (run.last("epoch") or 0.0) < EARLY * (length if finite(length) else math.inf)
    return None if too_early or (run.status != DIVERGED and not len(values)) else False


def _early(run: Run) -> tuple[float, float] | None:
    """The epoch of the early validation, and its loss; None if it is the first validation, which nothing precedes."""
    mark = _early_validation(run)
    epochs, losses = validation_loss(run)
    return (float(epochs[mark]), float(losses[mark])) if mark else None


def _early_validation(run: Run) -> int | None:
    """Which validation is nearest to a sixth of the run; None if that is later than a quarter."""
    epochs, last = validation_loss(run)[0], run.last("epoch")
    if not len(epochs) or not last:
        return None
    index = int(np.abs(epochs - EARLY * last).argmin())
    return index if epochs[index] <= LATEST_EARLY * last else None


def _delay(leader: Run, follower: Run) -> tuple[float, float | None] | None:
    """The shares of their length at which two finished runs have the leader's early loss; None for a follower's never.

    None altogether where one of them has not finished, or logged too little to tell.
    """
    mark, end, own_end = _early(leader), leader.last("epoch"), follower.last("epoch")
    if {leader.status, follower.status} != {FINISHED} or mark is None or not end or not own_end:
        return None
    if not len(validation_loss(follower)[0]):
        return None
    epoch = reached(follower, mark[1])
    return mark[0] / end, None if epoch is None else epoch / own_end
