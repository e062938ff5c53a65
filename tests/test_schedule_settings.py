"""Settings of schedules: durations, configured curves, scaled learning rates, and the training loop."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.distributed import WORLD
from support.schedules import curve
from torch import nn

from ranger21.config import VARIANTS, durations
from ranger21.config.compose import compose_config
from ranger21.config.schedules import LinearThenSqrtConfig, LrScalingConfig, ScaledConfig, ScheduleConfig
from ranger21.data.images import ImageBatch
from ranger21.engine.clock import Clock
from ranger21.engine.course import Course, Growth
from ranger21.engine.loop import take_step
from ranger21.engine.meters import Meter, NonFinite
from ranger21.engine.parts import TrainSetup, TrainState
from ranger21.engine.plan import Plan
from ranger21.engine.precision import Precision
from ranger21.optim.schedules import (
    SCHEDULES,
    Length,
    arguments,
    cosine,
)
from ranger21.run.optimizers import build_schedule, scaled_lr
from ranger21.system.errors import UserError

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
COURSE = Course(80, 16, 10)  # 5 steps per epoch, 50 in total


# Durations


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        *[(f"12{name}", 12, "steps") for name in ("", " step", " steps", "steps")],
        *[(f"2.5{name}", 2.5, "epochs") for name in ("epoch", " epochs", "  Epochs ")],
        *[(f"1.2e6{name}", 1.2e6, "images") for name in ("image", " images", " IMAGES")],
        *[(f"22.5{name}", 22.5, "percent") for name in ("%", " %", " percent", "percent")],
        *[(300, 300, "steps"), (0, 0, "steps"), (2e4, 20_000, "steps"), ("1e3", 1000, "steps"), (" 7 ", 7, "steps")],
        *[("1_281_167 images", 1_281_167, "images"), (".5 epochs", 0.5, "epochs"), ("5. epochs", 5, "epochs")],
        *[("3e+2", 300, "steps"), ("0%", 0, "percent"), ("100%", 100, "percent"), ("7.0", 7, "steps")],
    ],
)
def test_durations_are_parsed_in_every_unit(text: str | float, number: float, unit: str) -> None:
    assert durations.parse(text) == (number, unit)


@pytest.mark.parametrize(
    "text",
    ["", " ", "%", "epochs", "-1", "-5%", "+5", "nan", "inf", "None", "ten images", "5 epochen", "5 e", "5 s", "5 e 3",
     "1,000", "1e-3 epochs", "5 5 epochs", "5 epochs 3", "1.2.3", "5%%", "1/2 epochs", "_1", "."],
)  # fmt: skip
def test_text_that_is_not_a_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"it must be a duration, such as 300 .* '5 epochs', '1.2e6 images' or '22%'"):
        durations.parse(text)


def test_impossible_durations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a whole number of steps; a part of the run is written '22%'\.$"):
        durations.parse(0.22)
    for text in ("101%", "100.5 percent", "1e3%"):
        with pytest.raises(ValueError, match=r"it must be 100% at most\.$"):
            durations.parse(text)


# As configured


@cache
def configured(name: str) -> ScheduleConfig:
    return compose_config(["optimizer=adamw", f"schedule={name}"]).schedule


def built(name: str, course: Course = COURSE, **changes: Any) -> list[float]:
    schedule = build_schedule(replace(configured(name), **changes), course)
    return curve(schedule, course.total_steps)


DURATIONS = [
    *[
        (name, key)
        for name, f in SCHEDULES.items()
        for key, one in arguments(f).items()
        if isinstance(one.mark, Length)
    ],
    *[(name, "linear_warmup") for name in SCHEDULES],
]


@pytest.mark.parametrize(("name", "key"), DURATIONS)
def test_a_length_gives_the_same_curve_in_every_unit(name: str, key: str) -> None:
    """The batch size divides the number of images, so each epoch uses all of them."""
    curves = [built(name, **{key: length}) for length in ("20", "4 epochs", "320 images", "40%", "40 percent")]
    assert all(other == pytest.approx(curves[0], abs=1e-12) for other in curves[1:])
    assert built(name, **{key: "10"}) != pytest.approx(curves[0], abs=1e-3)


@pytest.mark.parametrize(("name", "key"), [pair for pair in DURATIONS if pair[1] != "linear_warmup"])
def test_percentages_refer_to_the_steps_after_warmup(name: str, key: str) -> None:
    """A warmup of 40 % leaves 30 of 50 steps; half of them are 15."""
    in_percent, in_steps = (built(name, linear_warmup="40%", **{key: length}) for length in ("50%", "15"))
    assert in_percent == pytest.approx(in_steps, abs=1e-12)


def test_values_on_the_command_line_change_the_curve() -> None:
    overrides = ["optimizer=adamw", "schedule=cosine", "schedule.over=6 epochs", "schedule.final=0.25"]
    schedule = build_schedule(compose_config([*overrides, "schedule.linear_warmup=20%"]).schedule, COURSE)
    rates = curve(schedule, 50)
    assert rates[:10] == pytest.approx([t / 10 for t in range(1, 11)])
    assert rates[10:] == pytest.approx([cosine(t, 40, over=30, final=0.25) for t in range(1, 41)])
    assert set(rates[39:]) == {0.25}


OTHERS: dict[str, Any] = {
    **dict.fromkeys(("linear_warmup", "warmup", "warmdown", "every", "half_cycle"), "5"),
    **dict.fromkeys(("beta2", "gamma", "final", "start", "low"), 0.5),
    **dict.fromkeys(("over", "rise"), "20"),
    "anneal": "linear",
    "lr": 1e-3,
}


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, f.name) for name, cls in VARIANTS["schedule"].items() for f in fields(cls) if f.name != "name"],
)
def test_every_argument_changes_the_curve(name: str, key: str) -> None:
    assert getattr(configured(name), key) != OTHERS[key]
    assert built(name, **{key: OTHERS[key]}) != pytest.approx(built(name), abs=1e-3)


# Scaled rates


def test_learning_rates_are_scaled_with_the_batch_size() -> None:
    none, linear, sqrt = LrScalingConfig("none"), ScaledConfig("linear", 64), ScaledConfig("sqrt", 64)
    both = LinearThenSqrtConfig("linear_then_sqrt", 64, 1024)
    expected = {
        16: (1, 0.25, 0.5, 0.25),
        64: (1, 1, 1, 1),
        256: (1, 4, 2, 4),
        1024: (1, 16, 4, 16),
        4096: (1, 64, 8, 32),
    }
    for batch_size, factors in expected.items():
        rates = [scaled_lr(0.1, scaling, batch_size) for scaling in (none, linear, sqrt, both)]
        assert rates == pytest.approx([0.1 * factor for factor in factors], rel=1e-12)


@QUICK
@given(st.integers(1, 500), st.integers(0, 5000), st.integers(1, 20_000))
def test_linear_then_sqrt_is_continuous(base: int, more: int, batch_size: int) -> None:
    """The rate rises linearly with the batch size up to `linear_until`, and then with its square root."""
    until = base + more
    both, linear = LinearThenSqrtConfig("linear_then_sqrt", base, until), ScaledConfig("linear", base)
    now, then = (scaled_lr(1.0, both, size) for size in (batch_size, batch_size + 1))
    assert 0 < then - now <= 1 / base + 1e-9
    if batch_size <= until:
        assert now == scaled_lr(1.0, linear, batch_size)
    else:
        assert now == pytest.approx(math.sqrt(until / base) * scaled_lr(1.0, ScaledConfig("sqrt", base), batch_size))
    assert scaled_lr(1.0, both, 4 * until) == pytest.approx(2 * scaled_lr(1.0, both, until))


def test_each_lr_scaling_can_be_configured() -> None:
    found = {name: compose_config([f"lr_scaling={name}"]).lr_scaling for name in VARIANTS["lr_scaling"]}
    rates = {name: scaled_lr(1.0, scaling, 4096) for name, scaling in found.items()}
    assert rates == {"none": 1, "linear": 64, "sqrt": 8, "linear_then_sqrt": 32}


# In the training loop


@pytest.mark.parametrize("name", SCHEDULES)
def test_groups_keep_the_ratio_of_their_learning_rates(name: str) -> None:
    """The loop is the real one, and includes steps with a multiplier of 0."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW([{"params": [model.weight]}, {"params": [model.bias], "lr": 1e-3}], lr=1e-2)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    schedule = build_schedule(replace(configured(name), linear_warmup="4"), Course(16, 4, 5))
    batch = ImageBatch(torch.ones(4, 3), None, torch.zeros(4, dtype=torch.int64), [])
    to_input: Any = lambda images, *_: images  # noqa: E731
    setup = TrainSetup(
        world=WORLD, model=model, batches=(batch for _ in range(20)), to_input=to_input, schedule=schedule,
        precision=Precision("fp32", WORLD.device), plan=Plan(Course(16, 4, 5), 1, 1, 5, None, None),
        seed=0, loss=torch.nn.functional.cross_entropy, memory_format=torch.contiguous_format,
    )  # fmt: skip
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = TrainState(model, optimizer, scaler, Meter(WORLD), NonFinite(WORLD))
    clock = Clock(0.0, None)
    for step in range(1, 21):
        take_step(setup, state, step, clock)
        factor = schedule(step, 20)
        assert [group["lr"] for group in optimizer.param_groups] == [1e-2 * factor, 1e-3 * factor]
        assert [group["initial_lr"] for group in optimizer.param_groups] == [1e-2, 1e-3]


