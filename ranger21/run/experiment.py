"""A run from its configuration to its exit code: everything is checked, created and started in this order."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ranger21.config import Config, DataConfig
from ranger21.data.build import build_data, build_if_there
from ranger21.data.facts import data_facts
from ranger21.data.stage import stage, staged, wants_copy
from ranger21.records.directory import RunDirectory
from ranger21.run.memory import enough_to_train
from ranger21.run.numerics import computing
from ranger21.run.reports import report_again
from ranger21.run.run import Run
from ranger21.run.trial import require_it_runs
from ranger21.system import distributed
from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.system.stopping import StopFlag, mark_stopped
from ranger21.system.terminal import log_to_console, log_to_file

log = logging.getLogger("ranger21")


def run(config: Config, directory: Path) -> int:
    """Start or resume a run in `directory`, and return the exit code of the process.

    Whatever can be refused is refused before the directory is created. An existing directory is locked first.
    """
    with StopFlag() as stop, computing(config.trainer), distributed.join(config.trainer.device, directory) as world:
        log_to_console(world.main)
        place = RunDirectory(directory)
        if ended := world.on_main(lambda: look(place, config)):
            world.on_main(lambda: leave_alone(place, config, ended))
            return 0
        if world.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(world.device)
        config.logger.require_possible(directory, config.experiment)
        world.on_main(lambda: require_it_runs(config, world.size))
        world.on_main(config.data.prepare)
        with enough_to_train(config, world.size, world.device):
            data = build_data(config.data, config.seed_of_data)
            world.on_main(lambda: place.require_data(data_facts(config.data, data)))
            run = Run(config, place, world, data, stop)
            world.on_main(lambda: claim(place, config))
            if wants_copy(config.data):
                if code := copy_pack(config.data, world, stop):
                    return code
                run.parts.data = build_data(staged(config.data), config.seed_of_data)
            return run.go()


def look(place: RunDirectory, config: Config) -> dict[str, Any] | None:
    """Call `place.look`; if the run exists, log to its log.txt from then on."""
    ended = place.look(config)
    if place.held:
        log_to_file(place.log)
    return ended


def claim(place: RunDirectory, config: Config) -> None:
    """Call `place.claim`; if the run is new, log to its log.txt from then on."""
    there = place.held
    place.claim(config)
    if not there:
        log_to_file(place.log)


def leave_alone(place: RunDirectory, config: Config, result: Mapping[str, Any]) -> None:
    """Log that a finished run needs no training, and report it again to a sweep that waits for it.

    Raises a UserError if the run was trained on other data. If the data no longer exists, a warning says that it could
    not be compared.
    """
    try:
        data = build_if_there(config.data, config.seed_of_data)
    except UserError as error:
        place.require_place(config.data.named_place(), error)
        log.warning("Cannot check whether the images are those of %s: %s", place.path, error)
    else:
        place.require_data(data_facts(config.data, data))
    what = "nothing to do"
    if waiting := [who for logger in config.logger.members() if (who := logger.waiting())]:
        config.logger.require_possible(place.path, config.experiment)
        what = f"it is not trained again, and its result is reported to {' and '.join(waiting)}"
    log.info("%s is already %s (step %s): %s.", place.path, result["status"], result["step"], what)
    report_again(place, config, result)


def copy_pack(config: DataConfig, world: World, stop: StopFlag) -> int:
    """Copy the pack to the disk of every node; return the exit code of a received signal, or 0."""
    code = world.apart(lambda: stage(config, lambda: stop.code))
    if code:
        log.info("Stopped while copying the pack. Run the same command again to continue copying.")
        world.on_main(mark_stopped)
    return code
