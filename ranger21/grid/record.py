"""Records of a grid's runs without their checkpoints, small enough for a repository and fit for publication."""

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

from ranger21.grid.jobs import PlannedRun
from ranger21.records.code import in_diff
from ranger21.report.runs import record_file
from ranger21.system.errors import UserError
from ranger21.system.masking import MASK, masked_values
from ranger21.system.reading import Unreadable, misfit, read_json, read_lines, read_yaml
from ranger21.system.wording import first_few, one_line

PATH = re.compile(r"(?:^|(?<=[\s=:,'\"\[({]))/[^\s,:'\"\])}/]+/[^\s,'\"\])}]*", re.MULTILINE)
MOST = 6  # paths shown
METRICS = "metrics.jsonl"
BEGUN = {"sessions": [{"started": str}]}


@dataclass(frozen=True)
class PublishedRun:
    """The record of one run for publication: its metrics unchanged; config, manifest and result with keys masked."""

    directory: Path
    parts: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the run in record files, EXPERIMENT/RUN."""
        return "/".join(self.directory.parts[-2:])

    def lines(self) -> Iterator[bytes]:
        """Yield this run's lines in a record file, except the last one. Raises Unreadable for invalid metrics."""
        yield record_file.first_line(self.name, self.parts)
        if (self.directory / METRICS).exists():
            yield from (line if line.endswith(b"\n") else line + b"\n" for line in read_lines(self.directory / METRICS))

    @property
    def text(self) -> str:
        """All parts except the metrics as one text, for searching."""
        return json.dumps(self.parts, ensure_ascii=False)

    @property
    def size(self) -> int:
        """Size in bytes before compression."""
        metrics = self.directory / METRICS
        return len(self.text.encode("utf-8", "replace")) + (metrics.stat().st_size if metrics.exists() else 0)


def records(jobs: Sequence[PlannedRun]) -> list[PublishedRun]:
    """Return the records of the runs that have ended. Raises a UserError if they cannot be read.

    Values that look like keys are masked. The manifest omits details of the machine (its name, and the paths of
    Python, the project and the data), and the path of OUTPUTS is cut to its last folder. The diff of an older version
    is replaced by the names and hashes of its files.
    """
    try:
        return [record_of(job.directory) for job in jobs if job.ended]
    except OSError as error:
        raise UserError(f"The runs cannot be read: {error.strerror or error} ({error.filename})") from error


def publication(found: Sequence[PublishedRun]) -> str:
    """Return a summary of what the records reveal about the machine and its user, for a check before publication."""
    texts = [record.text for record in found]
    paths = sorted({path for text in texts for path in PATH.findall(text)})
    facts = {
        "paths": first_few(paths, MOST, ", ") if paths else "",
        "names": ", ".join(sorted(name for name in _own_names() if any(name in text for text in texts))),
        "masked": str(sum(text.count(MASK) for text in texts) or ""),
        "diffs": str(sum(map(_has_diff, found)) or ""),
    }
    size = sum(record.size for record in found) / 1e6
    told = {
        "paths": "with these paths: {}",
        "names": "with this machine's or user's name: {}",
        "masked": "with {} values that looked like keys masked as ***",
        "diffs": "with the uncommitted changes of the code (records.diff=full) in {} manifests",
    }
    lines = [f"  {text.format(facts[key])}" for key, text in told.items() if facts[key]]
    kinds = "settings, numbers, commands, versions, hardware"
    head = f"the records of {len(found)} runs, {size:.1f} MB before compression: {kinds}"
    return "\n".join([head, *lines])


