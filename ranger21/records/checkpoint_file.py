"""Reading one checkpoint file: of this package or of another, whole or damaged, known or strange.

A checkpoint is torch's own zip format, with a directory of its records at the end. The directory has a CRC-32 of every
record, which torch does not look at when it reads; here it is checked, and so is what the checksums leave open. torch
is then given the same open file. What a read error of the system makes torch or zipfile say is not taken for damage.
"""

import argparse
import contextlib
import errno
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from ranger21.records.pickles import Unusual, check_pickle, check_values
from ranger21.system.errors import UserError
from ranger21.system.files import newer
from ranger21.system.memory import lacks_memory
from ranger21.system.wording import reason

State = dict[str, Any]
FORMAT = 2  # of what a run saves: 1 had no names of classes
ZIP = b"PK\x03\x04"  # how files of torch begin
OLD = b"\x80\x02\x8a\x0a"  # how those of torch up to 1.5 begin, which are no zip archives and have no checksums
FOLDER = 0x10  # in a record's attributes, by DOS; torch reads no bytes of such a record


class Damaged(Exception):
    """The file is not a whole checkpoint; the message says why."""


class Foreign(Damaged):
    """The file is whole, but code would have to be run to read it; the message says which."""


class _Source(io.RawIOBase):
    """A file that remembers the error of a read, which zipfile and torch may hide or take for damage."""

    def __init__(self, path: Path) -> None:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for ever, /dev/zero never end
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        self._file = open(path, "rb", buffering=0)
        self.failed: OSError | None = None

    def readinto(self, buffer: Any) -> int:
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            self.failed = error
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            if error.errno != errno.EINVAL:  # which means that the file's own directory points nowhere
                self.failed = error
            raise

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Give the open file; raise OSError in the place of any error if it, or memory for it, cannot be had now."""
    source = _Source(path)
    with io.BufferedReader(source) as file:
        try:
            yield file
        except Exception as error:
            if source.failed is not None:
                raise source.failed from error
            if lacks_memory(error.__cause__ or error):
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(path)) from error
            raise


def read(path: Path) -> State:
    """Read the checkpoint at `path`, on the CPU. Raises `Damaged`, or OSError if the file cannot be read now."""
    with _opened(path) as file:
        return _verified(file)


def _verified(file: IO[bytes]) -> State:
    """Return the contents of an archive of torch.save's, if all records are as written. Raises `Damaged`."""
    try:
        file.seek(0)
        if file.read(len(ZIP)) != ZIP:
            raise Damaged("it does not begin as torch's files do")
        with zipfile.ZipFile(file) as archive:
            _check_records(archive, file.seek(0, os.SEEK_END))
            with archive.open(f"{_root(archive)}/data.pkl") as pickled:
                check_pickle(pickled)
            sizes = sorted(info.file_size for info in archive.infolist() if info.filename.split("/")[1] == "data")
        state, loaded = _load(file)
    except Damaged:
        raise
    except Unusual as error:
        raise Foreign(str(error)) from error
    except OSError as error:  # of a seek; what a read says is raised by _opened
        raise Damaged("its directory of records is broken") from error
    except Exception as error:
        raise Damaged(f"its contents cannot be read: {reason(error)}") from error
    if [size for size in sizes if size] != sorted(size for size in loaded if size):
        raise Damaged("its records are not of the sizes of its tensors")
    return state


def _root(archive: zipfile.ZipFile) -> str:
    """The folder that all records are in, which torch names after the file."""
    if not archive.namelist():
        raise Damaged("it has no records")
    return archive.namelist()[0].split("/")[0]


def _check_records(archive: zipfile.ZipFile, size: int) -> None:
    """Raise `Damaged` unless every record has its checksum, and torch finds each where zipfile does."""
    infos, root = archive.infolist(), _root(archive)
    if f"{root}/constants.pkl" in archive.namelist():
        raise Foreign("it is a TorchScript program, not a file of tensors")
    for info in infos:
        if info.is_dir() or info.external_attr & FOLDER:
            raise Damaged(f"its record {info.filename} is marked as a folder")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise Damaged(f"its record {info.filename} is compressed, as torch never writes one")
        if not info.filename.startswith(f"{root}/"):
            raise Damaged(f"its record {info.filename} is not in {root}, as the others are")
    if len({info.filename.lower() for info in infos}) < len(infos):  # torch takes no notice of case
        raise Damaged("two of its records have one name")
    if sum(info.file_size for info in infos) > size:
        raise Damaged(f"its records claim more bytes than it has ({size})")
    bad = archive.testzip()
    if bad is not None:
        raise Damaged(f"the checksum of its record {bad} is wrong")


