"""Keep what a grid's runs have shown, without their checkpoints: small enough for a repository."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ranger21.errors import UserError
from ranger21.grid.jobs import Job

KEPT = ("config.yaml", "manifest.json", "metrics.jsonl", "result.json")


def record(jobs: Sequence[Job], folder: Path) -> int:
    """Copies the records of the runs that have ended to FOLDER/EXPERIMENT/RUN; returns how many.

    Raises a UserError if `folder` cannot be written to.
    """
    ended = [job for job in jobs if job.ended]
    try:
        for job in ended:
            place = folder / Path(*job.directory.parts[-2:])
            place.mkdir(parents=True, exist_ok=True)
            for name in KEPT:
                if (job.directory / name).exists():  # compare.py says what is missing
                    shutil.copyfile(job.directory / name, place / name)
    except OSError as error:
        raise UserError(f"cannot copy to {folder}: {error.strerror or error} ({error.filename})") from error
    return len(ended)


def comparison(jobs: Sequence[Job], out: Path, runs: Path | None = None) -> list[str]:
    """The arguments of scripts/compare.py for a grid's runs, or for their records in `runs`."""
    places = [str(runs)] if runs else sorted({str(job.directory.parent) for job in jobs})
    ablation = ["--ablation"] if any(job.config.experiment == "ablation" for job in jobs) else []
    return [*places, *ablation, "--out", str(out)]
