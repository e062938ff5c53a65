"""A run from its configuration to its end: in which order things are looked at, made and begun."""

import logging
from pathlib import Path

import torch

from ranger21 import distributed
from ranger21.config import Config, DataConfig
from ranger21.data.build import build_data, prepare_data
from ranger21.data.stage import stage, staged, wants_copy
from ranger21.distributed import World
from ranger21.memory import enough_to_train
from ranger21.records import RunDirectory
from ranger21.run import Run
from ranger21.stopping import StopFlag, leave_word
from ranger21.tracking.console import log_to_console, log_to_file
from ranger21.trial import require_it_runs

log = logging.getLogger("ranger21")


def run(config: Config, directory: Path) -> int:
    """Runs or resumes the run of `config` in `directory`; returns the process's exit code."""
    with StopFlag() as stop, distributed.join(config.trainer.device) as world:
        log_to_console(world.main)
        place = RunDirectory(directory)
        world.on_main(lambda: require_it_runs(config, world.size))
        if not world.on_main(lambda: place.claim(config)):
            return 0
        if world.main:
            log_to_file(place.log)
        configure_torch(config, world)
        if wants_copy(config.data) and (code := copy_pack(config.data, world, stop)):
            return code
        world.on_main(lambda: prepare_data(config.data))
        with enough_to_train(config, world.size, world.device):
            data = build_data(staged(config.data), config.seed)
            return Run(config, place, world, data, stop).go()


def copy_pack(config: DataConfig, world: World, stop: StopFlag) -> int:
    """Copies the pack to every node's disk; returns the exit code of a stop in between."""
    code = world.apart(lambda: stage(config, lambda: stop.code))
    if code:
        log.info("Stopped while the pack was being copied; the same command goes on from there.")
        world.on_main(leave_word)
    return code


def configure_torch(config: Config, world: World) -> None:
    torch.backends.cuda.matmul.allow_tf32 = config.trainer.tf32
    torch.backends.cudnn.allow_tf32 = config.trainer.tf32
    torch.backends.cudnn.benchmark = config.trainer.cudnn_benchmark
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
