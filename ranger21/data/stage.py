"""Staging: copy a pack to the node's local disk before training (data.stage). Imports no torch.

The first rank on a node copies the pack once, into a folder that no other user can write to (`ranger21.data.copying`).
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
from ranger21.system.files import remedy
from ranger21.system.locks import take


def wants_copy(config: DataConfig) -> bool:
    return isinstance(config, ImageFolderConfig) and config.stage is not None


def place(config: ImageFolderConfig) -> Path:
    """Return the folder of the copy, named after the pack's contents, in a folder named after the user.

    Raises:
        UserError: If data.stage has an undefined variable or is not an absolute path.
    """
    folder = Path(os.path.expandvars(config.stage or ""))
    with suppress(RuntimeError):  # unknown user
        folder = folder.expanduser()
    wrong = "names a variable that is not set" if "$" in str(folder) else "is not an absolute path"
    if "$" in str(folder) or not folder.is_absolute():
        text = f"data.stage={config.stage} {wrong} on {socket.gethostname()}"
        raise UserError(f"{text}. Ask your site for the folder on each node's local disk.")
    pack = Path(config.pack or "")
    of_pack = hashlib.sha256((pack / FACTS).read_bytes()).hexdigest()[:8]
    return folder / f"ranger21-{os.geteuid()}" / f"{pack.resolve().name}-{of_pack}"


def staged(config: DataConfig) -> DataConfig:
    """Return the configuration with the copy instead of the pack, if data.stage is set."""
    if isinstance(config, ImageFolderConfig) and wants_copy(config):
        return replace(config, pack=str(place(config)), stage=None)
    return config


def stage(config: DataConfig, stopped: Stopped) -> int:
    """Complete this node's copy of the pack; return the exit code if the run is told to stop, else 0.

    One process per node copies while the others wait, including those of other jobs. If it dies, the next one
    continues. A file gets its final name only after its size and checksum were verified.

    Raises:
        UserError: If another user could change the copy, or the copy cannot be written.
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
        raise UserError(f"{text}: {remedy(error)}, or choose another data.stage.") from error


def require_sticky(folder: Path) -> None:
    """Raise a UserError if any user may rename other users' files in a folder."""
    mode = folder.stat().st_mode
    if mode & modes.S_IWOTH and not mode & modes.S_ISVTX:
        text = "lets any user rename the files of others, because it lacks the sticky bit that /tmp has"
        raise UserError(f"{folder} {text}. Choose another data.stage, or ask its owner for chmod +t.")


def take_over(folder: Path) -> None:
    """Create a folder that only this user can access, or raise a UserError if it exists and others could change it."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    state = folder.lstat()
    if modes.S_ISLNK(state.st_mode):
        wrong = "is a link"
    elif not modes.S_ISDIR(state.st_mode):
        wrong = "is not a folder"
    elif state.st_uid != os.geteuid():
        wrong = f"belongs to another user (user ID {state.st_uid})"
    elif state.st_mode & (modes.S_IWGRP | modes.S_IWOTH):
        wrong = "is writable by other users"
    else:
        return
    text = "but no other user may be able to change the copy of a pack"
    raise UserError(f"{folder} on {socket.gethostname()} {wrong}, {text}. Remove it, or choose another data.stage.")


@contextmanager
def _alone(folder: Path, stopped: Stopped) -> Iterator[bool]:
    """Wait for the lock of a folder; yield False if the run is told to stop while waiting."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        while not stopped() and not take(handle):
            time.sleep(0.2)
        yield not stopped()
    finally:
        os.close(handle)
