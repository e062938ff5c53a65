"""Images that are files already, sorted by class or in one folder. Imports no torch."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ranger21.data.names import is_hidden, is_image, is_plain, left_out
from ranger21.downloads.labels import WNID, ValLabels
from ranger21.downloads.located import FILE, LocatedPart, Location
from ranger21.downloads.parts import IMAGES_A_SLICE, reading
from ranger21.system.processes import ProgressBar


@dataclass(frozen=True)
class LooseImages(LocatedPart):
    """Images in a folder, as (place CLASS/NAME, file name in the folder, which is NAME).

    Attributes:
        beside: Files that must be correct, such as the development kit.
    """

    folder: Path
    contents: tuple[tuple[str, str], ...]
    split: str
    beside: tuple[Path, ...] = ()

    @property
    def wnid(self) -> str:
        """The class of the first image."""
        return self.contents[0][0].partition("/")[0] if self.contents else ""

    @property
    def files(self) -> tuple[Path, ...]:
        return self.beside

    @property
    def container(self) -> Path:
        return self.folder

    def locations(self) -> Iterator[Location]:
        for place, name in self.contents:
            with reading(self.folder / name):
                size = (self.folder / name).stat().st_size
            yield Location(place, size, kind=FILE)


@dataclass
class LeftOut:
    """The files that are not images in the folders of a download."""

    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def notes(self) -> tuple[str, ...]:
        return tuple(f"SOURCE: {note}" for note in left_out(self.hidden, self.others))


def image_names(folder: Path, odd: LeftOut) -> list[str]:
    """Return the sorted names of the images in a folder, and add other files to `odd`. Folders are passed over."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                odd.hidden.append(entry.name)
            elif is_image(entry.name) and is_plain(entry.name):
                names.append(entry.name)
            elif not entry.is_dir():
                odd.others.append(entry.name)
    return sorted(names)


def class_names(folder: Path) -> list[str]:
    """Return the sorted names of the folders that are named by a wnid."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if re.fullmatch(WNID, entry.name, re.ASCII) and entry.is_dir())


def sorted_parts(folders: Sequence[Path], split: str, odd: LeftOut, inner: str = "") -> list[LooseImages]:
    """Return a part for each class in folders that are sorted by class.

    Args:
        folders: The folders with class folders.
        split: "train" or "val".
        odd: Where to note files that are not images.
        inner: The folder within each class folder that has the images, if not the class folder itself.
    """
    classes = [folder / wnid for folder in folders for wnid in class_names(folder)]
    parts = []
    with ProgressBar(f"listing {split}", len(classes), "{:,.0f} classes".format) as bar:
        for folder in classes:
            contents = tuple((f"{folder.name}/{name}", name) for name in image_names(folder / inner, odd))
            parts.append(LooseImages(folder / inner, contents, split))
            bar.advance(1)
    return parts


def flat_parts(folder: Path, wnids: dict[str, str], split: str, beside: tuple[Path, ...] = ()) -> list[LooseImages]:
    """Return the parts of a folder whose images are not sorted, by the class of each file name."""
    contents = [(f"{wnid}/{name}", name) for name, wnid in sorted(wnids.items())]
    slices = range(0, len(contents), IMAGES_A_SLICE)
    return [LooseImages(folder, tuple(contents[i : i + IMAGES_A_SLICE]), split, beside) for i in slices]


def labelled(names: Iterable[str], labels: ValLabels, folder: Path) -> dict[str, str]:
    """Return the class of each validation image; raise a UserError unless they are exactly the listed ones."""
    stems = {name: name.rpartition(".")[0] for name in names}
    labels.require_exactly(stems.values(), folder)
    return {name: labels.wnids[stem] for name, stem in stems.items()}


def images_in(parts: Iterable[LooseImages]) -> int:
    return sum(len(part.contents) for part in parts)
