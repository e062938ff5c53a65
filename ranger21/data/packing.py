"""Making packs (`ranger21.data.pack`): in parallel, resumable, the same bytes whatever happened in between."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image

from ranger21.config import ImageFolderConfig
from ranger21.data.decode import to_tensor
from ranger21.data.identity import identify
from ranger21.data.index import Index
from ranger21.data.names import is_hidden
from ranger21.data.pack import (
    FACTS,
    IMAGES_A_SHARD,
    READABLE,
    Recipe,
    read_facts,
    sha256_of,
    shard_name,
    stored_facts,
    to_facts,
)
from ranger21.data.room import size_text
from ranger21.data.sources import Folder, Packed
from ranger21.data.transforms import resized_tensor
from ranger21.errors import UserError
from ranger21.processes import in_parallel, locked

TAR_BLOCK = 512  # of a member's header, and what its content is filled up to
SAMPLED = 64  # images that the size of a pack is estimated from


@dataclass(frozen=True)
class Shard:
    """One archive to be made: the images from `begin` to `end` of a split of the source."""

    source: Folder
    config: ImageFolderConfig
    recipe: Recipe
    target: Path
    begin: int
    end: int

    @property
    def split(self) -> str:
        return self.source.split.name

    @property
    def number(self) -> int:
        return self.begin // IMAGES_A_SHARD

    @property
    def path(self) -> Path:
        return self.target / shard_name(self.split, self.number)

    @property
    def record(self) -> Path:
        return self.target / "parts" / f"{self.split}-{self.number:05d}.json"

    def done(self) -> dict[str, Any] | None:
        """What is known of the archive if it is finished."""
        try:
            record = json.loads(self.record.read_text())
            return record if self.path.stat().st_size == record["bytes"] else None
        except (OSError, ValueError, LookupError, TypeError):
            return None


def pixels_of(source: Folder, image: int, config: ImageFolderConfig) -> np.ndarray:
    """uint8 (height, width, 3), resized."""
    return resized_tensor(to_tensor(source[image][0]), config).permute(1, 2, 0).contiguous().numpy()


def encoded(pixels: np.ndarray, recipe: Recipe) -> tuple[bytes, int]:
    """The content of a member, and where in it that begins which is read later: all of a JPEG, an array's pixels."""
    buffer = io.BytesIO()
    if recipe.format == "raw":
        np.save(buffer, pixels)
        return buffer.getvalue(), buffer.tell() - pixels.nbytes
    Image.fromarray(pixels).save(buffer, "JPEG", quality=recipe.quality, subsampling=recipe.subsampling, optimize=True)
    return buffer.getvalue(), 0


def make_shard(shard: Shard) -> dict[str, Any]:
    """Writes an archive and what is known of it, each under another name first. Raises a UserError on a full disk."""
    torch.set_num_threads(1)  # there is a process for each core
    suffix = ".npy" if shard.recipe.format == "raw" else ".jpg"
    record: dict[str, Any] = {"offsets": [], "lengths": [], "shapes": []}
    unfinished = shard.path.with_name(f".{shard.path.name}.tmp")
    with _told(shard.path), _removed_unless_renamed(unfinished):
        with open(unfinished, "wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for image in range(shard.begin, shard.end):
                pixels = pixels_of(shard.source, image, shard.config)
                content, skipped = encoded(pixels, shard.recipe)
                member = tarfile.TarInfo(str(PurePosixPath(shard.source.index.path(image)).with_suffix(suffix)))
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                padded = -(-len(content) // TAR_BLOCK) * TAR_BLOCK
                record["offsets"].append(tar.offset - padded + skipped)
                record["lengths"].append(len(content) - skipped)
                record["shapes"].append(pixels.shape[:2] if shard.recipe.format == "raw" else (0, 0))
        _commit(unfinished, shard.path)
        record |= {"bytes": shard.path.stat().st_size, "sha256": sha256_of(shard.path)}
        write_json(shard.record, record)
    return record


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.tmp")
    new.write_text(json.dumps(value, indent=None if path.parent.name == "parts" else 2))
    _commit(new, path)


def _commit(new: Path, path: Path) -> None:
    with open(new, "rb") as file:
        os.fsync(file.fileno())
    os.replace(new, path)


def shards_of(sources: dict[str, Folder], config: ImageFolderConfig, recipe: Recipe, target: Path) -> list[Shard]:
    return [
        Shard(source, config, recipe, target, begin, min(begin + IMAGES_A_SHARD, len(source)))
        for source in sources.values()
        for begin in range(0, len(source), IMAGES_A_SHARD)
    ]


def estimate(source: Folder, config: ImageFolderConfig, recipe: Recipe) -> float:
    """Bytes of a member, about: the mean over some images spread over the source."""
    images = np.unique(np.linspace(0, len(source) - 1, SAMPLED).astype(int))
    sizes = [len(encoded(pixels_of(source, int(i), config), recipe)[0]) for i in images]
    return float(np.mean(sizes)) + 1.5 * TAR_BLOCK


def begin_pack(target: Path, recipe: Recipe, indices: dict[str, Index]) -> dict[str, Any]:
    """Takes the folder for this pack; returns its facts. Raises a UserError if it holds another, or something else."""
    facts = to_facts(recipe, identify(indices), list(indices["train"].classes))
    if (target / FACTS).exists():
        there = stored_facts(target)
        if there["version"] != facts["version"]:
            use = (
                "train.py takes it as it is" if there["version"] in READABLE and there["complete"] else "it is not read"
            )
            raise UserError(
                f"{target} holds a pack of version {there['version']}, and this code makes version {facts['version']}: "
                f"{use}; to make one anew, choose another folder, or delete it."
            )
        for key, what in (
            ("recipe", "recipe"),
            ("source", "source"),
            ("classes", "set of classes"),
        ):
            if there.get(key) != facts[key]:
                shown = f": {Recipe(**there[key])} there, {recipe} now" if key == "recipe" else ""
                raise UserError(f"{target} holds a pack of another {what}{shown}. Choose another folder, or delete it.")
        return facts
    try:
        target.mkdir(parents=True, exist_ok=True)
        strange = next((entry.name for entry in target.iterdir() if not is_hidden(entry.name)), None)
        if strange:
            raise UserError(f"{target} holds {strange!r}, which is of no pack: give the pack a folder of its own.")
        write_json(target / FACTS, facts)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}): choose another folder for the pack."
        ) from error
    return facts


