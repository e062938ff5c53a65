"""Copies of packs: verify the files of a copy, and copy those that are missing or differ. Imports no torch.

A file of the copy is accepted once its checksum has been compared with the pack's. Verified files are noted in
REMEMBERED with size, times and inode, so that each is read only once. The times include the last change of any kind
(ctime), which cannot be set.
"""

import hashlib
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.data.disk_space import require_space, size_text, tell
from ranger21.data.pack import FACTS, read_facts
from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.system.processes import ProgressBar

PIECE = 1 << 22
REMEMBERED = ".verified.json"
Stopped = Callable[[], int]  # returns the exit code once the run has been told to stop, else 0


@dataclass(frozen=True)
class File:
    """A file of a pack. `digest` is its SHA-256, or None for the two index files, which pack.json does not list."""

    name: str
    size: int
    digest: str | None


class Copy:
    """The copy of a pack in the folder `target`, which no other process uses meanwhile."""

    def __init__(self, pack: Path, target: Path, stopped: Stopped) -> None:
        self.pack, self.target, self.stopped = pack, target, stopped
        self._known = self._read_known()

    def complete(self) -> int:
        """Copy the files that are missing or differ; return the exit code if the run is told to stop, else 0."""
        states = {file: self._state(file) for file in self._files()}
        unknown = [file for file, state in states.items() if state is None or state != self._known.get(file.name)]
        right = self._compare([file for file in unknown if states[file] is not None and file.digest is not None])
        wanted = [file for file in unknown if file not in right]
        if wanted and not self.stopped():
            self._copy(wanted)
        return self.stopped()

    def _files(self) -> Iterator[File]:
        """Yield every file of the pack; pack.json, which makes a folder a pack, comes last."""
        splits = read_facts(self.pack)["splits"]
        for split in ("train", "val"):
            yield from (File(shard["file"], shard["bytes"], shard["sha256"]) for shard in splits[split])
        yield from (File(name, (self.pack / name).stat().st_size, None) for name in ("train.npz", "val.npz"))
        facts = (self.pack / FACTS).read_bytes()
        yield File(FACTS, len(facts), hashlib.sha256(facts).hexdigest())

    def _state(self, file: File) -> list[Any] | None:
        """Return the state by which a verified file of the copy is remembered, or None if it cannot be right."""
        try:
            state = (self.target / file.name).lstat()
        except OSError:
            return None
        plain = stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid() and state.st_size == file.size
        return [file.digest, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino] if plain else None

    def _read_known(self) -> dict[str, Any]:
        """Return the states of the verified files; {} if they cannot be read."""
        try:
            known = json.loads((self.target / REMEMBERED).read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return known if isinstance(known, dict) else {}

    def _remember(self, file: File) -> None:
        self._known[file.name] = self._state(file)
        write_atomically(self.target / REMEMBERED, json.dumps(self._known))

    def _compare(self, files: list[File]) -> list[File]:
        """Return the files whose checksums are correct."""
        right = []
        if files:
            tell(f"{socket.gethostname()}: verifying the checksums of {self.target}")
            with ProgressBar("verified", sum(file.size for file in files), size_text) as bar:
                for file in files:
                    digest = self._pass(self.target / file.name, None, bar)
                    if digest is None:
                        break
                    if digest == file.digest:
                        self._remember(file)
                        right.append(file)
                    else:
                        tell(f"{self.target / file.name} differs from the pack and is copied again")
        return right

    def _copy(self, files: list[File]) -> None:
        for left in self.target.glob(".*.tmp"):  # from a killed process
            left.unlink()
        tell(f"{socket.gethostname()}: copying {self.pack} to {self.target}")
        require_space(self.target, sum(file.size for file in files))
        with ProgressBar("copied", sum(file.size for file in files), size_text) as bar:
            for file in files:
                new = self.target / f".{file.name}.tmp"
                digest = self._pass(self.pack / file.name, new, bar)
                if digest is None:
                    return
                if file.digest not in (None, digest):
                    new.unlink()
                    raise UserError(
                        f"{self.pack / file.name} is damaged. Verify the pack with scripts/pack.py {self.pack} --check."
                    )
                os.replace(new, self.target / file.name)
                self._remember(file)

    def _pass(self, source: Path, new: Path | None, bar: Any) -> str | None:
        """Read a file, write it to `new` unless that is None, and return its SHA-256, or None if the run must stop."""
        seen = hashlib.sha256()
        with (
            open(source, "rb") as reader,
            open(os.devnull if new is None else new, "wb" if new is None else "xb") as to,
        ):
            while piece := reader.read(PIECE):
                if self.stopped():
                    return None
                to.write(piece)
                seen.update(piece)
                bar.advance(len(piece))
            if new is not None:
                to.flush()
                os.fsync(to.fileno())
        return seen.hexdigest()
