"""The runs of a preset: what each is called, where it is, and whether it has ended."""

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
class Job:
    """One run: its command-line arguments, its configuration and its directory."""

    overrides: tuple[str, ...]
    config: Config
    directory: Path

    @property
    def state(self) -> str:
        """FINISHED or DIVERGED (nothing is left to do), STARTED (it runs or was stopped), or MISSING."""
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
        """The share of the run that is done, from the last values that it logged."""
        trainer = self.config.trainer
        if trainer.steps is not None:
            return logged.get("step", 0.0) / trainer.steps
        return logged.get("epoch", 0.0) / trainer.epochs


def expand(preset: Preset, seeds: int | None, only: list[str], overrides: list[str]) -> list[Job]:
    """The preset's runs that have the choices `only`, each with the user's own overrides after the preset's.

    Raises a UserError for bad overrides, if no run is left, and for a seed, which is the preset's to choose.
    """
    if any(override.startswith(("seed=", "run_dir=")) for override in overrides):
        raise UserError("seed= and run_dir= are given to each run by the preset: choose how many with --seeds.")
    wanted = [chosen for chosen in preset.runs(seeds) if set(only) <= set(chosen)]
    if not wanted:
        raise UserError(
            f"--only {' '.join(only)} leaves nothing of the preset: give choices of it, as --dry-run shows."
        )
    return made((tuple(choices), int(seed.removeprefix("seed=")), tuple(overrides)) for *choices, seed in wanted)


def made(wanted: Iterable[tuple[tuple[str, ...], int, tuple[str, ...]]]) -> list[Job]:
    """The runs of these choices, seeds and further overrides, each directory once.

    What differs in the seed alone is composed once: composing takes a tenth of a second.
    """
    jobs: dict[Path, Job] = {}
    composed: dict[tuple[str, ...], Config] = {}
    with composing():
        for choices, seed, overrides in wanted:
            arguments = (*choices, *overrides)
            if arguments not in composed:
                composed[arguments] = compose_config(list(arguments))
            config = replace(composed[arguments], seed=seed)
            directory = run_directory(config)
            jobs.setdefault(directory, Job((*choices, f"seed={seed}", *overrides), config, directory))
    return list(jobs.values())
