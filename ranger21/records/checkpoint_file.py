"""Safe reading of one checkpoint file, of this package or another, intact, damaged or hostile.

A checkpoint is torch's zip format with a directory of its records at the end. The directory has a CRC-32 of every
record, which torch does not verify; it is verified here, together with properties that the checksums do not cover.
torch then reads the same open file. Read errors of the operating system are not mistaken for damage.
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
FORMAT = 2  # format of a run's checkpoints; format 1 had no class names
AVERAGE = "model_ema"  # key of the average of the weights (trainer.ema) in a run's checkpoints, as in timm's
ZIP = b"PK\x03\x04"  # first bytes of a torch file
OLD = b"\x80\x02\x8a\x0a"  # first bytes of a file of torch up to 1.5, which is not a zip archive and has no checksums
FOLDER = 0x10  # DOS attribute of a folder; torch reads no bytes of a record with it


class Damaged(Exception):
    """Error for a file that is not an intact checkpoint; the message says why."""


class Foreign(Damaged):
    """Error for an intact file that cannot be read without running code in it; the message names the code."""


class _Source(io.RawIOBase):
    """File that remembers a read error, which zipfile and torch may hide or mistake for damage."""

    def __init__(self, path: Path) -> None:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe could block forever, and /dev/zero never ends
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
            if error.errno != errno.EINVAL:  # EINVAL: a wrong offset in the file's own directory of records
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
    """Yield the open file; convert errors that are due to a read error or a lack of memory to OSError."""
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
    """Read the checkpoint at `path` to the CPU. Raises `Damaged`, or OSError if the file cannot be read now."""
    with _opened(path) as file:
        return _verified(file)


def _verified(file: IO[bytes]) -> State:
    """Return the contents of a torch.save archive after verifying all records. Raises `Damaged`."""
    try:
        file.seek(0)
        if file.read(len(ZIP)) != ZIP:
            raise Damaged("it does not begin like a torch file")
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
    except OSError as error:  # caused by a seek; _opened raises read errors
        raise Damaged("its directory of records is broken") from error
    except Exception as error:
        raise Damaged(f"its contents cannot be read: {reason(error)}") from error
    if [size for size in sizes if size] != sorted(size for size in loaded if size):
        raise Damaged("the sizes of its records do not match its tensors")
    return state


def _root(archive: zipfile.ZipFile) -> str:
    """Return the folder that contains all records, which torch names after the file."""
    if not archive.namelist():
        raise Damaged("it has no records")
    return archive.namelist()[0].split("/")[0]


def _check_records(archive: zipfile.ZipFile, size: int) -> None:
    """Raise `Damaged` unless every checksum is right and torch would find each record where zipfile does."""
    infos, root = archive.infolist(), _root(archive)
    if f"{root}/constants.pkl" in archive.namelist():
        raise Foreign("it is a TorchScript program, not a file of tensors")
    for info in infos:
        if info.is_dir() or info.external_attr & FOLDER:
            raise Damaged(f"its record {info.filename} is marked as a folder")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise Damaged(f"its record {info.filename} is compressed, which torch never does")
        if not info.filename.startswith(f"{root}/"):
            raise Damaged(f"its record {info.filename} is not in {root}, unlike the others")
    if len({info.filename.lower() for info in infos}) < len(infos):  # torch ignores case
        raise Damaged("two of its records have the same name")
    if sum(info.file_size for info in infos) > size:
        raise Damaged(f"its records claim more bytes than the file has ({size})")
    bad = archive.testzip()
    if bad is not None:
        raise Damaged(f"the checksum of its record {bad} is wrong")


def _load(file: IO[bytes]) -> tuple[State, list[int]]:
    """Load a torch.save file to the CPU; return its contents and the size of each storage in bytes.

    An argparse.Namespace is allowed because timm's checkpoints contain one.
    """
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
    """Load a file of torch up to 1.5: four pickles, the last with the contents, followed by the tensors' bytes."""
    file.seek(0)
    for _ in range(4):
        check_pickle(file)
    return _load(file)[0]


def read_file(path: Path) -> State:
    """Read a torch.save file that the user named, of this package or another. Raises a UserError if that fails."""
    try:
        with _opened(path) as file:
            state = _read_old(file) if file.read(len(OLD)) == OLD else _verified(file)
    except FileNotFoundError as error:
        raise UserError(
            f"There is no checkpoint {path}.{_runs_in(path.parent.parent) if path.name == 'last.pt' else ''}"
        ) from error
    except (Foreign, Unusual) as error:
        raise UserError(
            f"{path} cannot be read without running code in it ({error}), which is refused. If you trust the file, "
            "load it yourself and save only the tensors: torch.save(model.state_dict(), ...)."
        ) from error
    except OSError as error:
        raise UserError(f"The checkpoint {path} cannot be read ({error.strerror}).") from error
    except Exception as error:  # `Damaged`, or any error caused by a damaged old file
        raise UserError(f"The checkpoint {path} is damaged: {reason(error)}.") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} has no weights: torch.save wrote a {type(state).__name__}.")
    if state.keys() >= {"model", "config", "data"}:
        require_known_format(state, path)
    return state


def _runs_in(folder: Path) -> str:
    """Return a sentence that names a run directory in a folder, for a user who named an experiment's folder."""
    runs = sorted(place.parent.parent for place in folder.glob("*/checkpoints/last.pt"))
    return f" {folder} contains runs: give one of them, such as {runs[0]}." if runs else ""


def read_run(source: str) -> State:
    """Read the checkpoint that the user named, with its run's configuration and data. Raises a UserError on failure."""
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
    """Raise a UserError if a checkpoint was written by a later version of this package."""
    if why := newer(state, FORMAT):
        raise UserError(f"{path} cannot be used: {why}.")


def is_of_a_run(config: Any, data: Any) -> bool:
    """Return whether two values have the form of those that train.py saves under `config` and `data`."""
    if not isinstance(config, dict) or not isinstance(data, dict):
        return False
    names, classes, channels = (data.get(key) for key in ("names", "classes", "channels"))
    whole = all(isinstance(config.get(key), dict) for key in ("model", "data", "optimizer", "trainer"))
    counted = all(isinstance(count, int) and count > 0 for count in (classes, channels))
    if names is None:  # written by an older version
        return whole and counted
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return whole and counted and listed and len(names) == classes


def weights_path(source: str) -> Path:
    """Return the checkpoint that the user named. In a run directory, this is `best.pt` or else `last.pt`."""
    if not source.strip():
        raise UserError("The path of the checkpoint is empty: give a run directory or a checkpoint.")
    path = Path(source)
    if path.is_dir():
        best, last = (path / "checkpoints" / f"{name}.pt" for name in ("best", "last"))
        return best if best.exists() else last
    return path
