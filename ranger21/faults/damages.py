"""Faults injected after a run has stopped and before it starts again: damaged, swapped or missing files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ranger21.faults import whole
from ranger21.faults.kinds import Between, Facts, Refused, Scene

LOST = ("is damaged",)


class Damage(Between):
    """Damage to last.pt in place, as by a disk (best.pt may be the same file); previous.pt is intact."""

    group, says, rank_changes = "checkpoint", LOST, True

    def prepare(self, scene: Scene, where: float) -> Facts | None:
        last, previous = scene.last, scene.previous
        if not (whole.state(last) and whole.state(previous)) or last.samefile(previous):
            return None
        self.damage(last, where)
        return {"found": whole.state(last) is None}

    def damage(self, path: Path, where: float) -> None:
        raise NotImplementedError


class Cut(Damage):
    name = "checkpoint cut short"

    def damage(self, path: Path, where: float) -> None:
        os.truncate(path, int(where * path.stat().st_size))


class Flipped(Damage):
    name = "checkpoint: a bit flipped"

    def damage(self, path: Path, where: float) -> None:
        flip(path, int(where * path.stat().st_size), where)


class StructureFlipped(Damage):
    """A flipped bit outside the tensors. Where it has no meaning, the run must end as if it had not been flipped."""

    name, often = "checkpoint: a bit outside the tensors flipped", 2

    def damage(self, path: Path, where: float) -> None:
        places = [place for part in whole.structure(path) for place in part]
        flip(path, places[int(where * len(places))], where)


def flip(path: Path, place: int, where: float) -> None:
    """Flip one bit of a byte."""
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << int(1e6 * where) % 8]))


class Torn(Between):
    """Effects of a crash on the lines after the last checkpoint: lines are cut, or zeros or part of a line appended."""

    name, rank_changes = "metrics.jsonl torn", True

    def prepare(self, scene: Scene, where: float) -> Facts | None:
        metrics = scene.directory / "metrics.jsonl"
        if not metrics.exists():
            return None
        state = whole.state(scene.last) or whole.state(scene.previous)
        synced = state["metrics_size"] if state else 0
        if where < 1 / 3:
            os.truncate(metrics, synced + int(3 * where * max(0, metrics.stat().st_size - synced)))
        with open(metrics, "ab") as file:
            file.write(bytes(512) if where > 2 / 3 else b'{"step": 7, "train/lo')
        return {}


class PutAside(Refused):
    """Damage to a part of the run, which the user restores after the starts have been refused."""

    part = ""

    def prepare(self, scene: Scene, where: float) -> Facts | None:
        own, kept = scene.directory / self.part, self._kept(scene)
        if whole.state(scene.last) is None:
            return None
        new = kept.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        copy(own, new / own.name)
        new.rename(kept)  # from now on `mend` can restore the part
        return self.harm(own, scene, where)

    def harm(self, own: Path, scene: Scene, where: float) -> Facts | None:
        raise NotImplementedError

    def mend(self, scene: Scene) -> bool:
        own, kept = scene.directory / self.part, self._kept(scene)
        if not kept.exists():
            return False
        if own.is_dir() and not own.is_symlink():
            shutil.rmtree(own)
        else:
            own.unlink(missing_ok=True)
        copy(kept / own.name, own)
        shutil.rmtree(kept)
        return True

    def _kept(self, scene: Scene) -> Path:
        return scene.spare / Path(self.part).name


def copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder with its hard links."""
    if not source.is_dir():
        shutil.copy2(source, target)
        return
    target.mkdir()
    done = dict[int, Path]()
    for path in source.iterdir():
        number = path.stat().st_ino
        if number in done:
            os.link(done[number], target / path.name)
        else:
            done[number] = Path(shutil.copy2(path, target / path.name))


class OfAnotherRun(PutAside):
    """last.pt replaced by that of a run with another seed, or of another run with the same configuration."""

    name, part = "last.pt of another run", "checkpoints/last.pt"
    says = ("of another run",)

    def harm(self, own: Path, scene: Scene, where: float) -> Facts | None:
        other = scene.others[int(where * len(scene.others))]
        own.unlink()
        shutil.copyfile(other, own)
        return {"other": other.parent.parent.name}


class NoneLeft(PutAside):
    """No usable checkpoint: both damaged, both deleted, or a dangling link; the run must not start over."""

    name, part = "no whole checkpoint left", "checkpoints"
    says = ("no intact checkpoint", "which does not exist")

    def harm(self, own: Path, scene: Scene, where: float) -> Facts | None:
        how = ("both cut", "both gone", "the folder gone", "a dangling link")[int(4 * where)]
        for path in (scene.last, scene.previous):
            if how == "both cut" and path.exists():
                copied = path.read_bytes()
                path.unlink()  # best.pt may be the same file
                path.write_bytes(copied[: len(copied) // 2])
            elif how != "both cut":
                path.unlink(missing_ok=True)
        if how == "the folder gone":
            shutil.rmtree(own)
        if how == "a dangling link":
            scene.last.symlink_to("nowhere.pt")
        return {"how": how}


class LinesGone(PutAside):
    """metrics.jsonl deleted, or shorter than recorded in the checkpoint."""

    name, part = "metrics.jsonl gone or shorter, between two starts", "metrics.jsonl"
    says = ("when the checkpoint was saved",)

    def harm(self, own: Path, scene: Scene, where: float) -> Facts | None:
        state = whole.state(scene.last)
        size = state["metrics_size"] if state else 0
        if not size:
            return None
        if where < 0.5:
            own.unlink()
        else:
            os.truncate(own, int((2 * where - 1) * size))
        return {"how": "deleted" if where < 0.5 else "shorter"}


KINDS = (Cut(), Flipped(), StructureFlipped(), Torn(), OfAnotherRun(), NoneLeft(), LinesGone())
