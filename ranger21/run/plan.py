"""Derive the length of a run, and the steps at which it logs, evaluates and saves, from its configuration."""

import math
from dataclasses import asdict

from ranger21.config import Config, durations
from ranger21.config.schedules import LINEAR_WARMUP, LinearBatchConfig, StepBatchConfig
from ranger21.engine.course import Course, Growth, StepGrowth
from ranger21.engine.plan import Plan
from ranger21.optim.schedules import Length
from ranger21.system.errors import UserError


def make_plan(config: Config, train_images: int) -> Plan:
    """Return the plan of a run on `train_images` training images."""
    t = config.trainer
    growth = growth_of(config, train_images)
    course = Course(train_images, config.data.batch_size, t.epochs, t.steps, growth)
    keep_every, keep_from = kept_steps(config, course)
    return Plan(
        course=course,
        accumulate=t.accumulate,
        eval_every_epochs=t.eval_every_epochs,
        log_every_steps=t.log_every_steps,
        checkpoint_every_steps=t.checkpoint_every_steps,
        checkpoint_every_minutes=t.checkpoint_every_minutes,
        eval_every_steps=t.eval_every_steps,
        keep_every=keep_every,
        keep_from=keep_from,
    )


def growth_of(config: Config, train_images: int) -> Growth | StepGrowth | None:
    """Return how the batch grows. Raises a UserError for a percentage of a run whose images depend on the growth."""
    chosen = config.batch_schedule
    if isinstance(chosen, LinearBatchConfig):
        return Growth(chosen.start, _images("over", chosen.over, config, train_images))
    if isinstance(chosen, StepBatchConfig):
        every = _images("every", chosen.every, config, train_images)
        return StepGrowth(chosen.start, every, chosen.factor, config.data.batch_size)
    return None


def _images(name: str, duration: str, config: Config, train_images: int) -> float:
    number, unit = durations.parse(duration)
    if unit == "percent" and config.trainer.steps:
        raise UserError(
            f"batch_schedule.{name}={duration} cannot be used with trainer.steps: the number of images in the run "
            "depends on it. Give a number of images or epochs."
        )
    return number * {"images": 1, "epochs": train_images, "percent": config.trainer.epochs * train_images / 100}[unit]


def kept_steps(config: Config, course: Course) -> tuple[float | None, float]:
    """Return the number of steps between checkpoints that are kept (or None), and the step from which it is counted.

    It is `trainer.keep_every`, or else the length of a cycle of schedule=cyclic, counted from the end of its warm-up.
    """
    if config.trainer.keep_every is not None:
        return in_steps("trainer.keep_every", config.trainer.keep_every, Length(), course, course.total_steps), 0
    if config.schedule.name != "cyclic":
        return None, 0
    values = asdict(config.schedule)
    warmup = in_steps("schedule.linear_warmup", values["linear_warmup"], LINEAR_WARMUP, course, course.total_steps)
    start = math.ceil(warmup)
    span = course.total_steps - start
    return 2 * max(1.0, in_steps("schedule.half_cycle", values["half_cycle"], Length(), course, span)), start


def in_steps(key: str, duration: str, length: Length, course: Course, span: int) -> float:
    """Return a duration in steps. Percentages refer to `span` steps.

    Raises a UserError for a duration in epochs or images that has no fixed length in steps.
    """
    number, unit = durations.parse(duration)
    if unit == "steps":
        return number
    if unit == "percent":
        return number / 100 * span
    if course.growth and not length.from_start:
        raise UserError(f"{key}={duration} has no fixed length while the batch grows: give steps or percent.")
    return course.steps_for_epochs(number) if unit == "epochs" else course.steps_for(number)