def test_a_warmup_as_long_as_the_run_is_refused() -> None:
    config = compose_config(["optimizer=adamw", "schedule=cosine", "schedule.linear_warmup=100%"])
    with pytest.raises(UserError, match=r"schedule.linear_warmup=100% takes the whole run of 50 steps"):
        build_schedule(config.schedule, COURSE)


def test_a_warmup_and_a_warmdown_longer_than_the_run_are_refused() -> None:
    """The sum may depend on the length of the run: 30 of 50 steps, and half of them."""
    config = compose_config(["schedule.warmup=30", "schedule.warmdown=50%"])
    with pytest.raises(UserError, match=r"schedule.warmup=30 and schedule.warmdown=50% .* more than the 50 steps"):
        build_schedule(config.schedule, COURSE)
    build_schedule(compose_config(["schedule.warmup=25", "schedule.warmdown=50%"]).schedule, COURSE)


def test_lengths_in_epochs_count_full_batches_and_are_refused_for_growing_batches() -> None:
    """85 images in batches of 16 give 5 steps per epoch, and leave 5 images unused."""
    config = compose_config(["optimizer=adamw", "schedule=step", "schedule.every=30 epochs"])
    rates = curve(build_schedule(config.schedule, Course(85, 16, 90)), 450)
    assert [rates.index(rate) + 1 for rate in sorted(set(rates), reverse=True)] == [1, 151, 301]
    with pytest.raises(UserError, match=r"schedule.every=30 epochs has no fixed length while the batch grows"):
        build_schedule(config.schedule, Course(80, 16, 4, growth=Growth(4, 160.0)))


def test_the_official_schedule_ends_at_its_final_rate_for_any_scaling() -> None:
    config = compose_config(["optimizer=ranger21_official"])
    for scale in (1.0, 4.0):
        last = build_schedule(config.schedule, COURSE, scale)(50, 50) * config.optimizer.lr * scale
        assert last == pytest.approx(3e-5)
