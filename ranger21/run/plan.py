"""Derive the length of a run, and the steps at which it logs, evaluates and saves, from its configuration."""

from ranger21.config import Config, LinearBatchConfig, durations
from ranger21.engine.course import Course, Growth
from ranger21.engine.plan import Plan
from ranger21.system.errors import UserError


def make_plan(config: Config, train_images: int) -> Plan:
    """Return the plan of a run on `train_images` training images."""
    t, growth = config.trainer, None
    if isinstance(config.batch_schedule, LinearBatchConfig):
        number, unit = durations.parse(config.batch_schedule.over)
        per_unit = {"images": 1, "epochs": train_images, "percent": t.epochs * train_images / 100}
        if unit == "percent" and t.steps:
            raise UserError(
                f"batch_schedule.over={config.batch_schedule.over} cannot be used with trainer.steps: the number of "
                "images in the run depends on it. Give a number of images or epochs."
            )
        growth = Growth(config.batch_schedule.start, number * per_unit[unit])
    return Plan(
        course=Course(train_images, config.data.batch_size, t.epochs, t.steps, growth),
        accumulate=t.accumulate,
        eval_every_epochs=t.eval_every_epochs,
        log_every_steps=t.log_every_steps,
        checkpoint_every_steps=t.checkpoint_every_steps,
        checkpoint_every_minutes=t.checkpoint_every_minutes,
        eval_every_steps=t.eval_every_steps,
    )
