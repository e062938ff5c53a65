"""ImageNet as WebDataset (timm/imagenet-1k-wds): archives of samples KEY.jpg, KEY.cls, KEY.json. Imports no torch."""

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ranger21.data.names import is_image
from ranger21.downloads.labels import STEM, WNID
from ranger21.downloads.located import LocatedPart, Location
from ranger21.downloads.numbered import SPLITS, in_order, matches
from ranger21.downloads.parts import Download, reading
from ranger21.downloads.tars import content, members
from ranger21.downloads.wnids import imagenet_wnids
from ranger21.system.errors import UserError
from ranger21.system.processes import ProgressBar
from ranger21.system.wording import counted, one_line

SHARD = r".*(?P<split>train|validation|val)-(?P<number>\d+)\.tar"
IN_FOLDER = r"(?:.*\D)?(?P<number>\d+)\.tar"  # in a folder named by the split
MEMBER = r"((?:\./)?(?:[\w-]+/)*[\w-]+\.[\w.-]+)"  # group: the whole name
LARGEST_TEXT = 1 << 20  # bytes of a label or of the facts about an image
INFO = ("_info.json", "info.json")  # timm's list of the archives and their numbers of samples


class Sample(NamedTuple):
    """A sample of a shard: its key without folders, its label, the file name in its facts, and where its image is."""

    key: str
    label: int | None
    filename: str
    begin: int
    size: int

    @property
    def name(self) -> str:
        """The image's original name, if the key or the facts have it, else the key."""
        stems = [self.key, self.filename.rpartition("/")[2].rpartition(".")[0]]
        known = [stem for stem in stems if re.fullmatch(rf"{WNID}_\w+|{STEM}", stem, re.ASCII)]
        return f"{known[0] if known else self.key}.JPEG"

    @property
    def wnid(self) -> str:
        """The class that the name gives, or an empty string."""
        match = re.match(rf"({WNID})_", self.name, re.ASCII)
        return match[1] if match else ""


@dataclass(frozen=True)
class Shard(LocatedPart):
    """An archive of samples. `wnids` are the classes in the order of the labels."""

    file: Path
    split: str
    wnids: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    @property
    def container(self) -> Path:
        return self.file

    def locations(self) -> Iterator[Location]:
        for sample in samples(self.file):
            yield Location(self.place(sample), sample.size, sample.begin)

    def place(self, sample: Sample) -> str:
        """Return the place CLASS/NAME of a sample; raise a UserError if its label and its name do not agree."""
        if sample.label is None:
            wnid = sample.wnid
        elif sample.label < len(self.wnids):
            wnid = self.wnids[sample.label]
        else:
            raise UserError(f"{self.file}: {sample.key} has the label {sample.label}, which has no class.")
        if not wnid or sample.wnid not in ("", wnid):
            text = f"has the label {sample.label}, which means {wnid or 'nothing'}. Download the file again"
            raise UserError(f"{self.file}: {sample.key} {text}.")
        return f"{wnid}/{sample.name}"


def samples(file: Path) -> Iterator[Sample]:
    """Yield the samples of a shard in order."""
    key, texts, place = "", dict[str, bytes](), (0, 0)
    for tar, info, name in members(file, MEMBER, folders=r"[\w./-]*"):
        folder, _, last = name.rpartition("/")
        stem, _, extension = last.partition(".")
        if f"{folder}/{stem}" != key:
            if key:
                yield _sample(file, key, texts, place)
            key, texts, place = f"{folder}/{stem}", {}, (0, 0)
        if is_image(f"x.{extension}"):
            if place != (0, 0):
                raise tarfile.ReadError(f"{one_line(stem)} has two images")
            place = info.offset_data, info.size
        elif extension in ("cls", "json") and info.size <= LARGEST_TEXT:
            with reading(file):
                texts[extension] = content(tar, info)
    yield _sample(file, key, texts, place)


def _sample(file: Path, key: str, texts: dict[str, bytes], place: tuple[int, int]) -> Sample:
    with reading(file):
        if place == (0, 0):
            raise tarfile.ReadError(f"{one_line(key)} has no image")
        facts = json.loads(texts["json"]) if "json" in texts else {}
        facts = facts if isinstance(facts, dict) else {}
        label = int(texts["cls"]) if "cls" in texts else facts.get("label")
        if label is not None and (not isinstance(label, int) or label < 0):
            raise ValueError(f"{one_line(key)} has the label {label!a:.20}")
        return Sample(key.rpartition("/")[2], label, str(facts.get("filename")), *place)


def find(source: Path) -> Download | None:
    """Return the shards in a folder or in its folders of the splits, or None; raise a UserError if some are missing."""
    numbered = matches(source.glob("*.tar"), SHARD)
    for split in SPLITS:
        numbered += matches((source / split).glob("*.tar"), IN_FOLDER, split)
    if not numbered:
        return None
    if (source / "pack.json").exists():
        raise UserError(f"{source} is a pack, which needs no preparation. Use it with data.pack={source}.")
    found = in_order(source, numbered)
    counts = counts_of(source)
    if lacking := [name for name in counts if not (source / name).exists()]:
        raise UserError(
            f"{source} lacks {counted(len(lacking), 'archive')}, such as {min(lacking)}. Download it as well."
        )
    wnids, labels = classes_of(found["train"])
    parts = [Shard(file, split, tuple(wnids)) for split in ("train", "val") for file in found[split]]
    contents = " + ".join(f"{len(found[split]):,}" for split in ("train", "val")) + " archives"
    if counts:
        names = {split: [file.relative_to(source).as_posix() for file in found[split]] for split in found}
        totals = [sum(counts.get(name, 0) for name in names[split]) for split in ("train", "val")]
        contents = f"{totals[0]:,} + {totals[1]:,} images in {contents}"
    return Download("the WebDataset layout", contents, labels, parts)


def counts_of(source: Path) -> dict[str, int]:
    """Return the number of samples of each archive by timm's list, or nothing if the folder does not have it."""
    for name in INFO:
        if (source / name).exists():
            with reading(source / name), open(source / name, "rb") as stream:
                splits = json.loads(stream.read(1 << 24))["splits"]
                files = [splits[key] for key in splits if key in SPLITS]
                return {
                    str(file): int(count)
                    for split in files
                    for file, count in zip(split["filenames"], split["shard_lengths"], strict=True)
                }
    return {}


def classes_of(train: Sequence[Path]) -> tuple[list[str], str]:
    """Return the wnids in the order of the labels, and where they are from, by the names of the training images.

    Raises:
        UserError: If the names do not have wnids, or do not agree with the labels.
    """
    wnids: dict[int, str] = {}
    with ProgressBar("reading the labels of", len(train), "{:,.0f} archives".format) as bar:
        for file in train:
            for sample in samples(file):
                if not sample.wnid:
                    text = (
                        "which gives no wnid, so its class is not known. Use another form of the dataset (docs/data.md)"
                    )
                    raise UserError(f"{file} has the sample {one_line(sample.key)}, {text}.")
                if sample.label is not None and wnids.setdefault(sample.label, sample.wnid) != sample.wnid:
                    both = f"{wnids[sample.label]} and {sample.wnid}"
                    raise UserError(f"{file}: the label {sample.label} means {both}. Download the file again.")
            bar.advance(1)
            if wnids.items() <= dict(enumerate(known := imagenet_wnids())).items():
                return known, ".cls, in the order of ImageNet's wnids"
    order = [wnids.get(label, "") for label in range(max(wnids, default=-1) + 1)]
    return order, ".cls, whose classes are those of the training images' names"
