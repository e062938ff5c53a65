"""Who looks on while a run trains: the trackers of the run, on rank 0, and those that every rank has."""

from ranger21.config import Config
from ranger21.engine.loop import Plan
from ranger21.records import directory as records
from ranger21.records.directory import RunDirectory
from ranger21.run.profiling import Profile
from ranger21.system.distributed import World
from ranger21.tracking import Tracker
from ranger21.tracking.console import ConsoleTracker
from ranger21.tracking.jsonl import JsonLines
from ranger21.tracking.loggers.base import RunInfo


def of_the_run(
    config: Config, place: RunDirectory, lines: JsonLines, plan: Plan, done: int, run_id: str
) -> list[Tracker]:
    """Return the trackers of the run's metrics, on rank 0. `done` steps were trained before this process began."""
    trackers: list[Tracker] = [lines, ConsoleTracker(plan.total_steps, done)]
    logger = config.logger.open(RunInfo(run_id, place.path, config.experiment, records.to_dict(config)))
    return trackers if logger is None else [*trackers, logger]


def of_the_rank(config: Config, place: RunDirectory, world: World, plan: Plan, done: int) -> list[Tracker]:
    """Return what looks at this process."""
    steps = config.trainer.profile
    return [Profile(place.path, world.rank, steps, done, world.device.type, plan.evaluates)] if steps else []
