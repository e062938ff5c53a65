"""The archives of a pack (`ranger21.data.pack`): their images, member names and contents."""

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.index import Index
from ranger21.data.pack import IMAGES_A_SHARD, PackRecipe, sha256_of, shard_name
from ranger21.data.sources import FolderSource
from ranger21.packing import writing
from ranger21.packing.encoding import PackedImage, packed
from ranger21.packing.located import LocatedSource
from ranger21.packing.spill import SpilledSource
from ranger21.packing.writing import removed_unless_renamed, told
from ranger21.system.errors import UserError

Source = FolderSource | LocatedSource | SpilledSource  # of the images of a split
TAR_BLOCK = 512  # bytes of a member's header, and the unit to which its content is padded


@dataclass(frozen=True)
class Shard:
    """An archive to be made from consecutive images of a split.

    Attributes:
        source: Images of the split.
        config: Resizing of the images.
        recipe: Recipe of the pack.
        target: Folder of the pack.
        number: Number of the archive in its split.
        begin: Index of the first image in the source.
        keys: The name of each image's members, without extension.
        digest: Hash of the images' names, sizes and keys. An older archive is kept if this is the same.
        skip: Whether to skip unreadable images instead of raising an error.
    """

    source: Source
    config: ImageFolderConfig
    recipe: PackRecipe
    target: Path
    number: int
    begin: int
    keys: tuple[str, ...]
    digest: str
    skip: bool

    @property
    def split(self) -> str:
        return self.source.split.name

    @property
    def path(self) -> Path:
        return self.target / shard_name(self.split, self.number)

    @property
    def record(self) -> Path:
        return self.target / "parts" / f"{self.split}-{self.number:05d}.json"

    def found(self) -> dict[str, Any] | None:
        """Return the record of a finished archive, which may have other images, or None."""
        try:
            record = json.loads(self.record.read_text())
            return record if self.path.stat().st_size == record["bytes"] and record["digest"] else None
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None

    def done(self) -> dict[str, Any] | None:
        """Return the record of the archive if it is finished and has these images, or None."""
        record = self.found()
        if not record or record["digest"] != self.digest:
            return None
        whole = all(len(record.get(name, ())) == len(self.keys) for name in ("offsets", "lengths", "shapes"))
        return record if whole and isinstance(record.get("skipped"), dict) else None


def shards_of(
    source: Source,
    config: ImageFolderConfig,
    recipe: PackRecipe,
    target: Path,
    skip: bool,
    size: int = IMAGES_A_SHARD,
) -> list[Shard]:
    """Divide a split into archives with `size` images each."""
    keys = member_keys(source.index)
    shards = []
    for number, begin in enumerate(range(0, len(source), size)):
        own = tuple(keys[begin : begin + size])
        digest = _digest(source.index, begin, own)
        shards.append(Shard(source, config, recipe, target, number, begin, own, digest, skip))
    return shards


def member_keys(index: Index) -> list[str]:
    """Return a unique key CLASS/NAME for each image, by which WebDataset groups members.

    NAME is the file name without extension. Dots become underscores, because a WebDataset key ends at the first dot. If
    several images of a folder would have the same key, such as `same.jpg` and `same.png`, all but the first get a
    number: `same`, `same-2`.
    """
    taken: set[str] = set()
    keys = []
    for stored in index.all_paths():
        path = PurePosixPath(os.fsdecode(stored))
        stem = path.stem.replace(".", "_")
        key, number = str(path.with_name(stem)), 1
        while key in taken:
            number += 1
            key = str(path.with_name(f"{stem}-{number}"))
        taken.add(key)
        keys.append(key)
    return keys


def _digest(index: Index, begin: int, keys: tuple[str, ...]) -> str:
    assert index.sizes is not None  # known for every folder
    digest = hashlib.sha256()
    for image, key in enumerate(keys, start=begin):
        label = int(index.labels[image])
        digest.update(os.fsencode(f"{index.path(image)}\0{index.sizes[image]}\0{key}\0{label}\n"))
    return digest.hexdigest()


def make_shard(shard: Shard) -> dict[str, Any]:
    """Write an archive and its record atomically, and return the record.

    Raises:
        UserError: If the archive cannot be written, or an image cannot be read and is not to be skipped.
    """
    torch.set_num_threads(1)  # processes run in parallel
    suffix = ".npy" if shard.recipe.format == "raw" else ".jpg"
    record: dict[str, Any] = {"offsets": [], "lengths": [], "shapes": [], "skipped": {}}
    unfinished = shard.path.with_name(f".{shard.path.name}.tmp")
    with told(shard.path), removed_unless_renamed(unfinished):
        with open(unfinished, "wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for image, key in enumerate(shard.keys, start=shard.begin):
                place, length, shape = 0, 0, (0, 0)  # values of skipped images
                try:
                    content, skipped, shape = _packed(shard, image)
                except UserError as error:
                    if not shard.skip:
                        raise UserError(f"{error} Or skip unreadable images with --on-bad-image skip.") from error
                    record["skipped"][shard.source.index.path(image)] = str(error)
                else:
                    place, length = _add(tar, f"{key}{suffix}", content) + skipped, len(content) - skipped
                    _add(tar, f"{key}.cls", str(shard.source.labels[image]).encode())
                record["offsets"].append(place)
                record["lengths"].append(length)
                record["shapes"].append(shape)
        writing.commit(unfinished, shard.path)
        record |= {"bytes": shard.path.stat().st_size, "sha256": sha256_of(shard.path), "digest": shard.digest}
        writing.write_json(shard.record, record)
    return record


def _packed(shard: Shard, image: int) -> PackedImage:
    """Return the content for an image; raise a UserError if it cannot be read."""
    if isinstance(shard.source, SpilledSource):
        return shard.source.packed(image)
    return packed(shard.source[image][0], shard.config, shard.recipe)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Add a member, and return the position of its content in the archive."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
    return int(tar.offset) - -(-len(content) // TAR_BLOCK) * TAR_BLOCK
