"""Learning rate schedules: torch's schedulers as the reference, linear warmup, and any arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.schedules import curve
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, LRScheduler, OneCycleLR, StepLR

from ranger21.optim.ranges import BETA, SHARE, Range
from ranger21.optim.schedules import (
    BASE_RATE,
    SCHEDULES,
    Length,
    after_warmup,
    arguments,
    constant,
    cosine,
    cyclic,
    one_cycle,
    step_decay,
    triangle,
)

QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def rates_of_torch(make: Callable[[torch.optim.Optimizer], LRScheduler], steps: int) -> list[float]:
    """Return the learning rates that a torch scheduler gives to these steps, from a rate of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for done in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if done < steps - 1:
            scheduler.step()
    return rates


# Compared with torch


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize(
    ("total", "part"), [(5, 0.3), (10, 0.77), (37, 0.3), (100, 0.1), (100, 0.3), (100, 0.5), (100, 1.0)]
)
def test_one_cycle_equals_torchs(total: int, part: float, anneal: str) -> None:
    """Step t has the rate of torch's step t; both start with `start` and end with `final`."""
    expected = rates_of_torch(
        lambda optimizer: OneCycleLR(
            optimizer, 1.0, total, pct_start=part, anneal_strategy=anneal[:3].replace("lin", "linear"),
            cycle_momentum=False,
        ),
        total,
    )  # fmt: skip
    rates = curve(one_cycle, total, rise=part * total, anneal=anneal)
    assert rates == pytest.approx(expected, abs=1e-12)
    assert rates[0] == pytest.approx(0.04) and max(rates) <= 1
    if part < 1:
        assert rates[-1] == pytest.approx(4e-6)


@pytest.mark.parametrize("divide", [2.0, 100.0])
@pytest.mark.parametrize("last", [10.0, 1e6])
def test_one_cycle_with_other_ends_equals_torchs(divide: float, last: float) -> None:
    expected = rates_of_torch(
        lambda optimizer: OneCycleLR(
            optimizer, 1.0, 40, div_factor=divide, final_div_factor=last, cycle_momentum=False
        ),
        40,
    )  # fmt: skip
    rates = curve(one_cycle, 40, rise=12, start=1 / divide, final=1 / (divide * last))
    assert rates == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("mode", "gamma"), [("triangular", 1.0), ("triangular2", 0.5)])
@pytest.mark.parametrize(("half_cycle", "low"), [(1, 0.1), (4, 0.1), (7, 0.5), (60, 0.0)])
def test_cyclic_equals_torchs(half_cycle: int, low: float, mode: str, gamma: float) -> None:
    """Step t has the rate of torch's step t; both start with `low`."""
    expected = rates_of_torch(
        lambda optimizer: CyclicLR(optimizer, low, 1.0, step_size_up=half_cycle, mode=mode, cycle_momentum=False), 50
    )
    assert curve(cyclic, 50, half_cycle=half_cycle, low=low, gamma=gamma) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("every", "gamma"), [(1, 0.5), (3, 0.1), (7, 0.3), (50, 0.1), (80, 0.1)])
def test_step_decay_equals_torchs(every: int, gamma: float) -> None:
    """Step t has the rate of torch's step t; the first `every` steps have the full rate."""
    expected = rates_of_torch(lambda optimizer: StepLR(optimizer, every, gamma), 50)
    assert curve(step_decay, 50, every=every, gamma=gamma) == pytest.approx(expected, abs=1e-15)


def test_step_decay_in_percent_falls_at_the_right_step() -> None:
    """7 % of 100 steps is slightly above 7 in floating point, but the first fall still comes before step 8."""
    assert 7 / 100 * 100 > 7
    assert curve(step_decay, 100, every=7 / 100 * 100)[:21] == curve(step_decay, 100, every=7)[:21]
    assert curve(step_decay, 30, every=7.5, gamma=0.5) == [1.0] * 8 + [0.5] * 7 + [0.25] * 8 + [0.125] * 7


