"""The run directory: its lock, configuration, manifest and result."""

import json
import logging
import math
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ranger21.config import Config, result_values
from ranger21.config.compose import parse
from ranger21.records.manifest import (
    CURE,
    FORMAT,
    add_session,
    new_manifest,
    read_manifest,
    require_same_data,
    require_same_place,
    warn_of_another_protocol,
)
from ranger21.system.errors import UserError
from ranger21.system.files import newer, sweep, write_atomically
from ranger21.system.locks import hold, is_held
from ranger21.system.reading import Unreadable, misfit, open_regular, read_json, read_yaml, require_regular
from ranger21.system.wording import first_few, reason, shown
from ranger21.tracking import number

log = logging.getLogger("ranger21")
TAIL = 64 * 1024  # bytes at the end of a file that are searched for the last values or the last error


def to_dict(config: Config) -> dict[str, Any]:
    """Return a configuration as plain containers, as for config.yaml and W&B."""
    return asdict(config)


def read_config(path: Path) -> Config:
    """Read a run's configuration from its config.yaml. Raises a UserError if this version cannot read it."""
    tree = read_yaml(path, {}, CURE)
    try:
        if "${" in repr(tree):
            raise UserError("it has an interpolation, ${...}, which train.py does not write")
        return parse(DictConfig(tree))
    except Exception as error:  # OmegaConf raises various errors for strange values and keys of older versions
        raise UserError(f"{path} cannot be read by this version ({reason(error)}).") from error


