"""Packs: images resized once and stored in tar archives, readable by any tool and accessible by index.

A pack is a folder:

  pack.json              recipe, classes, fingerprint of the source, size and SHA-256 of every archive, and unreadable
                         images that were skipped
  train-00000.tar ...    for each image, CLASS/NAME.jpg or (raw) CLASS/NAME.npy (uint8, height x width x 3), and its
                         label in CLASS/NAME.cls, as WebDataset expects
  val-00000.tar ...
  train.npz, val.npz     names, labels and sizes of the source's images, and the position of each in its archive
  parts/                 records of the finished archives, to resume an interrupted pack

Tar needs about a kilobyte per image and is a standard format. Archives have 4,096 images, so that a process can keep
all of them open. The files depend only on the source and the recipe: after any interruption, the same command produces
the same bytes.
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
READABLE = (1, 2)  # version 1 has no sizes of the source's files, and no labels in its archives
FACTS = "pack.json"
IMAGES_A_SHARD = 4096
FORMATS = ("jpeg", "raw")
INTERPOLATIONS = ("bilinear", "bicubic")
LARGEST_FACTS = 1 << 28  # bytes of pack.json, enough to list every image of ImageNet as skipped


@dataclass(frozen=True)
class PackRecipe:
    """The processing of the images of a pack: resizing as in `data`, then the storage format.

    `quality` and `subsampling` apply to JPEG and are None for raw pixels. Older packs do not state the interpolation,
    and neither do those that are resized like them.
    """

    resize: int
    resize_mode: str
    format: str
    quality: int | None
    subsampling: str | None
    interpolation: str = INTERPOLATIONS[0]

    def __str__(self) -> str:
        kept = f"JPEG of quality {self.quality}, {self.subsampling}" if self.format == "jpeg" else "raw pixels"
        how = "" if self.interpolation == INTERPOLATIONS[0] else f" {self.interpolation}"
        return f"{self.resize_mode} {self.resize}{how}, {kept}"

    def facts(self) -> dict[str, Any]:
        """Return the recipe's entry in pack.json."""
        facts = asdict(self)
        if self.interpolation == INTERPOLATIONS[0]:
            del facts["interpolation"]
        return facts


def shard_name(split: str, number: int) -> str:
    """Return the file name of an archive."""
    return f"{split}-{number:05d}.tar"


def read_facts(pack: Path) -> dict[str, Any]:
    """Return the contents of pack.json.

    Raises:
        UserError: If there is no pack, or if it is unfinished, damaged, or of an unknown version.
    """
    if not (pack / FACTS).is_file():
        raise UserError(f"data.pack={pack} is not a pack: it has no file {FACTS}. Make a pack with scripts/pack.py.")
    facts = stored_facts(pack)
    if facts["version"] not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise UserError(
            f"data.pack={pack} has version {facts['version']}, but this code reads {readable}. Make the pack again."
        )
    if not facts["complete"]:
        raise UserError(f"data.pack={pack} is not finished. Repeat the command that makes it.")
    return facts


def stored_facts(pack: Path) -> dict[str, Any]:
    """Return the contents of pack.json in any version and state.

    Raises:
        UserError: If the file is damaged or names files outside the pack.
    """
    try:
        if not 0 < (pack / FACTS).stat().st_size <= LARGEST_FACTS:
            raise ValueError("size")
        facts = json.loads((pack / FACTS).read_text())
        if facts["version"] in READABLE:
            _require_facts(facts, pack)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{pack / FACTS} is damaged. Delete {pack} and make the pack again.") from error
    return facts


def _require_facts(facts: dict[str, Any], pack: Path) -> None:
    """Validate the contents of pack.json.

    Raises:
        UserError: If a file name is not that of an archive.
        Exception: ValueError, TypeError, LookupError or AttributeError for other invalid contents.
    """
    kinds: dict[str, type] = {"source": str, "classes": list, "complete": bool}
    kinds |= {"names": str} if facts["version"] > 1 else {}
    _require({key: facts[key] for key in kinds}, kinds)
    if not facts["classes"] or not all(map(is_plain, facts["classes"])):
        raise ValueError("classes")
    recipe = asdict(PackRecipe(**facts["recipe"]))
    _require(recipe, {"resize": int, "resize_mode": str, "format": str, "interpolation": str})
    told = (recipe["resize_mode"], recipe["format"], str(recipe["quality"]), str(recipe["subsampling"]))
    known = recipe["format"] in FORMATS and recipe["interpolation"] in INTERPOLATIONS
    if not known or not all(text.isprintable() for text in told):
        raise ValueError("recipe")
    for skipped in facts.get("skipped", {}).values():
        _require(skipped, dict.fromkeys(skipped, str))
    for split in ("train", "val") if facts["complete"] else ():
        for number, shard in enumerate(facts["splits"][split]):
            if not is_plain(shard["file"]) or shard["file"] != shard_name(split, number):
                text = f"names the file {str(shard['file'])[:80]!r} instead of {shard_name(split, number)}"
                raise UserError(f"{pack / FACTS} {text}. No other file was read or written. Get the pack again.")
            _require(shard, {"bytes": int, "sha256": str})


def _require(values: dict[str, Any], kinds: dict[str, type]) -> None:
    for key, kind in kinds.items():
        if type(values[key]) is not kind:
            raise TypeError(key)


def require_pack(pack: Path, resize: int, resize_mode: str, interpolation: str | None = None) -> dict[str, Any]:
    """Return the contents of pack.json for a pack that fits the given resizing; with None, by any interpolation.

    Raises:
        UserError: If the pack does not fit, or an archive is missing or has the wrong size.
    """
    facts = read_facts(pack)
    recipe = PackRecipe(**facts["recipe"])
    if (recipe.resize, recipe.resize_mode) != (resize, resize_mode):
        raise UserError(
            f"data.pack={pack} was made for data.resize_mode={recipe.resize_mode} data.resize={recipe.resize}, but "
            f"this run has {resize_mode} {resize}. Use the settings of the pack, or make another with scripts/pack.py."
        )
    if interpolation not in (None, recipe.interpolation):
        raise UserError(
            f"data.pack={pack} was resized with data.interpolation={recipe.interpolation}, but this run has "
            f"{interpolation}. Use the setting of the pack, or make another with scripts/pack.py."
        )
    for split in ("train", "val"):
        for shard in facts["splits"][split]:
            try:
                size: int | None = (pack / shard["file"]).stat().st_size
            except OSError:
                size = None
            if size != shard["bytes"]:
                state = "is missing" if size is None else f"has {size} bytes instead of {shard['bytes']}"
                raise UserError(f"{pack / shard['file']} {state}. Repeat the command that made the pack to restore it.")
    return facts


def sha256_of(path: Path) -> str | None:
    """Return the SHA-256 of a file, or None if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    except OSError:
        return None
    return digest.hexdigest()


def to_facts(recipe: PackRecipe, source: Identity, classes: list[str]) -> dict[str, Any]:
    """Return the initial contents of pack.json, before any archive is made."""
    facts = {"version": VERSION, "recipe": recipe.facts(), "source": source.fingerprint, "names": source.names}
    return facts | {"classes": classes, "splits": {}, "complete": False}


def source_facts(facts: dict[str, Any]) -> dict[str, str]:
    """Return the identity of the pack's source images, as `identity.compare` expects it."""
    if facts["version"] == 1:
        return {"fingerprint": f"{NAMES}{facts['source']}"}
    return {"fingerprint": facts["source"], "names": facts["names"]}
