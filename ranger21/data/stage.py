"""Packs on a node's own disk: copied there once, before the training, by whichever rank is first. Imports no torch."""

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ranger21.config import DataConfig, ImageFolderConfig
from ranger21.data.pack import FACTS, read_facts
from ranger21.data.room import require_space, size_text, tell
from ranger21.errors import UserError
from ranger21.processes import Bar, take

PIECE = 1 << 22
Stopped = Callable[[], int]  # the exit code, once the run is told to stop


def wants_copy(config: DataConfig) -> bool:
    return isinstance(config, ImageFolderConfig) and config.stage is not None


def place(config: ImageFolderConfig) -> Path:
    """The folder of the copy: its name says of which pack it is."""
    folder = Path(os.path.expandvars(config.stage or ""))
    with suppress(RuntimeError):  # there is no such user
        folder = folder.expanduser()
    wrong = "names a variable that is not set" if "$" in str(folder) else "is no absolute path"
    if "$" in str(folder) or not folder.is_absolute():
        text = f"data.stage={config.stage} {wrong} on {socket.gethostname()}"
        raise UserError(f"{text}: ask your site for the folder that is on each node's own disk.")
    pack = Path(config.pack or "")
    return folder / f"{pack.resolve().name}-{hashlib.sha256((pack / FACTS).read_bytes()).hexdigest()[:8]}"


def staged(config: DataConfig) -> DataConfig:
    """The configuration with the copy in place of the pack, where one is wanted."""
    if isinstance(config, ImageFolderConfig) and wants_copy(config):
        return replace(config, pack=str(place(config)), stage=None)
    return config


def stage(config: DataConfig, stopped: Stopped) -> int:
    """Copies what is missing of the copy on this node; returns 0, or the exit code of a stop in between.

    Of several processes on a node one copies and the others wait, also those of other jobs; when that one dies, the
    next goes on. A file has its name once it is whole: size and checksum as the pack says.
    """
    assert isinstance(config, ImageFolderConfig)
    pack, target = Path(config.pack or ""), place(config)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _alone(target, stopped) as mine:
            return _copy_missing(pack, target, stopped) if mine else stopped()
    except OSError as error:
        text = f"{pack} could not be copied to {target} ({error.strerror or error})"
        raise UserError(f"{text}: make room there, or choose another data.stage.") from error


@contextmanager
def _alone(folder: Path, stopped: Stopped) -> Iterator[bool]:
    """Waits until no other process has the folder; False if the run is stopped meanwhile."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        while not stopped() and not take(handle):
            time.sleep(0.2)
        yield not stopped()
    finally:
        os.close(handle)


def _files(pack: Path) -> Iterator[tuple[str, int, str | None]]:
    """Name, size and SHA-256 (of archives) of every file; last the one that makes a folder a pack."""
    for shards in read_facts(pack)["splits"].values():
        yield from ((shard["file"], shard["bytes"], shard["sha256"]) for shard in shards)
    yield from ((name, (pack / name).stat().st_size, None) for name in ("train.npz", "val.npz", FACTS))


def _copy_missing(pack: Path, target: Path, stopped: Stopped) -> int:
    missing = [file for file in _files(pack) if not _has(target / file[0], file[1])]
    if not missing:
        return 0
    for left in target.glob(".*.tmp"):  # of a copy that was killed
        left.unlink()
    tell(f"{socket.gethostname()}: {pack} is copied to {target}")
    require_space(target, sum(size for _, size, _ in missing))
    with Bar("copied", sum(size for _, size, _ in missing), size_text) as bar:
        for name, _, digest in missing:
            if not _copy(pack / name, target / name, digest, stopped, bar):
                break
    return stopped()


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _copy(source: Path, target: Path, digest: str | None, stopped: Stopped, bar: Any) -> bool:
    """False if the run was stopped before the end."""
    new, seen = target.with_name(f".{target.name}.tmp"), hashlib.sha256()
    with open(source, "rb") as reader, open(new, "wb") as writer:
        while piece := reader.read(PIECE):
            if stopped():
                return False
            writer.write(piece)
            seen.update(piece)
            bar.advance(len(piece))
        writer.flush()
        os.fsync(writer.fileno())
    if digest not in (None, seen.hexdigest()):
        new.unlink()
        raise UserError(f"{source} is damaged: run the command again that made the pack, with --check.")
    os.replace(new, target)
    return True
