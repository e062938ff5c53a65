"""Keep what a grid's runs have shown, without their checkpoints: small enough for a repository, fit to be published."""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ranger21.grid.jobs import Job
from ranger21.records.code import in_diff
from ranger21.report.runs import record_file
from ranger21.system.errors import UserError
from ranger21.system.masking import MASK, masked_values
from ranger21.system.reading import Unreadable, misfit, read_json, read_lines, read_yaml
from ranger21.system.wording import first_few, one_line

PATH = re.compile(r"(?:^|(?<=[\s=:,'\"\[({]))/[^\s,:'\"\])}/]+/[^\s,'\"\])}]*", re.MULTILINE)
MOST = 6  # paths that are shown
METRICS = "metrics.jsonl"
BEGUN = {"sessions": [{"started": str}]}


@dataclass(frozen=True)
class Record:
    """What is kept of one run: its metrics as they are, its `config`, `manifest` and `result` as they can be shown."""

    directory: Path
    parts: dict[str, Any]

    @property
    def name(self) -> str:
        """EXPERIMENT/RUN, by which files of records know it."""
        return "/".join(self.directory.parts[-2:])

    def lines(self) -> Iterator[bytes]:
        """What the file has of it, but for its last line. Raises an Unreadable for metrics that no run writes."""
        yield record_file.first_line(self.name, self.parts)
        if (self.directory / METRICS).exists():
            yield from (line if line.endswith(b"\n") else line + b"\n" for line in read_lines(self.directory / METRICS))

    @property
    def text(self) -> str:
        """The parts, to be searched."""
        return json.dumps(self.parts, ensure_ascii=False)

    @property
    def size(self) -> int:
        """Its bytes before they are compressed."""
        metrics = self.directory / METRICS
        return len(self.text.encode("utf-8", "replace")) + (metrics.stat().st_size if metrics.exists() else 0)


def records(jobs: Sequence[Job]) -> list[Record]:
    """Return what would be kept of the runs that have ended. Raises a UserError if it cannot be read.

    Values that look like keys are masked. The manifest is without what only its machine understands (its name, and
    where its Python, the project and the data are), and without an older version's diff of the uncommitted code, of
    which the names of the files and a hash of each stay.
    """
    try:
        return [record_of(job.directory) for job in jobs if job.ended]
    except OSError as error:
        raise UserError(f"The runs' records cannot be read: {error.strerror or error} ({error.filename})") from error


def publication(found: Sequence[Record]) -> str:
    """Return what the records say of their machine and its user, for a last look before they are published."""
    texts = [record.text for record in found]
    paths = sorted({path for text in texts for path in PATH.findall(text)})
    facts = {
        "paths": first_few(paths, MOST, ", ") if paths else "",
        "names": ", ".join(sorted(name for name in _own_names() if any(name in text for text in texts))),
        "masked": str(sum(text.count(MASK) for text in texts) or ""),
        "diffs": str(sum('"diff":' in text for text in texts) or ""),
    }
    size = sum(record.size for record in found) / 1e6
    told = {
        "paths": "with these paths in them: {}",
        "names": "with this machine's or user's name in them: {}",
        "masked": "with {} values that looked like keys masked as ***",
        "diffs": "with the uncommitted changes of the code (records.diff=full) in {} manifests",
    }
    lines = [f"  {text.format(facts[key])}" for key, text in told.items() if facts[key]]
    kinds = "settings, numbers, commands, versions, hardware"
    head = f"the records of {len(found)} runs, {size:.1f} MB before they are compressed: {kinds}"
    return "\n".join([head, *lines])


def record(found: Sequence[Record], file: Path) -> int:
    """Put records into a file that may have others already, and return how many.

    Those of the same runs are replaced. If all are there as they are, the file is left alone. Raises a UserError if it
    cannot be written, is damaged, or has the record of another run by the name of one of these.
    """
    new = {one.name: one for one in found}
    try:
        there = _there(file, new) if file.exists() else {}
        if any(record_file.digest(one.lines()) != there.get(name) for name, one in new.items()):
            file.parent.mkdir(parents=True, exist_ok=True)
            record_file.write(file, _merged(file if there else None, new))
    except OSError as error:
        raise UserError(f"cannot copy to {file}: {error.strerror or error} ({error.filename})") from error
    return len(new)


def _there(file: Path, new: Mapping[str, Record]) -> dict[str, str]:
    """The runs that a file has, and their digests."""
    found: dict[str, str] = {}
    for entry in record_file.entries(file):
        if not isinstance(entry, str):
            deque(entry.metrics(), maxlen=0)
        if isinstance(entry, str) or not entry.whole:
            what = entry if isinstance(entry, str) else f"{one_line(entry.name)} in {file} is not as it was written."
            raise UserError(f"{what} Nothing was added: restore {file}, or choose another --record.")
        found[entry.name] = entry.sha256
        here, own = (_begun(parts) for parts in (entry.parts, new[entry.name].parts if entry.name in new else {}))
        if here and own and here != own:
            text = f"has the record of another run by the name {entry.name}, begun {here}"
            raise UserError(f"{file} {text}: choose another --record.")
    return found


def _merged(file: Path | None, new: Mapping[str, Record]) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The runs of a file and the new ones, in order of their names."""
    waiting = deque(sorted(new.values(), key=lambda one: record_file.by_name(one.name)))
    for entry in record_file.entries(file) if file else ():
        if isinstance(entry, str) or entry.name in new:
            continue
        while waiting and record_file.by_name(waiting[0].name) < record_file.by_name(entry.name):
            yield waiting[0].name, waiting.popleft().lines()
        yield entry.name, chain([entry.head], entry.metrics())
    yield from ((one.name, one.lines()) for one in waiting)


def comparison(jobs: Sequence[Job], out: Path, runs: Path | None = None, *, tuned: Path | None = None) -> list[str]:
    """The arguments of scripts/compare.py for a grid's runs, or for their records in `runs`.

    `tuned` is the record of the tuning that some of them are from.
    """
    places = [str(runs)] if runs else sorted({str(job.directory.parent) for job in jobs})
    ablation = ["--ablation"] if any(job.config.experiment == "ablation" for job in jobs) else []
    trials = ["--tuned", str(tuned)] if tuned else []
    return [*places, *ablation, *trials, "--out", str(out)]


def record_of(directory: Path) -> Record:
    """What is kept of the run in a directory. Raises an Unreadable if its settings or result are damaged."""
    config = directory / "config.yaml"
    parts = {
        "config": masked_values(read_yaml(config)) if config.exists() else None,  # compare.py says that it is missing
        "manifest": _without_the_machine(directory / "manifest.json"),
        "result": read_json(directory / "result.json"),
    }
    return Record(directory, parts)


def _begun(parts: Mapping[str, Any]) -> str | None:
    """Return when a run was begun, which tells it from another with the same settings."""
    manifest = parts.get("manifest") or {}
    return None if misfit(manifest, BEGUN) or not manifest["sessions"] else str(manifest["sessions"][0]["started"])


def _without_the_machine(path: Path) -> Any:
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
    return masked_values(manifest)


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