def _load(file: IO[bytes]) -> tuple[State, list[int]]:
    """Load what torch.save wrote, on the CPU, and the bytes of each storage; timm's files have a Namespace, too."""
    sizes: list[int] = []
    file.seek(0)

    def keep(storage: Any, location: str) -> Any:
        sizes.append(storage.nbytes())
        return storage

    with torch.serialization.safe_globals([argparse.Namespace]):
        state = torch.load(file, map_location=keep, weights_only=True)
    check_values(state)
    return state, sizes


def _read_old(file: IO[bytes]) -> State:
    """Load what torch up to 1.5 wrote: pickles, of which the fourth has the contents, then the tensors' bytes."""
    file.seek(0)
    for _ in range(4):
        check_pickle(file)
    return _load(file)[0]


def read_file(path: Path) -> State:
    """Read what torch.save wrote to a file that a user named: of this package, or of another. Raises a UserError."""
    try:
        with _opened(path) as file:
            state = _read_old(file) if file.read(len(OLD)) == OLD else _verified(file)
    except FileNotFoundError as error:
        raise UserError(f"There is no checkpoint {path}.") from error
    except (Foreign, Unusual) as error:
        raise UserError(
            f"{path} cannot be read without running code that is in it ({error}), which is not done. Where you trust "
            "the file, load it yourself and save the tensors alone: torch.save(model.state_dict(), ...)."
        ) from error
    except OSError as error:
        raise UserError(f"The checkpoint {path} cannot be read ({error.strerror}).") from error
    except Exception as error:  # `Damaged`, or whatever an old file's damage raises
        raise UserError(f"The checkpoint {path} is damaged: {reason(error)}.") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} has no weights: torch.save wrote a {type(state).__name__}.")
    if state.keys() >= {"model", "config", "data"}:
        require_known_format(state, path)
    return state


def read_run(source: str) -> State:
    """The checkpoint that a user means by a path, with its run's configuration and data. Raises a UserError."""
    path = weights_path(source)
    if path.suffix == ".safetensors":
        raise UserError(f"{path} is an exported file: give a checkpoint that train.py wrote, or its run directory.")
    state = read_file(path)
    if not state.keys() >= {"model", "config", "data"}:
        raise UserError(
            f"{path} has weights but does not record the run that made them: the keys 'config' and 'data' are missing. "
            "Give a checkpoint that train.py wrote."
        )
    model = state["model"]
    weights = isinstance(model, dict) and model and all(isinstance(weight, torch.Tensor) for weight in model.values())
    if not weights or not is_of_a_run(state["config"], state["data"]):
        raise UserError(f"{path} has the keys of a run's checkpoint, but other contents: train.py did not write it.")
    return state


def require_known_format(state: State, path: Path) -> None:
    """Raise a UserError for the checkpoint of a later version of this package."""
    if why := newer(state, FORMAT):
        raise UserError(f"{path} cannot be used: {why}.")


def is_of_a_run(config: Any, data: Any) -> bool:
    """Return whether values are such as train.py writes into a checkpoint under `config` and `data`."""
    if not isinstance(config, dict) or not isinstance(data, dict):
        return False
    names, classes, channels = (data.get(key) for key in ("names", "classes", "channels"))
    whole = all(isinstance(config.get(key), dict) for key in ("model", "data", "optimizer", "trainer"))
    counted = all(isinstance(count, int) and count > 0 for count in (classes, channels))
    if names is None:  # of an older version
        return whole and counted
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return whole and counted and listed and len(names) == classes


def weights_path(source: str) -> Path:
    """The checkpoint that a user means by a path: a run directory's is its best one."""
    if not source.strip():
        raise UserError("An empty path names no checkpoint: give a run directory or a checkpoint.")
    path = Path(source)
    if path.is_dir():
        best, last = (path / "checkpoints" / f"{name}.pt" for name in ("best", "last"))
        return best if best.exists() else last
    return path
