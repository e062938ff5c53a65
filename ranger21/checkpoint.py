"""Checkpoints that survive a kill, a full disk and a bad sector.

A checkpoint is torch's own zip format. It is written to a temporary file, synced to the disk and renamed, so that a
name never stands for half a file. `last.pt` is the newest, `previous.pt` the one before it, `best.pt` (a hard link
where the file system has them) the one with the best validation accuracy. checkpoint_file.py reads one.
"""

import contextlib
import logging
import os
import shutil
from pathlib import Path

import torch

from ranger21.checkpoint_file import Damaged, State, read
from ranger21.errors import UserError

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.last, self.previous, self.best = (directory / f"{name}.pt" for name in ("last", "previous", "best"))

    def save(self, state: State, best: bool = False) -> None:
        """Writes `last`, keeps the old one as `previous`, and links it as `best` if it is. One process calls this.

        Raises a UserError if it cannot be written; the old checkpoints are then as they were.
        """
        new = self.last.with_suffix(".tmp")
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            with open(new, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            if self.last.exists():
                _link(self.last, self.previous)
            os.replace(new, self.last)
            if best:
                self.mark_best(self.last)
            _sync_directory(self.last.parent)
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            kept = "the one before it is as it was" if self.last.exists() else "there is none before it"
            raise UserError(
                f"The checkpoint {self.last} could not be written ({_reason(error)}); {kept}. Make room and run the "
                "same command again."
            ) from error

    def mark_best(self, path: Path) -> None:
        """Makes `best` another name of `path`."""
        _link(path, self.best)

    def newest(self) -> Path | None:
        """The newest whole checkpoint, None if none was ever written. A damaged one is reported and put aside.

        Raises a UserError if there is a checkpoint that cannot be read now, or if all that there are are damaged:
        beginning again from nothing is for the user to decide.
        """
        damaged = False
        for path in (self.last, self.previous):
            try:
                read(path)
                return path
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UserError(f"The checkpoint {path} cannot be read now ({error.strerror}): try again.") from error
            except Damaged as error:
                damaged = True
                aside = path.with_suffix(".damaged")
                log.warning(
                    "The checkpoint %s is damaged: %s. It is now %s; the one before it is used.",
                    path,
                    error,
                    aside.name,
                )
                os.replace(path, aside)
        if damaged:
            raise UserError(
                f"{self.last.parent} has no whole checkpoint left: restore one, or delete the run to begin again."
            )
        return None


def _reason(error: BaseException) -> str:
    """The operating system's word for what failed; torch hides it beneath its own exception."""
    inner = error
    while not isinstance(inner, OSError) and (inner.__cause__ or inner.__context__):
        inner = inner.__cause__ or inner.__context__  # type: ignore[assignment]
    return (inner.strerror or str(inner)) if isinstance(inner, OSError) else str(error).splitlines()[0]


def _link(source: Path, target: Path) -> None:
    """Makes `target` another name of `source`, at once; a copy where the file system has no hard links."""
    new = target.with_suffix(".link")
    new.unlink(missing_ok=True)
    try:
        os.link(source, new)
    except OSError:
        shutil.copyfile(source, new)
        with open(new, "rb") as file:
            os.fsync(file.fileno())
    os.replace(new, target)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
