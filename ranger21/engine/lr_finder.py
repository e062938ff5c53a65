"""The learning-rate range test (Smith 2017): the loss while the learning rate grows with every step."""

import copy
import math
from dataclasses import dataclass, replace

import torch

from ranger21.engine.clock import Clock
from ranger21.engine.loop import take_step
from ranger21.engine.parts import TrainSetup, TrainState
from ranger21.tracking import Tracker

SMOOTHING = 0.9  # decay of the running mean of the loss
TOO_HIGH = 4.0  # the test ends when the smoothed loss is this many times its lowest


@dataclass
class RangeTest:
    """The learning rates that were tried, with the loss and the smoothed loss at each."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]

    @property
    def lowest(self) -> int:
        """The index of the lowest smoothed loss."""
        return min(range(len(self.smoothed)), key=self.smoothed.__getitem__)

    @property
    def steepest(self) -> int | None:
        """The index of the fastest fall of the smoothed loss over the rate's logarithm; None if it never falls."""
        falls = [self.smoothed[i] - self.smoothed[i - 1] for i in range(1, self.lowest + 1)]
        if not falls or min(falls) >= 0:
            return None
        return 1 + min(range(len(falls)), key=falls.__getitem__)

    @property
    def suggestion(self) -> float | None:
        """The rate of the steepest fall, but at most a tenth of the rate of the lowest loss; None if it never falls."""
        if self.steepest is None:
            return None
        rate = min(self.rates[self.steepest], self.rates[self.lowest] / 10)
        return rate if rate >= self.rates[0] else None


def range_test(
    setup: TrainSetup, state: TrainState, tracker: Tracker, low: float, high: float, steps: int
) -> RangeTest:
    """Train while the learning rate grows from `low` to `high`, by the same factor each step, and restore the state.

    The rate is that of the first parameter group; the others keep their ratio to it. The test ends early when the loss
    is not finite or far above its lowest. Weights, buffers and optimizer are restored bit for bit; an average of the
    weights is not updated.
    """
    state = replace(state, ema=None)
    model, optimizer, meter = state.model, state.optimizer, state.meter
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    base = optimizer.param_groups[0]["initial_lr"]
    rates = [low * (high / low) ** (i / max(1, steps - 1)) for i in range(steps)]
    setup = replace(setup, schedule=lambda step, total: rates[step - 1] / base)
    found, mean, clock = RangeTest([], [], []), 0.0, Clock(0.0, None)
    setup.model.train()
    for step, rate in enumerate(rates, start=1):
        take_step(setup, state, step, clock)
        tracker.progress(step)
        loss = meter.metrics().get("train/loss", math.inf)
        meter.reset()
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed = mean / (1 - SMOOTHING**step)
        if not math.isfinite(loss) or (found.smoothed and smoothed > TOO_HIGH * min(found.smoothed)):
            break
        found.rates.append(rate)
        found.losses.append(loss)
        found.smoothed.append(smoothed)
    with torch.no_grad():
        model.load_state_dict(before[0])
    optimizer.load_state_dict(before[1])
    return found
