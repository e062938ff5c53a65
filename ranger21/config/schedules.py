"""The types and ranges of `schedule`, `lr_scaling` and `batch_schedule`."""

from dataclasses import dataclass

from ranger21.config import durations
from ranger21.system.checks import COUNT, require, require_choice, require_number
from ranger21.system.errors import UserError


def require_part(key: str, value: float) -> None:
    require(0 <= value <= 1, key, value, "from 0 to 1")


def require_duration(key: str, value: str, *, some: bool = False) -> None:
    """Raise a UserError unless the value is a duration; with `some`, unless it is above 0."""
    try:
        number, _ = durations.parse(value)
    except ValueError as error:
        raise UserError(f"{key}={value} is not possible: {error}") from error
    require(number > 0 or not some, key, value, "a duration above 0")


@dataclass
class ScheduleConfig:
    """The settings that all schedules have."""

    name: str
    linear_warmup: str  # duration of a linear rise at the start

    def __post_init__(self) -> None:
        require_duration("schedule.linear_warmup", self.linear_warmup)


@dataclass
class ExploreExploitConfig(ScheduleConfig):
    beta2: float
    warmup: str
    warmdown: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("schedule.beta2", self.beta2, 0, 1)
        require_duration("schedule.warmup", self.warmup)
        require_duration("schedule.warmdown", self.warmdown)
        parts = [durations.parse(duration) for duration in (self.warmup, self.warmdown)]
        percent = sum(number for number, unit in parts if unit == "percent")
        both = f"{self.warmup} and schedule.warmdown={self.warmdown}"
        require(percent <= 100, "schedule.warmup", both, "at most 100% of the run in total")


@dataclass
class OfficialScheduleConfig(ScheduleConfig):
    lr: float
    beta2: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("schedule.lr", self.lr, 0, 1e10, open_low=True)
        require_number("schedule.beta2", self.beta2, 0, 1)


@dataclass
class StepConfig(ScheduleConfig):
    every: str
    gamma: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_duration("schedule.every", self.every, some=True)
        require_part("schedule.gamma", self.gamma)


@dataclass
class CosineConfig(ScheduleConfig):
    over: str
    final: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_duration("schedule.over", self.over, some=True)
        require_part("schedule.final", self.final)


@dataclass
class OneCycleConfig(ScheduleConfig):
    rise: str
    anneal: str
    start: float
    final: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_duration("schedule.rise", self.rise)
        require_choice("schedule.anneal", self.anneal, ("cosine", "linear"))
        require_part("schedule.start", self.start)
        require_part("schedule.final", self.final)


@dataclass
class CyclicConfig(ScheduleConfig):
    half_cycle: str
    low: float
    gamma: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_duration("schedule.half_cycle", self.half_cycle, some=True)
        require_part("schedule.low", self.low)
        require_part("schedule.gamma", self.gamma)


SCHEDULES: dict[str, type] = {
    "explore_exploit": ExploreExploitConfig,
    "official": OfficialScheduleConfig,
    "constant": ScheduleConfig,
    "step": StepConfig,
    "cosine": CosineConfig,
    "one_cycle": OneCycleConfig,
    "cyclic": CyclicConfig,
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
        known = durations.parse(self.over)[1] != "steps"
        require(known, "batch_schedule.over", self.over, "in images, epochs or percent")


BATCH_SCHEDULES: dict[str, type] = {"none": BatchScheduleConfig, "linear": LinearBatchConfig}
