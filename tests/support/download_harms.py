"""Damage to downloads, and the refusal that must follow."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from support.archives import add, contents, refusal_of_prepare
from support.downloads import DOWNLOADS, NAMELESS

Harm = Callable[[Path], object]
Members = list[tuple[str, bytes]]


def require_refusal(few: Path, folder: Path, form: str, harm: Harm, words: str) -> None:
    """Make a form of the images `few`, damage it, and require that `prepare` refuses it with these words.

    `$SOURCE` in the words stands for the download. The download must not change, and nothing may be written except the
    target, whose splits must not get their final names.
    """
    source, target = folder / "source", folder / "target" / "out"
    maker = NAMELESS[form] if form in NAMELESS else DOWNLOADS[form][0]
    maker(few, source)
    harm(source)
    before = contents(source)
    sentence = refusal_of_prepare(source, target)
    assert words.replace("$SOURCE", str(source)) in sentence, sentence
    assert contents(source) == before
    assert {path.name for path in folder.iterdir()} <= {"source", "target"}
    assert {path.name for path in folder.glob("target/*")} <= {"out"}
    assert {path.name for path in target.glob("*")} <= {".train.unfinished", ".val.unfinished"}


def removed(*places: str) -> Harm:
    def harm(source: Path) -> None:
        for place in places:
            shutil.rmtree(source / place) if (source / place).is_dir() else (source / place).unlink()

    return harm


def changed(place: str, old: str, new: str) -> Harm:
    def harm(source: Path) -> None:
        text = (source / place).read_text()
        assert old in text
        (source / place).write_text(text.replace(old, new))

    return harm


def cut(place: str, end: int = 500) -> Harm:
    return lambda source: (source / place).write_bytes((source / place).read_bytes()[:-end])


def repacked(place: str, change: Callable[[Members], Members]) -> Harm:
    """Return a function that writes an archive again with other members."""

    def harm(source: Path) -> None:
        with tarfile.open(source / place) as tar:
            members = [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
        with tarfile.open(source / place, "w:gz" if place.endswith("gz") else "w") as tar:
            for name, data in change(members):
                add(tar, name, data)

    return harm
