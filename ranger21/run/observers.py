"""Who looks on while a run trains: the trackers of the run, on rank 0, and those that every rank has."""

from ranger21.config import Config, WandbConfig
from ranger21.engine.loop import Plan
from ranger21.records import directory as records
from ranger21.records.directory import RunDirectory
from ranger21.run.profiling import Profile
from ranger21.system.distributed import World
from ranger21.tracking import Tracker
from ranger21.tracking.console import ConsoleTracker
from ranger21.tracking.jsonl import JsonLines
from ranger21.tracking.weights_and_biases import WandbTracker


def of_the_run(
    config: Config, place: RunDirectory, lines: JsonLines, plan: Plan, done: int, wandb: str
) -> list[Tracker]:
    """Return the trackers of the run's numbers, from step `done` on; `wandb` is the id of W&B's run."""
    trackers: list[Tracker] = [lines, ConsoleTracker(plan.total_steps, done)]
    if isinstance(config.logger, WandbConfig):
        values = records.to_dict(config)
        trackers.append(WandbTracker(config.logger, wandb, place.path, config.experiment, values))
    return trackers


def of_the_rank(config: Config, place: RunDirectory, world: World, plan: Plan, done: int) -> list[Tracker]:
    """Return what looks at this process."""
    steps = config.trainer.profile
    return [Profile(place.path, world.rank, steps, done, world.device.type, plan.evaluates)] if steps else []
