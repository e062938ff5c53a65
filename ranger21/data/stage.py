"""Packs on a node's own disk: copied there once, before the training, by whichever rank is first. Imports no torch.

The copy lies in a folder that nobody else may write to; `ranger21.data.copying` says what of it is right.
"""

import hashlib
import os
import socket
import stat as modes
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ranger21.data.copying import Copy, Stopped
from ranger21.data.datasets.base import DataConfig
from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.pack import FACTS
from ranger21.system.errors import UserError
from ranger21.system.locks import take


def wants_copy(config: DataConfig) -> bool:
    return isinstance(config, ImageFolderConfig) and config.stage is not None


def place(config: ImageFolderConfig) -> Path:
    """The folder of the copy: its name says of which pack it is, and the one above whose."""
    folder = Path(os.path.expandvars(config.stage or ""))
    with suppress(RuntimeError):  # there is no such user
        folder = folder.expanduser()
    wrong = "names a variable that is not set" if "$" in str(folder) else "is not an absolute path"
    if "$" in str(folder) or not folder.is_absolute():
        text = f"data.stage={config.stage} {wrong} on {socket.gethostname()}"
        raise UserError(f"{text}: ask your site for the folder that is on each node's own disk.")
    pack = Path(config.pack or "")
    of_pack = hashlib.sha256((pack / FACTS).read_bytes()).hexdigest()[:8]
    return folder / f"ranger21-{os.geteuid()}" / f"{pack.resolve().name}-{of_pack}"


def staged(config: DataConfig) -> DataConfig:
    """The configuration with the copy in place of the pack, where one is wanted."""
    if isinstance(config, ImageFolderConfig) and wants_copy(config):
        return replace(config, pack=str(place(config)), stage=None)
    return config


def stage(config: DataConfig, stopped: Stopped) -> int:
    """Copy what this node's copy lacks or has wrong; return 0, or the exit code of a stop in between.

    Of several processes on a node one copies and the others wait, also those of other jobs; when that one dies, the
    next goes on. A file has its name once it is whole: size and checksum as the pack says.
    Raises a UserError if somebody else could change the copy.
    """
    assert isinstance(config, ImageFolderConfig)
    pack, target = Path(config.pack or ""), place(config)
    try:
        own = target.parent
        own.parent.mkdir(parents=True, exist_ok=True)
        require_sticky(own.parent)
        for folder in (own, target):
            take_over(folder)
        with _alone(target, stopped) as mine:
            return Copy(pack, target, stopped).complete() if mine else stopped()
    except OSError as error:
        text = f"{pack} could not be copied to {target} ({error.strerror or error})"
        raise UserError(f"{text}: make room there, or choose another data.stage.") from error


def require_sticky(folder: Path) -> None:
    """Raise a UserError if every user may rename the other users' files in a folder."""
    mode = folder.stat().st_mode
    if mode & modes.S_IWOTH and not mode & modes.S_ISVTX:
        text = "is a folder in which every user may rename what others have (it lacks the sticky bit of /tmp)"
        raise UserError(f"{folder} {text}: choose another data.stage, or ask its owner for chmod +t.")


def take_over(folder: Path) -> None:
    """Make a folder for its owner alone. Raises a UserError for one that is there and could be changed by others."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    state = folder.lstat()
    if modes.S_ISLNK(state.st_mode):
        wrong = "is a link"
    elif not modes.S_ISDIR(state.st_mode):
        wrong = "is not a folder"
    elif state.st_uid != os.geteuid():
        wrong = f"belongs to another user (number {state.st_uid})"
    elif state.st_mode & (modes.S_IWGRP | modes.S_IWOTH):
        wrong = "may be written to by others"
    else:
        return
    text = "and the copy of a pack must be in a folder that nobody else can change"
    raise UserError(f"{folder} on {socket.gethostname()} {wrong}, {text}: remove it, or choose another data.stage.")


@contextmanager
def _alone(folder: Path, stopped: Stopped) -> Iterator[bool]:
    """Wait until no other process has the folder; False if the run is stopped meanwhile."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        while not stopped() and not take(handle):
            time.sleep(0.2)
        yield not stopped()
    finally:
        os.close(handle)
