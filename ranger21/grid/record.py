"""Keep what a grid's runs have shown, without their checkpoints: small enough for a repository, fit to be published."""

from __future__ import annotations

import getpass
import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.code import in_diff
from ranger21.errors import UserError
from ranger21.files import replacing, write_atomically
from ranger21.grid.jobs import Job
from ranger21.masking import MASK, masked, masked_values
from ranger21.reading import Unreadable, read_json
from ranger21.wording import first_few

MANIFEST = "manifest.json"
COPIED = ("metrics.jsonl", "result.json")  # as they are: they hold numbers
PATH = re.compile(r"(?:^|(?<=[\s=:,'\"\[({]))/[^\s,:'\"\])}/]+/[^\s,'\"\])}]*", re.MULTILINE)
MOST = 6  # paths that are shown


@dataclass(frozen=True)
class Record:
    """What is kept of one run: the files that are copied as they are, and the texts of those that are not."""

    job: Job
    copied: tuple[str, ...]
    texts: dict[str, str]

    @property
    def size(self) -> int:
        """Its bytes."""
        sizes = ((self.job.directory / name).stat().st_size for name in self.copied)
        return sum(sizes) + sum(len(text.encode()) for text in self.texts.values())


def records(jobs: Sequence[Job]) -> list[Record]:
    """Return what would be kept of the runs that have ended. Raises a UserError if it cannot be read.

    Values that look like keys are masked. The manifest is without what only its machine understands (its name, and
    where its Python, the project and the data are), and without an older version's diff of the uncommitted code, of
    which the names of the files and a hash of each stay.
    """
    try:
        return [_record(job) for job in jobs if job.ended]
    except OSError as error:
        raise UserError(f"The runs' records cannot be read: {error.strerror or error} ({error.filename})") from error


def publication(found: Sequence[Record]) -> str:
    """Return what the records say of their machine and its user, for a last look before they are published."""
    texts = [text for record in found for text in record.texts.values()]
    paths = sorted({path for text in texts for path in PATH.findall(text)})
    facts = {
        "paths": first_few(paths, MOST, ", ") if paths else "",
        "names": ", ".join(sorted(name for name in _own_names() if any(name in text for text in texts))),
        "masked": str(sum(text.count(MASK) for text in texts) or ""),
        "diffs": str(sum('"diff":' in record.texts.get(MANIFEST, "") for record in found) or ""),
    }
    files = sum(len(record.copied) + len(record.texts) for record in found)
    size = sum(record.size for record in found) / 1e6
    told = {
        "paths": "with these paths in them: {}",
        "names": "with this machine's or user's name in them: {}",
        "masked": "with {} values that looked like keys masked as ***",
        "diffs": "with the uncommitted changes of the code (records.diff=full) in {} manifests",
    }
    lines = [f"  {text.format(facts[key])}" for key, text in told.items() if facts[key]]
    kinds = "settings, numbers, commands, versions, hardware"
    head = f"the records of {len(found)} runs, {files} files, {size:.1f} MB: {kinds}"
    return "\n".join([head, *lines])


def record(found: Sequence[Record], folder: Path) -> int:
    """Write records to FOLDER/EXPERIMENT/RUN; return how many.

    Raises a UserError if `folder` cannot be written to, or has the record of another run by the same name.
    """
    try:
        for one in found:
            place = folder / Path(*one.job.directory.parts[-2:])
            place.mkdir(parents=True, exist_ok=True)
            there, here = (_begun(path / MANIFEST) for path in (place, one.job.directory))
            if there and here and there != here:
                raise UserError(f"{place} has the record of another run, begun {there}: choose another --record.")
            for name in one.copied:
                with replacing(place / name) as new:
                    shutil.copyfile(one.job.directory / name, new)
            for name, text in one.texts.items():
                write_atomically(place / name, text)
    except OSError as error:
        raise UserError(f"cannot copy to {folder}: {error.strerror or error} ({error.filename})") from error
    return len(found)


def comparison(jobs: Sequence[Job], out: Path, runs: Path | None = None) -> list[str]:
    """The arguments of scripts/compare.py for a grid's runs, or for their records in `runs`."""
    places = [str(runs)] if runs else sorted({str(job.directory.parent) for job in jobs})
    ablation = ["--ablation"] if any(job.config.experiment == "ablation" for job in jobs) else []
    return [*places, *ablation, "--out", str(out)]


def _record(job: Job) -> Record:
    made: dict[str, Callable[[Path], str | None]] = {"config.yaml": _settings, MANIFEST: _without_the_machine}
    texts = {name: text for name, make in made.items() if (text := make(job.directory / name)) is not None}
    return Record(job, tuple(name for name in COPIED if (job.directory / name).exists()), texts)


def _settings(path: Path) -> str | None:
    """A config.yaml with its keys masked; None if there is none: compare.py says that it is missing."""
    return masked(path.read_text(encoding="utf-8")) if path.exists() else None


def _begun(path: Path) -> str | None:
    """Return when a run was begun, which tells it from another with the same settings."""
    try:
        return str(read_json(path, {"sessions": [{"started": str}]})["sessions"][0]["started"])
    except (Unreadable, IndexError):
        return None


def _without_the_machine(path: Path) -> str | None:
    """A manifest that can be shown to others; None if there is none, or none that can be read."""
    try:
        manifest = read_json(path, {"sessions": [{"command": [str], "hardware": {}}], "data": {}})
        for session in manifest["sessions"]:
            python, program, *arguments = session["command"]
            session["command"] = [Path(python).name, Path(program).name, *arguments]
            session["hardware"].pop("host", None)
            _without_an_older_diff(session.get("git"))
        for place in ("root", "pack"):
            manifest["data"].pop(place, None)
    except Unreadable as error:
        if not (error.damaged or error.missing):
            raise
        return None  # compare.py says that it is missing
    except ValueError:  # a command of fewer words
        return None
    return json.dumps(masked_values(manifest), indent=2)


def _without_an_older_diff(git: Any) -> None:
    """Older versions kept the diff unasked: leave the names of its files, each with a hash of its part."""
    if isinstance(git, dict) and "changed" not in git and isinstance(git.get("diff"), str):
        git["changed"] = in_diff(git.pop("diff"))


def _own_names() -> Iterator[str]:
    """This machine's and its user's names, where they are long enough to be found as such."""
    try:
        names = {socket.gethostname(), getpass.getuser()}
    except (OSError, KeyError):
        names = {socket.gethostname()}
    yield from (name for name in names if len(name) >= 4 and name not in ("root", "user", "localhost"))
