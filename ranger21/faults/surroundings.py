"""Faults of a run's surroundings: its directory, the disk, and a node's copy of a pack."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path

from ranger21.faults.damages import flip
from ranger21.faults.kinds import SAVE_EVERY, Between, Ending, Facts, Scene, Within
from ranger21.faults.session import Session
from ranger21.faults.setups import STAGED

FULL = ("could not be written",)


class DiskFull(Ending):
    """A file size limit of the main rank below its checkpoint's size, so that a write fails halfway."""

    name, says = "disk full", FULL

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        size = scene.last.stat().st_size if scene.last.exists() else 100_000
        limits = int(0.95 * where * size), resource.RLIM_INFINITY
        try:
            resource.prlimit(session.alive()[0], resource.RLIMIT_FSIZE, limits)
        except (OSError, IndexError):  # the process has just ended
            return None
        return {}


class InodesFull(Ending):
    """A run directory on its own file system in memory that runs out of inodes; the user moves it to the disk."""

    name, says = "no file can be made (inode table full)", (*FULL, "No space left on device")

    def impossible(self) -> str:
        return "" if os.geteuid() == 0 and shutil.which("mount") else "only root can mount a file system"

    def prepare(self, scene: Scene, where: float) -> Facts | None:
        directory, kept = scene.directory, self._kept(scene)
        directory.mkdir(parents=True, exist_ok=True)
        mount("-t", "tmpfs", "-o", "size=256m", "ranger21", directory, over=kept)
        return {}

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        found = os.statvfs(scene.directory)
        used = found.f_files - found.f_ffree
        done = subprocess.run(["mount", "-o", f"remount,nr_inodes={used}", str(scene.directory)], capture_output=True)
        return {} if done.returncode == 0 else None

    def mend(self, scene: Scene) -> bool:
        directory, kept = scene.directory, self._kept(scene)
        if directory.is_mount():
            shutil.rmtree(kept, ignore_errors=True)
            subprocess.run(["cp", "-a", directory, kept], check=True)
            subprocess.run(["umount", "-l", directory], check=True)
            shutil.rmtree(directory)
            kept.rename(directory)
        return False

    def _kept(self, scene: Scene) -> Path:
        return scene.spare / "inodes"


def mount(*arguments: object, over: Path) -> None:
    """Mount a file system over a folder (the last argument) and keep its content, which is copied through `over`."""
    folder = Path(str(arguments[-1]))
    shutil.rmtree(over, ignore_errors=True)
    subprocess.run(["cp", "-a", folder, over], check=True)
    subprocess.run(["mount", *map(str, arguments)], check=True)
    subprocess.run(["cp", "-a", f"{over}/.", folder], check=True)


class Renamed(Ending):
    """The run directory renamed; the user renames it back."""

    name, says, most = "directory renamed", ("was renamed to", "was removed or renamed"), 2 * SAVE_EVERY

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        if not scene.directory.exists():
            return None
        scene.directory.rename(self._there(scene))
        return {}

    def mend(self, scene: Scene) -> bool:
        there = self._there(scene)
        if not there.exists():
            return False
        if scene.directory.exists():  # recreated by a run that did not notice
            scene.directory.rename(scene.spare / "made-anew")
        there.rename(scene.directory)
        return True

    def _there(self, scene: Scene) -> Path:
        return scene.directory.with_name(f"{scene.directory.name}.renamed")


class Deleted(Within):
    """A file of the run deleted; the run must restore it, or the user does if the run was killed before it noticed."""

    def __init__(self, part: str) -> None:
        self.part, self.name, self.says = part, f"{part} deleted", (f"{part} was removed",)

    def hit(self, scene: Scene, session: Session, where: float) -> Facts | None:
        path, kept = scene.directory / self.part, self._kept(scene)
        if not path.exists():  # not created yet, or just deleted
            return None
        kept.unlink(missing_ok=True)
        os.link(path, kept)  # `mend` uses it
        path.unlink()
        return {}

    def mend(self, scene: Scene) -> bool:
        path, kept = scene.directory / self.part, self._kept(scene)
        missing = kept.exists() and not path.exists()
        if missing:
            os.link(kept, path)
        kept.unlink(missing_ok=True)
        return missing

    def _kept(self, scene: Scene) -> Path:
        """Return the path for a hard link, which must be on the file system of the run."""
        return scene.directory / f".kept-{self.part.removeprefix('.')}"


class Poisoned(Between):
    """A bit flipped in a node's copy of a pack, in place or in a new file of the same size."""

    name, setups, often = "a node's copy of the pack poisoned", (STAGED.name,), 3

    def prepare(self, scene: Scene, where: float) -> Facts | None:
        files = sorted(path for path in scene.stage.rglob("*.tar") if path.stat().st_size)
        if not files:
            return None
        path = files[int(where * len(files))]
        place = int(1e4 * where % 1 * path.stat().st_size)
        if where * 1e3 % 1 < 0.5:
            copied = path.read_bytes()
            path.unlink()
            path.write_bytes(copied)
        flip(path, place, where)
        return {"file": path.name}


KINDS = (DiskFull(), InodesFull(), Renamed(), Deleted("metrics.jsonl"), Deleted(".lock"), Poisoned())
