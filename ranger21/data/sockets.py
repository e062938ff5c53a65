"""The folder in TMPDIR with the sockets by which loader processes hand images over. Imports no torch."""

import contextlib
import multiprocessing.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from ranger21.system.errors import UserError
from ranger21.system.locks import take

MARK = "of-ranger21"  # a file in our folders: others' programs have such folders, too, and do not lock them
LONGEST = (108 if sys.platform == "linux" else 104) - len("/pymp-12345678/listener-12345678\0")  # of TMPDIR
_held: dict[Path, int] = {}  # descriptors that stay open as long as this process lives


def prepare_sockets() -> None:
    """Make this process's folder for sockets, if there is none yet, and sweep those that killed runs left.

    The loader processes that are forked from now on use it; it goes when this process ends. One that this process was
    handed down by its parent, or made earlier for something else, is left as it is: it is not of this run alone.
    Raises a UserError if the path of TMPDIR is too long, or it takes no folder.
    """
    temporary = Path(tempfile.gettempdir())
    _require_short(str(temporary))
    handed_down = multiprocessing.current_process()._config.get("tempdir") is not None  # type: ignore[attr-defined]
    try:
        folder = Path(multiprocessing.util.get_temp_dir())
    except OSError as error:
        text = f"TMPDIR={temporary} takes no folder for the sockets of loader processes ({error.strerror})"
        raise UserError(f"{text}: make room there, or set data.workers=0.") from error
    if folder in _held:
        return
    sweep_sockets(temporary)
    if handed_down:
        return
    descriptor = _held[folder] = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # where there are no locks, there is no mark, and nobody sweeps
        if take(descriptor):
            (folder / MARK).touch()


def sweep_sockets(temporary: Path) -> None:
    """Remove the folders for sockets of runs that were killed: ours, this user's, and locked by no process."""
    for folder in temporary.glob("pymp-*"):
        with contextlib.suppress(OSError):
            names = set(os.listdir(folder))
            ours = MARK in names and folder.stat().st_uid == os.geteuid() and not folder.is_symlink()
            if not ours or not all(name == MARK or name.startswith("listener-") for name in names):
                continue
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                if take(descriptor):
                    shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def is_short(folder: str) -> bool:
    """Whether sockets can be in a folder: the system limits their paths."""
    return len(os.fsencode(folder)) <= LONGEST


def _require_short(folder: str) -> None:
    """Raise a UserError if TMPDIR is too long: torch waits for ever for a socket that could not be made."""
    if not is_short(folder):
        raise UserError(
            f"TMPDIR={folder} is too long for the sockets of loader processes: set TMPDIR to a folder with a path of "
            f"at most {LONGEST} characters, or set data.workers=0."
        )
