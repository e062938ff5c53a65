"""The types and ranges of `schedule`, `lr_scaling` and `batch_schedule`."""

from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any

from ranger21.config import durations
from ranger21.config.ranges import marked, require_ranges
from ranger21.optim import schedules
from ranger21.optim.schedules import Argument, Length
from ranger21.system.checks import COUNT, require, require_number
from ranger21.system.errors import UserError


def require_duration(key: str, value: str, *, some: bool = False) -> None:
    """Raise a UserError unless the value is a duration; with `some`, unless it is above 0."""
    try:
        duration = durations.parse(value)
    except ValueError as error:
        raise UserError(f"{key}={value} is invalid: {error}") from error
    require(duration.number > 0 or not some, key, value, "a duration above 0")


LINEAR_WARMUP = Length(from_start=True, may_be_0=True)


@dataclass
class ScheduleConfig:
    """The settings of a schedule without arguments, and the base class of the settings of all other schedules."""

    name: str
    linear_warmup: Annotated[str, LINEAR_WARMUP]  # length of a warm-up before the schedule

    def __post_init__(self) -> None:
        lengths = marked(type(self), Length)
        for name, length in lengths.items():
            require_duration(f"schedule.{name}", getattr(self, name), some=not length.may_be_0)
        require_ranges(self, "schedule")
        shares = {name: getattr(self, name) for name, length in lengths.items() if length.share}
        percent = [duration.number for duration in map(durations.parse, shares.values()) if duration.unit == "percent"]
        if sum(percent) > 100:
            told = " and ".join(f"schedule.{name}={text}" for name, text in shares.items())
            raise UserError(f"{told} are more than 100% of the run in total.")


def settings_of(name: str, arguments: dict[str, Argument]) -> type[ScheduleConfig]:
    """Create the class of a schedule's settings, which are its arguments. Lengths are given as durations."""
    own = []
    for key, one in arguments.items():
        hint: Any = str if isinstance(one.mark, Length) else one.type
        own.append((key, Annotated[hint, one.mark]))
    return make_dataclass(f"{name.title().replace('_', '')}Config", own, bases=(ScheduleConfig,))


SCHEDULES: dict[str, type[ScheduleConfig]] = {
    name: settings_of(name, schedules.arguments(function)) for name, function in schedules.SCHEDULES.items()
}


@dataclass
class LrScalingConfig:
    name: str


@dataclass
class ScaledConfig(LrScalingConfig):
    base_batch_size: int

    def __post_init__(self) -> None:
        require_number("lr_scaling.base_batch_size", self.base_batch_size, 1, COUNT)


@dataclass
class LinearThenSqrtConfig(ScaledConfig):
    linear_until: int  # batch size

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("lr_scaling.linear_until", self.linear_until, self.base_batch_size, COUNT)


LR_SCALINGS: dict[str, type] = {
    "none": LrScalingConfig,
    "linear": ScaledConfig,
    "sqrt": ScaledConfig,
    "linear_then_sqrt": LinearThenSqrtConfig,
}


@dataclass
class BatchScheduleConfig:
    name: str


@dataclass
class LinearBatchConfig(BatchScheduleConfig):
    start: int  # batch size at the start; it grows to data.batch_size
    over: str

    def __post_init__(self) -> None:
        require_number("batch_schedule.start", self.start, 1, COUNT)
        require_duration("batch_schedule.over", self.over)
        known = durations.parse(self.over).unit != "steps"
        require(known, "batch_schedule.over", self.over, "in images, epochs or percent")


@dataclass
class StepBatchConfig(BatchScheduleConfig):
    start: int  # batch size at the start; it grows to data.batch_size
    factor: int
    every: str

    def __post_init__(self) -> None:
        require_number("batch_schedule.start", self.start, 1, COUNT)
        require_number("batch_schedule.factor", self.factor, 2, COUNT)
        require_duration("batch_schedule.every", self.every, some=True)
        known = durations.parse(self.every).unit != "steps"
        require(known, "batch_schedule.every", self.every, "in images, epochs or percent")


BATCH_SCHEDULES: dict[str, type] = {
    "none": BatchScheduleConfig,
    "linear": LinearBatchConfig,
    "step": StepBatchConfig,
}
