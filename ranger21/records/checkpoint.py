"""The checkpoints of a run, which survive a kill, a full disk and a bad sector.

A checkpoint is a file of `torch.save`. It is written to a temporary file, synced to disk and renamed, so that its name
never refers to a partial file. `last.pt` is the newest checkpoint, `previous.pt` the one before it, and `best.pt` (a
hard link where the file system supports them) the one with the best validation accuracy. `step-STEP.pt` are those that
are kept (trainer.keep_every, and schedule=cyclic at the end of a cycle). See checkpoint_file.py for reading one.
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
from ranger21.system.files import remedy, unused
from ranger21.system.wording import reason

log = logging.getLogger(__name__)
KEPT = "step-{:08d}.pt"  # a checkpoint that is kept, by its step
PAUSES = (0.5, 2.0, 5.0)  # seconds before each further attempt to read a file


def read_patiently(path: Path) -> State:
    """Read the checkpoint at `path` to the CPU, trying again after a pause if it cannot be read or seems damaged.

    Raises a UserError if it cannot be read now or is not a checkpoint of a run, `Damaged` if it seemed damaged twice,
    and FileNotFoundError if it does not exist.
    """
    pauses, damaged = list(PAUSES), False
    while True:
        try:
            return read(path)
        except FileNotFoundError as error:
            if not path.is_symlink():
                raise
            text = f"The checkpoint {path} is a link to {path.readlink()}, which does not exist"
            raise UserError(f"{text}: restore that file, or remove the link.") from error
        except Foreign as error:
            text = f"{path} is not a checkpoint of a run ({error}): restore the run's own, or choose another run_dir=."
            raise UserError(text) from error
        except Damaged:
            if damaged or not pauses:
                raise
            damaged = True
        except OSError as error:
            why = error.strerror or str(error)
            if not pauses:
                raise UserError(
                    f"The checkpoint {path} cannot be read now ({why}): run the same command again once it can. If "
                    "it stays unreadable, move it away: the same command then tries the next checkpoint."
                ) from error
            log.warning("The checkpoint %s could not be read (%s): trying again in %g s.", path, why, pauses[0])
        time.sleep(pauses.pop(0))


class Checkpoints:
    """The checkpoints of one run, in one directory.

    Attributes:
        damaged: checkpoints that `newest` and `look` found damaged, with the reason for each.
    """

    def __init__(self, directory: Path) -> None:
        self.last, self.previous, self.best = (directory / f"{name}.pt" for name in ("last", "previous", "best"))
        self.damaged: dict[Path, str] = {}

    def save(self, state: State, best: bool = False, keep: int | None = None) -> None:
        """Write `last`, keep the old one as `previous`, and link the new one as `best` if requested.

        Only one process may call this.

        Args:
            state: the contents.
            best: whether it is the best so far.
            keep: the step in the name of a further link to it, which later checkpoints do not replace; None for none.

        Raises a UserError if it cannot be written; `last` is then unchanged.
        """
        new = self.last.with_suffix(".tmp")
        try:
            self.last.parent.mkdir(exist_ok=True)  # without parents: do not recreate a run directory that was removed
            with open(new, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            if keep is not None:  # before `last`, which tells a resumed run that this step is done
                _link(new, self.last.with_name(KEPT.format(keep)))
            if self.last.exists():
                _link(self.last, self.previous)
            os.replace(new, self.last)
            if best:
                self.mark_best(self.last)
            _sync_directory(self.last.parent)
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            kept = "the previous one is unchanged" if self.last.exists() else "there is no previous one"
            cause = _cause(error)
            why = (isinstance(cause, OSError) and cause.strerror) or reason(cause)
            raise UserError(
                f"The checkpoint {self.last} could not be written ({why}); {kept}. {remedy(cause).capitalize()} and "
                "run the same command again."
            ) from error

    def mark_best(self, path: Path) -> None:
        """Link `best` to `path`."""
        _link(path, self.best)

    def newest(self) -> tuple[Path, State] | None:
        """Return the path and contents of the first intact checkpoint of `last` and `previous`; None if there is none.

        Changes no file; `put_aside` renames damaged checkpoints once it is certain how the run continues. Raises a
        UserError for a checkpoint that cannot be read now, which does not mean that it is damaged.
        """
        self.damaged = {}
        for path in (self.last, self.previous):
            if found := self.look(path):
                return found
        return None

    def look(self, path: Path) -> tuple[Path, State] | None:
        """Read one checkpoint; return its path and contents, or None if it is missing or damaged.

        Raises a UserError if it cannot be read now.
        """
        try:
            return path, read_patiently(path)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self.damaged[path] = str(error)
            return None

    def put_aside(self) -> None:
        """Rename the checkpoints found damaged, so that the next save does not overwrite them."""
        for path in self.damaged:
            os.replace(path, unused(path.with_suffix(".damaged")))

    def kept(self) -> list[Path]:
        """Return the checkpoints that `save` was asked to keep, by step."""
        return sorted(self.last.parent.glob("step-*.pt"))

    def use_as_last(self, path: Path) -> None:
        """Link `last` to `path`, so that later starts resume from it."""
        _link(path, self.last)

    def traces(self) -> list[str]:
        """Return the names of files that show that the run has saved a checkpoint."""
        directory = self.last.parent
        if directory.is_symlink() and not directory.exists():
            return [f"{directory.name}, a link to nothing"]
        damaged = (path.name for path in directory.glob("*.damaged"))
        there = (path.name for path in (self.last, self.previous, self.best) if os.path.lexists(path))
        return [*there, *sorted(damaged)]


def _cause(error: BaseException) -> BaseException:
    """Return the operating system's error, which torch hides behind its own exception; `error` if there is none."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, OSError):
        inner = inner.__cause__ or inner.__context__
    return inner or error


def _link(source: Path, target: Path) -> None:
    """Atomically make `target` a hard link to `source`, or a copy where the file system has no hard links."""
    if target.exists() and target.samefile(source):  # renaming between two links to one file would keep both
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