def make_pack(
    sources: dict[str, Folder], config: ImageFolderConfig, recipe: Recipe, target: Path, processes: int
) -> bool:
    """Makes what is missing of a pack; False if nothing was."""
    facts = begin_pack(target, recipe, {split: source.index for split, source in sources.items()})
    with locked(target, f"Another process is making the pack {target}: wait for it, or stop it."):
        shards = shards_of(sources, config, recipe, target)
        missing = [shard for shard in shards if shard.done() is None]
        if not missing and _is_whole(target):
            return False
        for _ in in_parallel(make_shard, missing, processes, "packed images", lambda shard: shard.end - shard.begin):
            pass
        with _told(target):
            splits = {
                split: write_index(target, source.index, [shard for shard in shards if shard.split == split])
                for split, source in sources.items()
            }
            write_json(target / FACTS, facts | {"splits": splits, "complete": True})
        return True


@contextmanager
def _removed_unless_renamed(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the disk refuses, as a UserError."""
    try:
        yield
    except OSError as error:
        text = f"{path} cannot be written ({error.strerror}): make room and run the same command again"
        raise UserError(f"{text}; it goes on where it stopped.") from error


def _is_whole(target: Path) -> bool:
    """Whether everything but the archives is there, too."""
    try:
        for split in read_facts(target)["splits"]:
            Packed(target, split)
    except UserError:
        return False
    return True


def write_index(target: Path, index: Index, shards: list[Shard]) -> list[dict[str, Any]]:
    """Writes where every image of a split lies; returns what pack.json says of its archives."""
    records = [record for shard in shards if (record := shard.done()) is not None]
    offsets, lengths, shapes = (
        np.concatenate([np.array(record[name], kind) for record in records])
        for name, kind in (("offsets", np.int64), ("lengths", np.int32), ("shapes", np.int32))
    )
    new, path = target / f".{shards[0].split}.npz.tmp", target / f"{shards[0].split}.npz"
    arrays = {"classes": np.array(index.classes), "offsets": offsets, "lengths": lengths, "shapes": shapes}
    with open(new, "wb") as file:
        np.savez(file, **(arrays | index.arrays()))
    _commit(new, path)
    return [
        {"file": shard.path.name, "bytes": record["bytes"], "sha256": record["sha256"]}
        for shard, record in zip(shards, records, strict=True)
    ]


def damaged_shards(pack: Path, processes: int) -> list[str]:
    """The archives whose bytes are not those that were written, by reading all of them."""
    expected = {pack / s["file"]: s["sha256"] for split in read_facts(pack)["splits"].values() for s in split}
    size = {path: path.stat().st_size if path.exists() else 0 for path in expected}
    checks = in_parallel(sha256_of, list(expected), processes, "checked", size.__getitem__, size_text)
    return sorted(path.name for path, digest in checks if digest != expected[path])
