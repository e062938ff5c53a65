"""The learning-rate range test (Smith 2017): a rate that grows with every step, and the loss that answers it."""

import copy
import math
from dataclasses import dataclass

import torch

from ranger21.engine.loop import Clock, Job, take_step

SMOOTHING = 0.9  # of the running mean of the loss
TOO_HIGH = 4.0  # times the lowest loss: the test has seen enough


@dataclass
class RangeTest:
    """The rates that were tried, the loss at each, its running mean, and what follows from them."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]

    @property
    def lowest(self) -> int:
        """Where the smoothed loss is lowest."""
        return min(range(len(self.smoothed)), key=self.smoothed.__getitem__)

    @property
    def steepest(self) -> int | None:
        """Where the smoothed loss falls fastest with the rate's logarithm, before it is lowest; None: nowhere."""
        falls = [self.smoothed[i] - self.smoothed[i - 1] for i in range(1, self.lowest + 1)]
        if not falls or min(falls) >= 0:
            return None
        return 1 + min(range(len(falls)), key=falls.__getitem__)

    @property
    def suggestion(self) -> float | None:
        """The rate of the steepest fall, but a tenth of that of the lowest loss at most; None: there is none."""
        if self.steepest is None:
            return None
        rate = min(self.rates[self.steepest], self.rates[self.lowest] / 10)
        return rate if rate >= self.rates[0] else None


def range_test(job: Job, low: float, high: float, steps: int) -> RangeTest:
    """Trains from rate `low` to `high`, growing by the same factor each step, and puts everything back as it was.

    The rate is the first parameter group's; the others keep their ratio to it. Ends early when the loss is not finite
    or far above its lowest. The weights, buffers and optimizer are afterwards those of before, bit for bit.
    """
    model_state = copy.deepcopy(job.model.state_dict())
    optimizer_state = copy.deepcopy(job.optimizer.state_dict())
    base = job.optimizer.param_groups[0]["initial_lr"]
    rates = [low * (high / low) ** (i / max(1, steps - 1)) for i in range(steps)]
    job.schedule = lambda step, total: rates[step - 1] / base
    found, mean, clock = RangeTest([], [], []), 0.0, Clock(0.0, None)
    job.model.train()
    for step, rate in enumerate(rates, start=1):
        take_step(job, step, clock)
        job.tracker.progress(step)
        loss = job.meter.metrics().get("train/loss", math.inf)
        job.meter.reset()
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed = mean / (1 - SMOOTHING**step)
        if not math.isfinite(loss) or (found.smoothed and smoothed > TOO_HIGH * min(found.smoothed)):
            break
        found.rates.append(rate)
        found.losses.append(loss)
        found.smoothed.append(smoothed)
    with torch.no_grad():
        job.model.load_state_dict(model_state)
    job.optimizer.load_state_dict(optimizer_state)
    return found
