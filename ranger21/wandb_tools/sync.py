"""Upload of offline W&B runs: each resumed run as one merged file, sent only when it has changed.

Sent separately, the fragments of a run would replace one another or be appended; steps trained twice would stay twice,
and the summary would be that of the last fragment. Therefore a merged file is written for each run, and `wandb sync`
sends that.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.config.arguments import expand
from ranger21.records.directory import in_use
from ranger21.system.errors import UserError
from ranger21.system.files import not_written, write_atomically
from ranger21.wandb_tools.file import Fragment, read_fragments
from ranger21.wandb_tools.merged import OfflineRun, assemble, rows_of

MERGED = "offline-merged"  # beside the fragments; `wandb sync` takes directories called offline-… only
SENT = ".wandb.synced"  # suffix of the marker that W&B leaves beside a file that it has sent
QUIET = 300  # seconds without writing after which a process that recorded no end counts as dead
TIMEOUT = 600  # seconds for sending one run


@dataclass(frozen=True)
class SyncResult:
    """The result of sending one run, as a sentence."""

    sentence: str
    failed: bool = False


def sync(patterns: Iterable[str], send: bool = True, timeout: float = TIMEOUT) -> Iterator[SyncResult]:
    """Merge every offline run under the patterns and send those that have changed; without `send`, only list them.

    Raises a UserError if there is no offline run, and as soon as W&B does not respond within `timeout` seconds.
    """
    runs, unreadable = find(patterns)
    yield from unreadable
    for run in runs:
        where = f"{run.directory} (W&B run {run.run_id})"
        try:
            rows = rows_of(run)
            reason = why_not(run, rows)
            content = b"" if reason else assemble(run, rows)
        except (UserError, OSError) as error:
            yield SyncResult(f"FAILED: {where}: {error}", failed=True)
            continue
        if reason:
            yield SyncResult(f"skipped: {where}: {reason}")
            continue
        path = run.directory / "wandb" / MERGED / f"run-{run.run_id}.wandb"
        marker, digest = path.with_suffix(".sent"), hashlib.sha256(content).hexdigest()
        if marker.is_file() and marker.read_text().strip() == digest:
            yield SyncResult(f"nothing new: {where}")
            continue
        write(path, content, run.fragments)
        what = f"{where}: {len(rows)} rows up to step {rows[-1]['step']}, of {len(run.fragments)} fragment(s)"
        if not send:
            yield SyncResult(f"would be sent: {what}; it is {path}")
            continue
        why = upload(path, timeout)
        if why:
            yield SyncResult(f"FAILED: {where}: {why}. Nothing is lost: run the same command again.", failed=True)
        else:
            write_atomically(marker, digest + "\n")
            yield SyncResult(f"sent: {what}")


def find(patterns: Iterable[str]) -> tuple[list[OfflineRun], list[SyncResult]]:
    """Return the offline runs under the arguments (run directories, parents of them, globs), and the read failures."""
    wanted = list(patterns)
    files = {path.resolve() for pattern in wanted for path in _fragments(pattern)}
    if not files:
        raise UserError(
            f"no offline W&B run (wandb/offline-run-*) in {', '.join(wanted)}: logger=wandb writes one, unless "
            "logger.mode=online."
        )
    groups, errors = read_fragments(sorted(files))
    unreadable = [SyncResult(f"FAILED: {error}", failed=True) for error in errors]
    runs = [OfflineRun(run_id, _run_directory(parts[-1].path), parts) for run_id, parts in groups.items()]
    runs.sort(key=lambda run: (str(run.directory), run.fragments[-1].started))
    return [_with_successor(run, runs) for run in runs], unreadable


def why_not(run: OfflineRun, rows: list[dict[str, Any]]) -> str | None:
    """Return a clause that says why a run should not be sent now; None if it should."""
    if run.superseded:
        return f"it was killed before its first checkpoint; {run.superseded} started again from the beginning"
    unended = [fragment.path for fragment in run.fragments if fragment.exit_code is None]
    fresh = any(time.time() - path.stat().st_mtime < QUIET for path in unended)
    if not run.finished and (fresh or in_use(run.directory)):
        return "it is still running, or was killed within the last minutes"
    if not any(fragment.started for fragment in run.fragments) or not rows:
        return "nothing is recorded in it yet"
    return None


def write(path: Path, content: bytes, fragments: Iterable[Fragment]) -> None:
    """Write the merged file and its attachments where W&B expects them. Raises a UserError if it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for fragment in fragments:
            own = fragment.path.parent.name.startswith("offline-run-")
            if own and (fragment.path.parent / "files").is_dir():
                shutil.copytree(fragment.path.parent / "files", path.parent / "files", dirs_exist_ok=True)
        for left_over in (SENT, ".wandb.syncstate"):  # W&B's markers for an earlier content
            path.with_suffix(left_over).unlink(missing_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"{not_written(path, error)}.") from error


def upload(path: Path, timeout: float) -> str | None:
    """Send a file with `wandb sync`; return its error message, or None.

    Its exit code is 0 even after an error; success shows in the marker that it leaves beside the file.

    Raises a UserError if it takes more than `timeout` seconds.
    """
    env = {key: value for key, value in os.environ.items() if key != "WANDB_MODE"}  # often offline
    env |= {"WANDB_ERROR_REPORTING": "false", "WANDB_DIR": str(path.parent)}
    command = [sys.executable, "-m", "wandb", "sync", str(path)]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        done = subprocess.run(command, env=env, timeout=timeout, text=True, **options)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"W&B did not accept {path} within {timeout:g} seconds: run this where W&B can be reached (a login node), "
            "or give a longer --timeout."
        ) from error
    said = [line.removeprefix("wandb: ") for line in done.stdout.splitlines()]
    wrong = [
        line for line in said if line.startswith(("ERROR ", "Error: "))
    ]  # not anywhere in the line: a path may contain the word
    if done.returncode or wrong or not path.with_suffix(SENT).exists():
        text = (wrong or said or ["no message"])[-1]
        return f"wandb sync says: {text.removeprefix('ERROR ').removeprefix('Error: ').strip().rstrip('.')}"
    return None


def _fragments(pattern: str) -> Iterator[Path]:
    """Yield the offline files that one argument names."""
    for place in expand(pattern, "name run directories, or a directory above them"):
        inside = place.resolve().name.startswith("offline-run-")
        if place.suffix == ".wandb" and place.is_file():
            siblings = place.resolve().parents[1].glob(f"offline-run-*/{glob.escape(place.name)}")
            yield from siblings if place.resolve().parent.name.startswith("offline-run-") else [place]
        else:
            yield from place.glob("run-*.wandb") if inside else place.rglob("offline-run-*/run-*.wandb")


def _run_directory(fragment: Path) -> Path:
    """Return the run directory of RUN/wandb/offline-run-…/run-ID.wandb; of a moved file, the folder it is in."""
    if not fragment.parent.name.startswith("offline-run-"):
        return fragment.parent
    return fragment.parents[2] if fragment.parents[1].name == "wandb" else fragment.parents[1]


def _with_successor(run: OfflineRun, runs: list[OfflineRun]) -> OfflineRun:
    """Mark a run as superseded if its directory has a newer one: it was killed before its first checkpoint."""
    newest = [other for other in runs if other.directory == run.directory][-1]
    if newest is run or not (run.directory / "metrics.jsonl").is_file():
        return run
    return OfflineRun(run.run_id, run.directory, run.fragments, superseded=newest.run_id)
