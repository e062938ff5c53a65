"""The runs of a preset: their arguments, directories and states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ranger21.config import Config
from ranger21.config.compose import compose_config, composing
from ranger21.grid.presets import Preset
from ranger21.records.naming import run_directory
from ranger21.report.runs.run import DIVERGED, FINISHED
from ranger21.system.errors import UserError
from ranger21.system.reading import Unreadable, read_json

STARTED, MISSING = "started", "missing"


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
