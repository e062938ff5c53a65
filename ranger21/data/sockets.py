"""The folder in TMPDIR for the sockets over which workers pass images. Imports no torch."""

import contextlib
import multiprocessing.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from ranger21.system.errors import UserError
from ranger21.system.locks import take

MARK = "of-ranger21"  # file that marks our folders; other programs have similar folders but do not lock them
LONGEST = (108 if sys.platform == "linux" else 104) - len(
    "/pymp-12345678/listener-12345678\0"
)  # largest number of bytes of TMPDIR's path
_held: dict[Path, int] = {}  # file descriptors that stay open while this process lives


def prepare_sockets() -> None:
    """Create this process's folder for sockets, if there is none yet, and remove folders left by killed runs.

    Workers forked later use the folder, and it is removed when this process ends. A folder inherited from the parent
    process is not marked as ours, because other processes use it as well.

    Raises:
        UserError: If the path of TMPDIR is too long, or no folder can be created there.
    """
    temporary = Path(tempfile.gettempdir())
    _require_short(str(temporary))
    handed_down = multiprocessing.current_process()._config.get("tempdir") is not None  # type: ignore[attr-defined]
    try:
        folder = Path(multiprocessing.util.get_temp_dir())
    except OSError as error:
        text = f"Cannot create a folder for the sockets of workers in TMPDIR={temporary} ({error.strerror})"
        raise UserError(f"{text}. Free some space there, or set data.workers=0.") from error
    if folder in _held:
        return
    sweep_sockets(temporary)
    if handed_down:
        return
    descriptor = _held[folder] = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # without locks there is no mark, and the folder is never swept
        if take(descriptor):
            (folder / MARK).touch()


def sweep_sockets(temporary: Path) -> None:
    """Remove socket folders of killed runs: those with our mark that belong to this user and are not locked."""
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
    """Return whether the path of a folder is short enough for sockets."""
    return len(os.fsencode(folder)) <= LONGEST


def _require_short(folder: str) -> None:
    """Raise a UserError if TMPDIR is too long, because torch waits forever for a socket that cannot be created."""
    if not is_short(folder):
        raise UserError(
            f"TMPDIR={folder} is too long for the sockets of workers. Set TMPDIR to a folder with a path of at most "
            f"{LONGEST} characters, or set data.workers=0."
        )