@pytest.mark.parametrize(("epochs", "steps"), [(56, 7), (16, 312), (3, 1)])
def test_triangle_is_that_of_ffcv_imagenet(epochs: int, steps: int) -> None:
    """Its rate is given for the ends of epochs, 1e-4 of the peak, the peak after 2 epochs, 0, and linear in between."""
    ends = [np.interp(epoch, [0, 2, epochs], [1e-4, 1, 0]) for epoch in range(epochs + 1)]
    expected = [np.interp(i, [0, steps], ends[epoch : epoch + 2]) for epoch in range(epochs) for i in range(steps)]
    assert curve(triangle, epochs * steps, rise=2 * steps) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("over", "final"), [(50, 0.0), (50, 0.1), (20, 0.3), (1, 0.5), (80, 0.0)])
def test_cosine_is_one_step_ahead_of_torchs(over: int, final: float) -> None:
    """Step t has the rate of torch's step t + 1, so the last step has `final`; after that, torch's rate rises again."""
    expected = rates_of_torch(lambda optimizer: CosineAnnealingLR(optimizer, over, eta_min=final), over + 1)
    falling = min(over, 50)
    rates = curve(cosine, 50, over=over, final=final)
    assert rates[:falling] == pytest.approx(expected[1 : falling + 1], abs=1e-12)
    assert cosine(0, 50, over=over, final=final) == expected[0] == 1
    assert set(rates[over:]) <= {final}


# Linear warmup


@QUICK
@given(st.sampled_from([constant, cosine]), st.integers(2, 300), st.data())
def test_warmup_is_linear_and_does_not_change_the_rest_of_the_schedule(schedule, total, data) -> None:
    warmup = data.draw(st.integers(1, total - 1))
    span, rates = total - warmup, curve(after_warmup(schedule, warmup), total)
    top = max(schedule(0, span), schedule(1, span))
    assert rates[:warmup] == pytest.approx([top * t / warmup for t in range(1, warmup + 1)], abs=1e-12)
    assert rates[warmup:] == curve(schedule, span)
    assert rates[warmup - 1] >= rates[warmup] or schedule(1, span) > schedule(0, span)
    assert rates[-1] == schedule(span, span)


@QUICK
@given(st.integers(4, 300), st.floats(0.01, 0.5))
def test_a_warmup_of_a_fractional_number_of_steps_is_continuous(total: int, part: float) -> None:
    warmup = part * total
    rates, whole = curve(after_warmup(cosine, warmup), total), int(warmup)
    assert rates[:whole] == pytest.approx([t * rates[0] for t in range(1, whole + 1)])
    assert all(a <= b for a, b in pairwise(rates[:whole]))
    assert all(a >= b for a, b in pairwise(rates[whole:]))
    assert rates[0] > 0 and max(rates) <= 1 and rates[-1] == 0


def test_without_warmup_the_schedule_is_unchanged() -> None:
    assert after_warmup(cosine, 0) is cosine


# Any arguments

part = st.floats(0, 1)
spans, below_1 = st.floats(1, 1e4), st.floats(0, 1, exclude_max=True)
VALUES = {SHARE: part, BETA: below_1, BASE_RATE: st.floats(1e-9, 10)}  # of arguments, by their ranges


def values_of(mark: Range | Length) -> st.SearchStrategy:
    """Return a strategy for the values that an argument may have."""
    if isinstance(mark, Length):
        return part if mark.share else spans
    return VALUES.get(mark, st.sampled_from(["cosine", "linear"]))


ARGUMENTS = {name: {key: values_of(one.mark) for key, one in arguments(f).items()} for name, f in SCHEDULES.items()}


@pytest.mark.parametrize("name", SCHEDULES)
@QUICK
@given(total=st.integers(1, 150), data=st.data())
def test_multipliers_are_finite_and_not_negative(name: str, total: int, data: st.DataObject) -> None:
    """The schedules have any length and arguments, with and without warmup, and go on after the run's end."""
    kwargs = data.draw(st.fixed_dictionaries(ARGUMENTS[name]))

    def schedule(step: int, total_steps: int) -> float:
        return SCHEDULES[name](step, total_steps, **kwargs)

    warmed = after_warmup(schedule, data.draw(st.just(0.0) | st.floats(0.01, 0.99 * total)))
    for step in range(total + 3):
        for value in (schedule(step, total), warmed(step, total)):
            assert math.isfinite(value) and value >= 0