def record(found: Sequence[PublishedRun], file: Path) -> int:
    """Add records to a file, replacing those of the same runs, and return how many there are.

    If the file already has all of them, it is not written. Raises a UserError if it cannot be written, is damaged, or
    has the record of another run with the same name.
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


def _there(file: Path, new: Mapping[str, PublishedRun]) -> dict[str, str]:
    """Return the digest of every run in a file, by name. Raises the UserErrors of `record`."""
    found: dict[str, str] = {}
    for entry in record_file.entries(file):
        if not isinstance(entry, str):
            deque(entry.metrics(), maxlen=0)
        if isinstance(entry, str) or not entry.whole:
            what = entry if isinstance(entry, str) else f"{one_line(entry.name)} in {file} was changed after writing."
            raise UserError(f"{what} Nothing was added: restore {file}, or choose another --record.")
        found[entry.name] = entry.sha256
        here, own = (_begun(parts) for parts in (entry.parts, new[entry.name].parts if entry.name in new else {}))
        if here and own and here != own:
            text = f"has the record of another run with the name {entry.name}, started {here}"
            raise UserError(f"{file} {text}: choose another --record.")
    return found


def _merged(file: Path | None, new: Mapping[str, PublishedRun]) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield the runs of a file and the new ones, sorted by name."""
    waiting = deque(sorted(new.values(), key=lambda one: record_file.by_name(one.name)))
    for entry in record_file.entries(file) if file else ():
        if isinstance(entry, str) or entry.name in new:
            continue
        while waiting and record_file.by_name(waiting[0].name) < record_file.by_name(entry.name):
            yield waiting[0].name, waiting.popleft().lines()
        yield entry.name, chain([entry.head], entry.metrics())
    yield from ((one.name, one.lines()) for one in waiting)


def comparison(
    jobs: Sequence[PlannedRun], out: Path, runs: Path | None = None, *, tuned: Path | None = None
) -> list[str]:
    """Return the arguments of scripts/compare.py for a grid.

    Args:
        jobs: the runs of the grid.
        out: folder for the comparison.
        runs: a record file to compare instead of the run directories.
        tuned: the tuned.json of the tuning, if some runs use its winners.
    """
    places = [str(runs)] if runs else sorted({str(job.directory.parent) for job in jobs})
    ablation = ["--ablation"] if any(job.config.experiment == "ablation" for job in jobs) else []
    trials = ["--tuned", str(tuned)] if tuned else []
    return [*places, *ablation, *trials, "--out", str(out)]


def record_of(directory: Path) -> PublishedRun:
    """Return the record of the run in a directory. Raises Unreadable if its settings or result are damaged."""
    config = directory / "config.yaml"
    parts = {
        "config": masked_values(read_yaml(config))
        if config.exists()
        else None,  # compare.py reports that it is missing
        "manifest": _without_the_machine(directory / "manifest.json"),
        "result": read_json(directory / "result.json"),
    }
    return PublishedRun(directory, _without_outputs(parts))


def _without_outputs(parts: dict[str, Any]) -> dict[str, Any]:
    """Replace the path of OUTPUTS, which may name a user or a machine, by the name of its last folder."""
    place = Path(str((parts["config"] or {}).get("outputs", "")))
    if not place.is_absolute() or len(place.parts) < 3:
        return parts
    path, name = (json.dumps(text)[1:-1] for text in (str(place), place.name))
    changed: dict[str, Any] = json.loads(json.dumps(parts).replace(path, name))
    return changed


def _has_diff(run: PublishedRun) -> bool:
    """Return whether a run's manifest holds a diff of uncommitted code (records.diff=full)."""
    sessions = (run.parts["manifest"] or {}).get("sessions", ())
    return any(isinstance(session.get("git"), dict) and "diff" in session["git"] for session in sessions)


def _begun(parts: Mapping[str, Any]) -> str | None:
    """Return the time at which a run was started, which distinguishes it from another with the same settings."""
    manifest = parts.get("manifest") or {}
    return None if misfit(manifest, BEGUN) or not manifest["sessions"] else str(manifest["sessions"][0]["started"])


def _without_the_machine(path: Path) -> Any:
    """Return a manifest without details of the machine; None if it is missing or damaged."""
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
        return None  # compare.py reports that it is missing
    except ValueError:  # the command has fewer words
        return None
    return masked_values(manifest)


def _without_an_older_diff(git: Any) -> None:
    """Replace the diff that older versions always kept by the names of its files and a hash of each part."""
    if isinstance(git, dict) and "changed" not in git and isinstance(git.get("diff"), str):
        git["changed"] = in_diff(git.pop("diff"))


def _own_names() -> Iterator[str]:
    """Yield the names of this machine and its user that are long and unusual enough to be searched for."""
    try:
        names = {socket.gethostname(), getpass.getuser()}
    except (OSError, KeyError):
        names = {socket.gethostname()}
    yield from (name for name in names if len(name) >= 4 and name not in ("root", "user", "localhost"))
