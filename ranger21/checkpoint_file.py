"""Reading one checkpoint file: of this package or of another, whole or damaged, known or strange.

A checkpoint is torch's own zip format, which carries a CRC-32 of every record. torch does not look at it when it reads;
here it is checked, so a flipped byte is found.
"""

import argparse
import errno
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from ranger21.errors import UserError
from ranger21.files import newer
from ranger21.wording import reason

State = dict[str, Any]
FORMAT = 2  # of what a run saves: 1 had no names of classes
UNSAFE = re.compile(r"GLOBAL ([\w.]+)")  # in torch's refusal to run code
OLD = b"\x80\x02\x8a\x0a"  # how files of torch up to 1.5 begin; they are no zip archives and have no checksums


class Damaged(Exception):
    """The file is not a whole checkpoint; the message says why."""


class Foreign(Damaged):
    """The file is whole, but code would have to be run to read it; the message says which."""


def read(path: Path) -> State:
    """The checkpoint at `path`, on the CPU. Raises `Damaged`, or OSError if the file cannot be read at all."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad is not None:
            raise Damaged(f"the checksum of its record {bad} is wrong")
        return load(path)
    except OSError as error:
        if error.errno == errno.EINVAL:  # the file's own directory points nowhere
            raise Damaged("its directory of records is broken") from error
        raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError, ValueError) as error:
        raise Damaged(reason(error)) from error
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise Foreign("it is a TorchScript program, and no file of tensors") from error
        raise Damaged(reason(error)) from error
    except (pickle.UnpicklingError, EOFError, KeyError) as error:
        raise Damaged(f"its contents cannot be read: {reason(error)}") from error


def load(path: Path) -> State:
    """What torch.save wrote, if it is made of tensors and plain values; timm's checkpoints have a Namespace, too.

    Raises `Foreign` if it is made of anything else, and what torch raises for a damaged file.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = UNSAFE.search(str(error))
        if found is None:
            raise
        raise Foreign(f"it has {found.group(1)} in it") from error


def read_file(path: Path) -> State:
    """What torch.save wrote to a file that a user named: of this package, or of another. Raises a UserError."""
    try:
        with open(path, "rb") as file:
            old = file.read(len(OLD)) == OLD
        state = load(path) if old else read(path)
    except FileNotFoundError as error:
        raise UserError(f"There is no checkpoint {path}.") from error
    except Foreign as error:
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
            f"{path} has weights, but not the run that they are of, under the keys 'config' and 'data': give a "
            "checkpoint that train.py wrote."
        )
    _require_a_run(state, path)
    return state


def require_known_format(state: State, path: Path) -> None:
    """Raises a UserError for the checkpoint of a later version of this package."""
    if why := newer(state, FORMAT):
        raise UserError(f"{path} cannot be used: {why}.")


def _require_a_run(state: State, path: Path) -> None:
    """Raises a UserError if what lies under the keys of a run's checkpoint is not what train.py puts there."""
    model, config, data = state["model"], state["config"], state["data"]
    good = all(isinstance(part, dict) and part for part in (model, config, data))
    good = good and all(isinstance(weight, torch.Tensor) for weight in model.values())
    good = good and all(isinstance(config.get(key), dict) for key in ("model", "data", "optimizer", "trainer"))
    if not good or not data.keys() >= {"classes", "channels"}:
        raise UserError(f"{path} has the keys of a run's checkpoint, but other contents: train.py did not write it.")


def weights_path(source: str) -> Path:
    """The checkpoint that a user means by a path: a run directory's is its best one."""
    if not source.strip():
        raise UserError("An empty path names no checkpoint: give a run directory or a checkpoint.")
    path = Path(source)
    if path.is_dir():
        best, last = (path / "checkpoints" / f"{name}.pt" for name in ("best", "last"))
        return best if best.exists() else last
    return path
