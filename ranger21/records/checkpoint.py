"""Checkpoints that survive a kill, a full disk and a bad sector.

A checkpoint is torch's own zip format. It is written to a temporary file, synced to the disk and renamed, so that a
name never stands for half a file. `last.pt` is the newest, `previous.pt` the one before it, `best.pt` (a hard link
where the file system has them) the one with the best validation accuracy. checkpoint_file.py reads one.
"""

import contextlib
import logging
import os
import shutil
import time
from pathlib import Path

import torch

from ranger21.records.checkpoint_file import Damaged, Foreign, State, read
from ranger21.system.errors import UserError
from ranger21.system.files import unused

log = logging.getLogger(__name__)
PAUSES = (0.5, 2.0, 5.0)  # seconds before a file that could not be read is read once more


def read_patiently(path: Path) -> State:
    """Read the checkpoint at `path`, on the CPU; one that cannot be read or seems damaged is read again after a pause.

    Raises a UserError if it cannot be read now or is whole but not a run's, `Damaged` if it seemed damaged twice, and
    FileNotFoundError if there is none.
    """
    pauses, damaged = list(PAUSES), False
    while True:
        try:
            return read(path)
        except FileNotFoundError as error:
            if not path.is_symlink():
                raise
            text = f"The checkpoint {path} is a link to {path.readlink()}, which is not there"
            raise UserError(f"{text}: put that back, or remove the link.") from error
        except Foreign as error:
            text = f"{path} is not a checkpoint of a run ({error}): put the run's own back, or choose another run_dir=."
            raise UserError(text) from error
        except Damaged:
            if damaged or not pauses:
                raise
            damaged = True
        except OSError as error:
            why = error.strerror or str(error)
            if not pauses:
                raise UserError(
                    f"The checkpoint {path} cannot be read now ({why}): run the same command again when it can. If "
                    "it never can, move it away: the same command then looks at the next one."
                ) from error
            log.warning("The checkpoint %s could not be read (%s): it is read again in %g s.", path, why, pauses[0])
        time.sleep(pauses.pop(0))


class Checkpoints:
    """The checkpoints of one run, in one directory.

    Attributes:
        damaged: those that `newest` and `look` found to be so, each with the reason.
    """

    def __init__(self, directory: Path) -> None:
        self.last, self.previous, self.best = (directory / f"{name}.pt" for name in ("last", "previous", "best"))
        self.damaged: dict[Path, str] = {}

    def save(self, state: State, best: bool = False) -> None:
        """Write `last`, keep the old one as `previous`, and link it as `best` if it is. One process calls this.

        Raises a UserError if it cannot be written; `last` is then as it was.
        """
        new = self.last.with_suffix(".tmp")
        try:
            self.last.parent.mkdir(exist_ok=True)  # and not a run directory that was taken away
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
        """Make `best` another name of `path`."""
        _link(path, self.best)

    def newest(self) -> tuple[Path, State] | None:
        """Find the newest whole checkpoint of `last` and `previous`, and what is in it; None if neither is whole.

        Changes nothing: `put_aside` does, when it is certain how the run goes on. Raises a UserError for one that
        cannot be read now, which is not to say that it is damaged.
        """
        self.damaged = {}
        for path in (self.last, self.previous):
            if found := self.look(path):
                return found
        return None

    def look(self, path: Path) -> tuple[Path, State] | None:
        """Read one checkpoint; return its path and what is in it, or None if it is not there or damaged.

        Raises as `newest` does.
        """
        try:
            return path, read_patiently(path)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self.damaged[path] = str(error)
            return None

    def put_aside(self) -> None:
        """Give what `newest` found damaged another name, so that the next one saved is not written over it."""
        for path in self.damaged:
            os.replace(path, unused(path.with_suffix(".damaged")))

    def use_as_last(self, path: Path) -> None:
        """Make `last` another name of `path`, so that the next start goes on from there, too."""
        _link(path, self.last)

    def traces(self) -> list[str]:
        """The names of the files that only a run which has saved leaves behind."""
        directory = self.last.parent
        if directory.is_symlink() and not directory.exists():
            return [f"{directory.name}, a link to nothing"]
        damaged = (path.name for path in directory.glob("*.damaged"))
        there = (path.name for path in (self.last, self.previous, self.best) if os.path.lexists(path))
        return [*there, *sorted(damaged)]


def _reason(error: BaseException) -> str:
    """The operating system's word for what failed; torch hides it beneath its own exception."""
    inner = error
    while not isinstance(inner, OSError) and (inner.__cause__ or inner.__context__):
        inner = inner.__cause__ or inner.__context__  # type: ignore[assignment]
    return (inner.strerror or str(inner)) if isinstance(inner, OSError) else str(error).splitlines()[0]


def _link(source: Path, target: Path) -> None:
    """Make `target` another name of `source`, at once; a copy where the file system has no hard links."""
    if target.exists() and target.samefile(source):  # renaming one name of a file to another leaves both
        return
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
