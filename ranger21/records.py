"""The run directory: who may use it, what it says about the run, and how the run ended."""

import fcntl
import json
import logging
import math
import os
import socket
import struct
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ranger21.compose import parse
from ranger21.config import Config, result_values
from ranger21.data.identity import Match, compare
from ranger21.errors import UserError
from ranger21.files import write_atomically
from ranger21.tracking import number

log = logging.getLogger("ranger21")
TAIL = 64 * 1024  # bytes from the end of a file in which the last numbers, or the last error, are looked for


def to_dict(config: Config) -> dict[str, Any]:
    """Plain containers, as config.yaml and W&B have them."""
    return asdict(config)


def read_config(path: Path) -> Config:
    """The configuration of a run, from its config.yaml. Raises a UserError if this version cannot read it."""
    try:
        node = OmegaConf.load(path)
        assert isinstance(node, DictConfig)
        return parse(node)
    except Exception as error:  # of the file system's, YAML's, or an older version's keys
        raise UserError(f"{path} cannot be read by this version ({error}).") from error


class RunDirectory:
    """One run's directory. Only rank 0 writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.manifest, self.result = (path / n for n in ("config.yaml", "manifest.json", "result.json"))
        self.metrics, self.log, self.checkpoints = path / "metrics.jsonl", path / "log.txt", path / "checkpoints"
        self._lock: Any = None

    def claim(self, config: Config) -> bool:
        """Takes the directory for this run; False if the run is finished already.

        Raises a UserError if another process has it, if it holds a run whose result would be another, or a run at all
        and `resume=never`.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be a run directory ({error.strerror}): choose another run_dir=."
            ) from error
        if self.manifest.exists():  # else a run that never came to its first step
            if config.resume == "never":
                text = f"{self.path} has a run already and resume=never: choose another run_dir=, or delete it."
                raise UserError(text)
            self._require_same(config)
        else:
            write_atomically(self.config, OmegaConf.to_yaml(OmegaConf.create(to_dict(config))))
        if self.result.exists():
            result = json.loads(self.result.read_text())
            log.info("%s is %s already (step %s): nothing to do.", self.path, result["status"], result["step"])
            return False
        return True

    def _take_lock(self) -> None:
        self._lock = open(self.path / ".lock", "a+")
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, no child process inherits it
        except (BlockingIOError, PermissionError) as error:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            text = f"{self.path} is being used by {holder}: wait for it, stop it, or choose another run_dir=."
            raise UserError(text) from error
        except OSError as error:
            log.warning("%s: no locks on this file system (%s): see to it that no two runs share it.", self.path, error)
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._lock.flush()

    def _require_same(self, config: Config) -> None:
        there, now = result_values(read_config(self.config)), result_values(config)
        keys = [key for key in sorted(there.keys() | now.keys()) if there.get(key) != now.get(key)]
        if keys:
            changes = "; ".join(f"{key}: {there.get(key)} there, {now.get(key)} now" for key in keys[:6])
            more = f" and {len(keys) - 6} more" if len(keys) > 6 else ""
            raise UserError(f"{self.path} has another run ({changes}{more}): choose another run_dir=, or delete it.")

    def begin(self, data: dict[str, Any], session: dict[str, Any]) -> None:
        """Notes in the manifest that a process takes the run up. Raises a UserError if its data has changed since."""
        manifest: dict[str, Any] = {"data": data, "sessions": []}
        if self.manifest.exists():
            manifest = json.loads(self.manifest.read_text())
        compared = compare(manifest["data"], data)
        if compared.match is Match.DIFFERENT:
            raise UserError(
                f"The images are not those that {self.path} was begun with ({compared.why}; "
                f"{manifest['data']['train_images']} then, {data['train_images']} for training now): restore them, or "
                "choose another run_dir=."
            )
        if compared.match is Match.SAME_NAMES:
            log.warning("%s: %s.", self.manifest, compared.why)
        manifest["sessions"].append(session)
        write_atomically(self.manifest, json.dumps(manifest, indent=2))

    def note_unreadable(self, images: list[str]) -> None:
        """Lists in the manifest the images that others stood for."""
        manifest = json.loads(self.manifest.read_text())
        if manifest["data"].get("unreadable", []) != images:
            manifest["data"]["unreadable"] = images
            write_atomically(self.manifest, json.dumps(manifest, indent=2))

    def finish(self, result: dict[str, Any]) -> None:
        write_atomically(self.result, json.dumps(result, indent=2))


def in_use(directory: Path) -> bool:
    """Whether a process has the run directory, here or on another machine that shares the file system."""
    try:
        with open(directory / ".lock", "r+b") as file:
            if sys.platform != "linux":  # a moment's lock of our own, which a run that begins just then would trip over
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
            asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            return struct.unpack("hhqqi", fcntl.fcntl(file, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # there is none, or this file system has no locks
        return False


def last_values(path: Path) -> dict[str, float]:
    """The last finite value of each metric in the end of the file."""
    values: dict[str, float] = {}
    for line in tail(path):
        try:
            row: Any = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            values |= {name: number(value) for name, value in row.items() if math.isfinite(number(value))}
    return values


def tail(path: Path) -> list[str]:
    """The lines in the end of a file, none where it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