class RunDirectory:
    """The directory of one run. Only rank 0 writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.manifest, self.result = (path / n for n in ("config.yaml", "manifest.json", "result.json"))
        self.metrics, self.log, self.checkpoints = path / "metrics.jsonl", path / "log.txt", path / "checkpoints"
        self.lock = path / ".lock"
        self._lock: Any = None

    def look(self, config: Config) -> dict[str, Any] | None:
        """Check the directory without creating anything; return the result if its run has ended, else None.

        Locks an existing run that has not ended. Raises a UserError if another process uses the run, if its
        configuration differs in what changes the result, if there is a run and `resume=never`, or if the path cannot
        be a run directory.
        """
        self._require_possible()
        self._require_files(self.config, self.manifest, self.result, self.metrics, self.log, self.lock)
        begun, ended = self.manifest.exists(), self.result.exists()
        if begun:
            read_manifest(
                self.manifest
            )  # before the configuration, so that a run of a later version is reported as such
        if begun or ended:
            self._require_wanted(config)
        if ended:
            return self._read_result()
        if begun or self.lock.exists():
            self._require_writable()
            self._take()
        return None

    def claim(self, config: Config) -> None:
        """Create the directory and lock it for this run. Raises the UserErrors of `look`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.held:
                self._take()
                if self.manifest.exists():  # created after `look`
                    raise UserError(f"Another process has just started {self.path}: run the same command again.")
        except OSError as error:
            raise self._not_possible(error.strerror) from error
        sweep(self.path)
        if not self.manifest.exists():
            write_atomically(self.config, OmegaConf.to_yaml(OmegaConf.create(to_dict(config))))

    def _read_result(self) -> dict[str, Any]:
        result = read_json(self.result, {}, CURE)
        if later := newer(result, FORMAT):
            raise UserError(f"{self.result} cannot be used: {later}.")
        if why := misfit(result, {"status": str, "step": int, "best?": {}}):
            raise Unreadable(self.result, why, CURE)
        return result

    @property
    def held(self) -> bool:
        """Whether this process has locked the directory."""
        return self._lock is not None

    def _require_possible(self) -> None:
        try:
            nearest = next(place for place in (self.path, *self.path.absolute().parents) if place.exists())
        except OSError as error:
            raise self._not_possible(error.strerror) from error
        if not nearest.is_dir():
            raise self._not_possible(f"{nearest} is a file")
        if not self.result.exists() and not os.access(nearest, os.W_OK | os.X_OK):
            raise self._not_possible(f"{nearest} is not writable")
        if self.checkpoints.exists() and not self.checkpoints.is_dir():
            raise self._in_the_way(self.checkpoints, "it is a file, not a folder")

    def _in_the_way(self, path: Path, why: str | None) -> UserError:
        return UserError(f"{path} cannot be used ({why}): move it away and run the same command again.")

    def _require_files(self, *paths: Path) -> None:
        for path in paths:
            try:
                require_regular(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise self._in_the_way(path, error.strerror) from error

    def _require_writable(self) -> None:
        """Raise a UserError if the files of an existing run cannot be appended to."""
        try:
            for path in (self.metrics, self.log):
                if path.exists():
                    open(path, "ab").close()
        except OSError as error:
            text = f"{path} cannot be written ({error.strerror}): make it writable, or choose another run_dir=."
            raise UserError(text) from error

    def _not_possible(self, reason: str | None) -> UserError:
        return UserError(f"{self.path} cannot be a run directory ({reason}): choose another run_dir=.")

    def _require_wanted(self, config: Config) -> None:
        """Raise a UserError unless the existing run is this one and may be resumed."""
        if config.resume == "never":
            text = f"{self.path} already has a run, and resume=never: choose another run_dir=, or delete it."
            raise UserError(text)
        self.require_same(config)

    def _take(self) -> None:
        self._take_lock()
        if is_held(self.metrics):
            self._lock.close()
            self._lock = None
            raise self._used_by("another process, whose .lock was removed")

    def _used_by(self, holder: str) -> UserError:
        return UserError(f"{self.path} is being used by {holder}: wait for it, stop it, or choose another run_dir=.")

    def _take_lock(self) -> None:
        lock = open(self.lock, "a+")
        try:
            if not hold(lock.fileno()):
                lock.seek(0)
                raise self._used_by(lock.read().strip() or "another process")
        except OSError as error:
            log.warning("%s: this file system has no locks (%s). Do not start this run twice.", self.path, error)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        self._lock = lock

    def keep_lock(self, now: Path) -> None:
        """Lock the directory again if the lock file was removed.

        Args:
            now: the current path of the lock file, which changes if the directory is renamed.

        Raises a UserError if another process has locked it since.
        """
        try:
            if os.path.samestat(now.stat(), os.fstat(self._lock.fileno())):
                return
        except FileNotFoundError:
            pass
        try:
            self.lock = now
            self._take_lock()
        except UserError as error:
            text = f"{now} was removed while this process ran, and another process uses the run now: {error}"
            raise UserError(text) from error
        log.warning("%s was removed during the run and has been restored.", now)

    def require_same(self, config: Config) -> None:
        """Raise a UserError if the existing run's configuration differs in a setting that changes the result."""
        if changes := differences(result_values(read_config(self.config)), result_values(config)):
            raise UserError(f"{self.path} has another run ({changes}): choose another run_dir=, or delete it.")

    def require_data(self, data: Mapping[str, Any]) -> None:
        """Raise a UserError if the existing run, if any, was started on other data."""
        if self.manifest.exists():
            require_same_data(self.path, read_manifest(self.manifest)["data"], data)

    def require_place(self, now: Mapping[str, str], why: object) -> None:
        """Raise a UserError if data that cannot be compared is not where the existing run recorded it.

        Args:
            now: the place of the data, under `root` or `pack`.
            why: the reason why the data cannot be compared.
        """
        if self.manifest.exists():
            require_same_place(self.path, read_manifest(self.manifest)["data"], now, why)

    def begin(
        self,
        data: Mapping[str, Any],
        session: Mapping[str, Any],
        run_id: str,
        protocol: Mapping[str, str] | None = None,
        parent: Mapping[str, Any] | None = None,
    ) -> None:
        """Record in the manifest that a process starts or resumes the run, on data checked by `require_data`.

        A run keeps the protocol (name and hash) and the parent (of `continue_from`) that it was started with.
        """
        manifest = read_manifest(self.manifest) if self.manifest.exists() else new_manifest(data, protocol, parent)
        warn_of_another_protocol(manifest, protocol)
        manifest["id"], step = run_id, session["resumed_from_step"]
        manifest["first_checkpoint"] = (manifest.get("first_checkpoint") or step) if step else None
        add_session(manifest, session)
        write_atomically(self.manifest, json.dumps(manifest, indent=2))

    def note_saved(self, step: int) -> None:
        """Record the step of the first checkpoint in the manifest; from then on a run without one is not restarted."""
        manifest = read_manifest(self.manifest)
        if not manifest.get("first_checkpoint"):
            manifest["first_checkpoint"] = step
            write_atomically(self.manifest, json.dumps(manifest, indent=2))

    def note_unreadable(self, images: list[str]) -> None:
        """Record the unreadable images that were substituted in the manifest."""
        manifest = read_manifest(self.manifest)
        if manifest["data"].get("unreadable", []) != images:
            manifest["data"]["unreadable"] = images
            write_atomically(self.manifest, json.dumps(manifest, indent=2))

    def finish(self, result: dict[str, Any]) -> None:
        """Write result.json. Raises a UserError if it cannot be written."""
        try:
            self._require_files(self.result)
            write_atomically(self.result, json.dumps({"format": FORMAT, **result}, indent=2))
        except UserError as error:
            if result["status"] != "finished":
                raise
            raise UserError(f"{error} It then writes the result from the checkpoint, without training.") from error


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return a clause that lists how two configurations differ; empty if they do not."""
    keys = [key for key in sorted(there.keys() | now.keys()) if there.get(key) != now.get(key)]
    values = {key: [shown(values.get(key), str) for values in (there, now)] for key in keys}
    return first_few([f"{key}: {then} there, {today} now" for key, (then, today) in values.items()], 6, "; ")


def in_use(directory: Path) -> bool:
    """Return whether a process, on any machine that shares the file system, uses the run directory."""
    return is_held(directory / ".lock") or is_held(directory / "metrics.jsonl")


def last_values(path: Path) -> dict[str, float]:
    """Return the last finite value of each metric within the last 64 KiB of a metrics file."""
    values: dict[str, float] = {}
    for line in tail(path):
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            values |= {name: number(value) for name, value in row.items() if math.isfinite(number(value))}
    return values


def tail(path: Path) -> list[str]:
    """Return the lines within the last 64 KiB of a file; none if it cannot be read."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
