"""The runs of a preset: what each is called, where it is, and whether it has ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ranger21.compose import compose_config, run_directory
from ranger21.grid.presets import Preset

FINISHED, DIVERGED, STARTED, MISSING = "finished", "diverged", "started", "missing"


@dataclass(frozen=True)
class Job:
    """One run: its command-line arguments and its directory."""

    overrides: tuple[str, ...]
    directory: Path

    @property
    def state(self) -> str:
        """FINISHED or DIVERGED (nothing is left to do), STARTED (it runs or was stopped), or MISSING."""
        try:
            return str(json.loads((self.directory / "result.json").read_text())["status"])
        except (OSError, ValueError, KeyError, TypeError):
            return STARTED if (self.directory / "metrics.jsonl").exists() else MISSING

    @property
    def ended(self) -> bool:
        return self.state in (FINISHED, DIVERGED)


def expand(preset: Preset, seeds: int | None, overrides: list[str]) -> list[Job]:
    """The preset's runs, each with the user's own overrides after the preset's. Raises a UserError for bad ones."""
    jobs: dict[Path, Job] = {}
    for chosen in preset.runs(seeds):
        arguments = (*chosen, *overrides)
        directory = run_directory(compose_config(list(arguments)))
        jobs.setdefault(directory, Job(arguments, directory))
    return list(jobs.values())
