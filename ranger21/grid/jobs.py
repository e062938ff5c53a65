"""The runs of a preset: their arguments, directories and states."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ranger21.config import Config, decisive
from ranger21.config.compose import compose_config, composing
from ranger21.grid.presets import Preset
from ranger21.records.directory import in_use
from ranger21.records.naming import run_directory
from ranger21.report.runs.run import DIVERGED, FINISHED
from ranger21.system.errors import UserError
from ranger21.system.locks import is_held
from ranger21.system.reading import Unreadable, read_json

STARTED, MISSING = "started", "missing"
OUTPUT = "launcher.txt"  # the output of a local run; the launcher locks this file until the run ends
LONGEST = 80  # characters of a name made of overrides


@dataclass(frozen=True)
class PlannedRun:
    """One run of a grid: its command-line arguments, configuration and directory."""

    overrides: tuple[str, ...]
    config: Config
    directory: Path

    @property
    def state(self) -> str:
        """FINISHED or DIVERGED (nothing left to do), STARTED (running or stopped), or MISSING."""
        try:
            status = str(read_json(self.directory / "result.json", {"status": str})["status"])
        except Unreadable:
            status = ""
        if status in (FINISHED, DIVERGED):
            return status
        return STARTED if (self.directory / "metrics.jsonl").exists() else MISSING

    @property
    def ended(self) -> bool:
        return self.state in (FINISHED, DIVERGED)

    @property
    def launched(self) -> bool:
        """Whether a process on a machine that shares the file system runs it, or has started it locally."""
        return in_use(self.directory) or is_held(self.directory / OUTPUT)

    def share(self, logged: Mapping[str, float]) -> float:
        """Return the fraction of the run that is done, from the last values that it logged."""
        trainer = self.config.trainer
        if trainer.steps is not None:
            return logged.get("step", 0.0) / trainer.steps
        return logged.get("epoch", 0.0) / trainer.epochs


def expand(preset: Preset, seeds: int | None, only: list[str], overrides: list[str]) -> list[PlannedRun]:
    """Return the preset's runs with the choices `only`, each with the user's overrides after the preset's.

    Raises a UserError for invalid overrides, for a seed, which the preset chooses, and if no run matches.
    """
    if any(override.startswith(("seed=", "run_dir=")) for override in overrides):
        raise UserError("The preset chooses seed= and run_dir=: give the number of seeds with --seeds.")
    wanted = [chosen for chosen in preset.runs(seeds) if set(only) <= set(chosen)]
    if not wanted:
        raise UserError(
            f"--only {' '.join(only)} matches no run of the preset: give choices that --dry-run shows for it."
        )
    return planned_runs(
        (tuple(choices), int(seed.removeprefix("seed=")), tuple(overrides)) for *choices, seed in wanted
    )


def planned_runs(wanted: Iterable[tuple[tuple[str, ...], int, tuple[str, ...]]]) -> list[PlannedRun]:
    """Return the runs with these choices, seeds and further overrides, each directory once.

    Configurations that differ only in the seed are composed once because composing takes a tenth of a second.
    """
    jobs: dict[Path, PlannedRun] = {}
    composed: dict[tuple[str, ...], Config] = {}
    with composing():
        for choices, seed, overrides in wanted:
            arguments = (*choices, *overrides)
            if arguments not in composed:
                composed[arguments] = compose_config(list(arguments))
            config = replace(composed[arguments], seed=seed)
            directory = run_directory(config)
            jobs.setdefault(directory, PlannedRun((*choices, f"seed={seed}", *overrides), config, directory))
    return list(jobs.values())


def to_do(jobs: Iterable[PlannedRun], queued: Container[Path]) -> list[PlannedRun]:
    """Return the runs that have not ended, are not in SLURM's queue, and have no process."""
    return [job for job in jobs if not (job.ended or job.directory in queued or job.launched)]


def folder_name(name: str, chosen: Sequence[str]) -> str:
    """Return the name of a folder for results: a name, and the arguments that distinguish it.

    Arguments that change no result, such as outputs= or logger=, do not count. A hash replaces a name that would be
    long or hold unusual characters.

    Args:
        name: such as "paper-comparison".
        chosen: arguments of train.py, and the choices of --only.
    """
    distinct = decisive(chosen)
    found = "-".join([name, *distinct])
    if len(found) > LONGEST or not re.fullmatch(r"[\w.=-]+", found):
        found = f"{name}-{hashlib.sha256(repr(list(distinct)).encode()).hexdigest()[:8]}"
    return found
