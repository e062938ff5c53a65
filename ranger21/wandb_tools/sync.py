"""Upload of W&B runs: each resumed run as one merged file, sent only when it has changed.

Sent separately, the fragments of a run would replace one another or be appended; steps trained twice would stay twice,
and the summary would be that of the last fragment. Therefore a merged file is written for each run, and `wandb sync`
sends that.
"""

from __future__ import annotations

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

from ranger21.records.directory import in_use
from ranger21.system.errors import UserError
from ranger21.system.files import not_written, write_atomically
from ranger21.tracking.loggers.wandb_tracker import BEGUN, SENT
from ranger21.wandb_tools.file import Fragment
from ranger21.wandb_tools.finding import FOLDER, find
from ranger21.wandb_tools.merged import FoundRun, assemble, rows_of

MERGED = "offline-merged"  # beside the fragments; `wandb sync` takes directories called offline-… only
SYNCED = ".wandb.synced"  # suffix of the marker that W&B leaves beside a file that it has sent
QUIET = 300  # seconds without writing after which a process that recorded no end counts as dead
TIMEOUT = 600  # seconds for sending one run


@dataclass(frozen=True)
class SyncResult:
    """The result of sending one run, as a sentence."""

    sentence: str
    failed: bool = False


def sync(
    patterns: Iterable[str], send: bool = True, timeout: float = TIMEOUT, running: bool = False
) -> Iterator[SyncResult]:
    """Merge every W&B run under the patterns and send those that have changed; without `send`, only list them.

    A run that W&B received while it was trained is left out. Raises a UserError if there is no run, and as soon as W&B
    does not respond within `timeout` seconds.

    Args:
        running: whether to send the rows so far of runs that are still running and record offline.
    """
    runs, unreadable = find(patterns)
    yield from (SyncResult(f"FAILED: {error}", failed=True) for error in unreadable)
    for run in runs:
        where = f"{run.directory} (W&B run {run.run_id})"
        if run.received:
            yield SyncResult(f"nothing new: {where}")
            continue
        try:
            rows = rows_of(run)
            reason = why_not(run, rows, running)
            content = b"" if reason else assemble(run, rows)
        except (UserError, OSError) as error:
            yield SyncResult(f"FAILED: {where}: {error}", failed=True)
            continue
        if reason:
            yield SyncResult(f"skipped: {where}: {reason}")
            continue
        path = run.directory / "wandb" / MERGED / f"run-{run.run_id}.wandb"
        marker, digest = path.with_suffix(SENT), hashlib.sha256(content).hexdigest()
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


def why_not(run: FoundRun, rows: list[dict[str, Any]], running: bool) -> str | None:
    """Return a clause that says why a run should not be sent now; None if it should."""
    if run.superseded:
        return f"it was killed before its first checkpoint; {run.superseded} started again from the beginning"
    written = [fragment for fragment in run.fragments if fragment.path.name != BEGUN]
    unended = [fragment.path for fragment in written if fragment.exit_code is None]
    fresh = any(time.time() - path.stat().st_mtime < QUIET for path in unended)
    if not run.finished and (fresh or in_use(run.directory)):
        if not running:
            return "it is still running, or was killed within the last minutes; --watch sends running runs, too"
        if not run.offline:
            return "it is still running and sends its metrics itself, or was killed within the last minutes"
    if not any(fragment.started for fragment in run.fragments) or not rows:
        return "nothing is recorded in it yet"
    return None


def write(path: Path, content: bytes, fragments: Iterable[Fragment]) -> None:
    """Write the merged file and its attachments where W&B expects them. Raises a UserError if it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for fragment in fragments:
            own = FOLDER.fullmatch(fragment.path.parent.name)
            if own and (fragment.path.parent / "files").is_dir():
                shutil.copytree(fragment.path.parent / "files", path.parent / "files", dirs_exist_ok=True)
        for left_over in (SYNCED, ".wandb.syncstate"):  # W&B's markers for an earlier content
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
    if done.returncode or wrong or not path.with_suffix(SYNCED).exists():
        text = (wrong or said or ["no message"])[-1]
        return f"wandb sync says: {text.removeprefix('ERROR ').removeprefix('Error: ').strip().rstrip('.')}"
    return None
