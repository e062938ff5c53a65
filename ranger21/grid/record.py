"""Keep what a grid's runs have shown, without their checkpoints: small enough for a repository."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from ranger21.errors import UserError
from ranger21.grid.jobs import Job

MANIFEST = "manifest.json"
KEPT = ("config.yaml", "metrics.jsonl", "result.json")


def record(jobs: Sequence[Job], folder: Path) -> int:
    """Copies the records of the runs that have ended to FOLDER/EXPERIMENT/RUN; returns how many.

    Manifests without what only their machine understands: its name, and where its Python, the project and the data are.
    Raises a UserError if `folder` cannot be written to, or has the record of another run by the same name.
    """
    ended = [job for job in jobs if job.ended]
    try:
        for job in ended:
            place = folder / Path(*job.directory.parts[-2:])
            place.mkdir(parents=True, exist_ok=True)
            there, here = (_begun(path / MANIFEST) for path in (place, job.directory))
            if there and here and there != here:
                raise UserError(f"{place} has the record of another run, begun {there}: choose another --record.")
            for name in KEPT:
                if (job.directory / name).exists():  # compare.py says what is missing
                    shutil.copyfile(job.directory / name, place / name)
            if manifest := _without_the_machine(job.directory / MANIFEST):
                (place / MANIFEST).write_text(manifest, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot copy to {folder}: {error.strerror or error} ({error.filename})") from error
    return len(ended)


def _begun(path: Path) -> str | None:
    """When a run was begun, which tells it from another with the same settings."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["sessions"][0]["started"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _without_the_machine(path: Path) -> str | None:
    """A manifest that can be shown to others; None if there is none, or none that can be read."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for session in manifest["sessions"]:
            python, program, *arguments = session["command"]
            session["command"] = [Path(python).name, Path(program).name, *arguments]
            session["hardware"].pop("host", None)
        for place in ("root", "pack"):
            manifest["data"].pop(place, None)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None  # compare.py says that it is missing
    return json.dumps(manifest, indent=2)


def comparison(jobs: Sequence[Job], out: Path, runs: Path | None = None) -> list[str]:
    """The arguments of scripts/compare.py for a grid's runs, or for their records in `runs`."""
    places = [str(runs)] if runs else sorted({str(job.directory.parent) for job in jobs})
    ablation = ["--ablation"] if any(job.config.experiment == "ablation" for job in jobs) else []
    return [*places, *ablation, "--out", str(out)]
