"""Find the W&B runs under the paths on the command line, with all their fragments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ranger21.config.arguments import expand
from ranger21.system.errors import UserError
from ranger21.tracking.loggers.wandb_tracker import BEGUN
from ranger21.wandb_tools.file import read_fragments
from ranger21.wandb_tools.merged import FoundRun
from ranger21.wandb_tools.rebuilt import read_begun

FOLDER = re.compile(r"(offline-run-.+|run-\d{8}_\d{6}-.+)", re.DOTALL)  # that wandb makes for each process


def find(patterns: Iterable[str]) -> tuple[list[FoundRun], list[UserError]]:
    """Return the W&B runs under the arguments (run directories, parents of them, globs), and the read failures.

    A run of which no fragment has its beginning gets one that is made from its run directory. Raises a UserError if
    there is no run.
    """
    wanted = list(patterns)
    files = {path.resolve() for pattern in wanted for path in _files(pattern)}
    begun = {path for path in files if path.name == BEGUN} | {_run_directory(path) / "wandb" / BEGUN for path in files}
    if not files:
        raise UserError(
            f"no W&B run (wandb/offline-run-* or wandb/run-*) in {', '.join(wanted)}: logger=wandb writes one."
        )
    groups, unreadable = read_fragments(sorted(path for path in files if path.name != BEGUN))
    for path in sorted(path for path in begun if path.is_file()):
        try:
            made = read_begun(path)
        except UserError as error:
            unreadable.append(error)
            continue
        if path not in files and made.run_id not in groups:
            continue  # the user named a file of another run
        parts = groups.setdefault(made.run_id, [])
        if not any(fragment.started for fragment in parts):
            parts.append(made)
    runs = [FoundRun(run_id, _run_directory(parts[-1].path), parts) for run_id, parts in groups.items()]
    runs.sort(key=lambda run: (str(run.directory), run.fragments[-1].started))
    return [_with_successor(run, runs) for run in runs], unreadable


def _files(pattern: str) -> Iterator[Path]:
    """Yield the fragments that one argument names, and the notes of what was begun (`BEGUN`)."""
    for place in expand(pattern, "name run directories, or a directory above them"):
        place = place.resolve()
        if place.suffix == ".wandb" and place.is_file():
            siblings = [path for path in place.parents[1].glob("*run-*/*.wandb") if path.name == place.name]
            yield from _fragments(siblings) if FOLDER.fullmatch(place.parent.name) else [place]
        elif FOLDER.fullmatch(place.name):
            yield from place.glob("run-*.wandb")
        else:
            yield from _fragments(place.rglob("run-*.wandb"))
            yield from place.rglob(f"wandb/{BEGUN}")
            yield from place.glob(BEGUN) if place.name == "wandb" else ()


def _fragments(paths: Iterable[Path]) -> Iterator[Path]:
    return (path for path in paths if FOLDER.fullmatch(path.parent.name))


def _run_directory(path: Path) -> Path:
    """Return the run directory of RUN/wandb/init.json or RUN/wandb/offline-run-…/run-ID.wandb.

    For a file that was moved, return the folder that it is in.
    """
    if path.name == BEGUN:
        return path.parents[1]
    if not FOLDER.fullmatch(path.parent.name):
        return path.parent
    return path.parents[2] if path.parents[1].name == "wandb" else path.parents[1]


def _with_successor(run: FoundRun, runs: list[FoundRun]) -> FoundRun:
    """Mark a run as superseded if its directory has a newer one: it was killed before its first checkpoint."""
    newest = [other for other in runs if other.directory == run.directory][-1]
    if newest is run or not (run.directory / "metrics.jsonl").is_file():
        return run
    return replace(run, superseded=newest.run_id)
