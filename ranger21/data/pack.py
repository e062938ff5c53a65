"""Packs: all images once resized, in tar archives that any tool reads, found by number without unpacking.

A pack is a folder:

  pack.json              the recipe, the classes, the fingerprint of the source, every shard's size and SHA-256, and
                         the images that could not be read and were skipped
  train-00000.tar ...    of each image CLASS/NAME.jpg or, if raw, CLASS/NAME.npy (uint8, height x width x 3), and the
                         number of its class in CLASS/NAME.cls: what WebDataset reads
  val-00000.tar ...
  train.npz, val.npz     names, labels and sizes of the source's images, and where each lies in its archive
  parts/                 what is known of every finished archive, for a pack that is interrupted

Tar, because it adds some kilobyte an image and no format of our own; archives of 4,096 images, because a process
keeps them all open. The bytes are a function of the source and the recipe alone: whatever was killed in between, the
same command leaves the same files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ranger21.data.identity import NAMES, Identity
from ranger21.data.names import is_plain
from ranger21.system.errors import UserError

VERSION = 2
READABLE = (1, 2)  # version 1 knows no sizes of the source's files, and its archives hold no labels
FACTS = "pack.json"
IMAGES_A_SHARD = 4096
FORMATS = ("jpeg", "raw")
LARGEST_FACTS = 1 << 28  # bytes of pack.json, far more than every image of ImageNet could be skipped with


@dataclass(frozen=True)
class PackRecipe:
    """What was done to the images: the resize as in `data`, then the format they are kept in."""

    resize: int
    resize_mode: str
    format: str
    quality: int | None  # of JPEG
    subsampling: str | None

    def __str__(self) -> str:
        kept = f"JPEG of quality {self.quality}, {self.subsampling}" if self.format == "jpeg" else "raw pixels"
        return f"{self.resize_mode} {self.resize}, {kept}"


def shard_name(split: str, number: int) -> str:
    return f"{split}-{number:05d}.tar"


def read_facts(pack: Path) -> dict[str, Any]:
    """pack.json. Raises a UserError for what is no pack, a pack of another version, or one that is not finished."""
    if not (pack / FACTS).is_file():
        raise UserError(f"data.pack={pack} is not a pack, which has a file {FACTS}: make one with scripts/pack.py.")
    facts = stored_facts(pack)
    if facts["version"] not in READABLE:
        text = (
            f"is of version {facts['version']}, and this code reads {' and '.join(map(str, READABLE))}: make it again"
        )
        raise UserError(f"data.pack={pack} {text}.")
    if not facts["complete"]:
        raise UserError(f"data.pack={pack} is not finished: run the command again that makes it.")
    return facts


def stored_facts(pack: Path) -> dict[str, Any]:
    """pack.json, of whatever version and state. Raises a UserError if it is damaged, or names files elsewhere."""
    try:
        if not 0 < (pack / FACTS).stat().st_size <= LARGEST_FACTS:
            raise ValueError("size")
        facts = json.loads((pack / FACTS).read_text())
        if facts["version"] in READABLE:
            _require_facts(facts, pack)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{pack / FACTS} is damaged: delete {pack} and make the pack again.") from error
    return facts


def _require_facts(facts: dict[str, Any], pack: Path) -> None:
    """Check what pack.json says. Raises what it would raise later; a UserError for a name that is not an archive's."""
    kinds: dict[str, type] = {"source": str, "classes": list, "complete": bool}
    kinds |= {"names": str} if facts["version"] > 1 else {}
    _require({key: facts[key] for key in kinds}, kinds)
    if not facts["classes"] or not all(map(is_plain, facts["classes"])):
        raise ValueError("classes")
    recipe = asdict(PackRecipe(**facts["recipe"]))
    _require(recipe, {"resize": int, "resize_mode": str, "format": str})
    told = (recipe["resize_mode"], recipe["format"], str(recipe["quality"]), str(recipe["subsampling"]))
    if recipe["format"] not in FORMATS or not all(text.isprintable() for text in told):
        raise ValueError("recipe")
    for skipped in facts.get("skipped", {}).values():
        _require(skipped, dict.fromkeys(skipped, str))
    for split in ("train", "val") if facts["complete"] else ():
        for number, shard in enumerate(facts["splits"][split]):
            if not is_plain(shard["file"]) or shard["file"] != shard_name(split, number):
                text = f"names the file {str(shard['file'])[:80]!r}, where {shard_name(split, number)} belongs"
                raise UserError(f"{pack / FACTS} {text}: nothing is read or written; get the pack anew.")
            _require(shard, {"bytes": int, "sha256": str})


def _require(values: dict[str, Any], kinds: dict[str, type]) -> None:
    for key, kind in kinds.items():
        if type(values[key]) is not kind:
            raise TypeError(key)


def require_pack(pack: Path, resize: int, resize_mode: str) -> dict[str, Any]:
    """The facts of a pack that fits a run's recipe. Raises a UserError if it does not, or lacks an archive."""
    facts = read_facts(pack)
    recipe = PackRecipe(**facts["recipe"])
    if (recipe.resize, recipe.resize_mode) != (resize, resize_mode):
        raise UserError(
            f"data.pack={pack} was made for data.resize_mode={recipe.resize_mode} data.resize={recipe.resize}, and "
            f"this run has {resize_mode} {resize}: make a pack for it with scripts/pack.py, or choose what this one is "
            "for."
        )
    for split in ("train", "val"):
        for shard in facts["splits"][split]:
            try:
                size: int | None = (pack / shard["file"]).stat().st_size
            except OSError:
                size = None
            if size != shard["bytes"]:
                state = "is missing" if size is None else f"has {size} bytes instead of {shard['bytes']}"
                raise UserError(
                    f"{pack / shard['file']} {state}: run the command again that made the pack, which makes it anew."
                )
    return facts


def sha256_of(path: Path) -> str | None:
    """Of a file's content; None if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    except OSError:
        return None
    return digest.hexdigest()


def to_facts(recipe: PackRecipe, source: Identity, classes: list[str]) -> dict[str, Any]:
    """The contents of pack.json before an archive is made."""
    facts = {"version": VERSION, "recipe": asdict(recipe), "source": source.fingerprint, "names": source.names}
    return facts | {"classes": classes, "splits": {}, "complete": False}


def source_facts(facts: dict[str, Any]) -> dict[str, str]:
    """Return what pack.json says of the images of which the pack was made, as `identity.compare` takes it."""
    if facts["version"] == 1:
        return {"fingerprint": f"{NAMES}{facts['source']}"}
    return {"fingerprint": facts["source"], "names": facts["names"]}
