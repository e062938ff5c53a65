"""Making packs (`ranger21.data.pack`): in parallel, resumable, the same bytes whatever happened in between."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from ranger21.data import shards
from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.disk_space import size_text, tell
from ranger21.data.identity import identify
from ranger21.data.index import Index
from ranger21.data.layout import SPLITS
from ranger21.data.names import is_hidden
from ranger21.data.pack import (
    FACTS,
    IMAGES_A_SHARD,
    READABLE,
    PackRecipe,
    read_facts,
    sha256_of,
    stored_facts,
    to_facts,
)
from ranger21.data.shards import TAR_BLOCK, Shard, encoded, make_shard, pixels_of, shards_of, told, write_json
from ranger21.data.sources import FolderSource, PackSource
from ranger21.system.errors import UserError
from ranger21.system.processes import in_parallel, locked

SAMPLED = 64  # images that the size of a pack is estimated from


def estimate(source: FolderSource, config: ImageFolderConfig, recipe: PackRecipe) -> float:
    """Bytes of an image in a pack, about: the mean over some images spread over the source, those that can be read."""
    sizes = []
    for image in np.unique(np.linspace(0, len(source) - 1, SAMPLED).astype(int)):
        with contextlib.suppress(UserError):  # it is told when its turn comes
            sizes.append(len(encoded(pixels_of(source, int(image), config), recipe)[0]))
    return float(np.mean(sizes or [0])) + 3.5 * TAR_BLOCK  # two headers, the label, and half a block that is filled up


def begin_pack(target: Path, recipe: PackRecipe, indices: dict[str, Index]) -> dict[str, Any]:
    """Take the folder for this pack; return its facts. Raises a UserError if it holds another, or something else.

    A pack that is not finished may be of images that have changed since: what is kept of it, `make_pack` finds out.
    """
    facts = to_facts(recipe, identify(indices), list(indices["train"].classes))
    if (target / FACTS).exists():
        _require_own(target, facts, recipe)
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


def _require_own(target: Path, facts: dict[str, Any], recipe: PackRecipe) -> None:
    """Raise a UserError if the folder has a pack that the facts are not of."""
    there = stored_facts(target)
    if there["version"] != facts["version"]:
        use = "train.py takes it as it is" if there["version"] in READABLE and there["complete"] else "it is not read"
        raise UserError(
            f"{target} holds a pack of version {there['version']}, and this code makes version {facts['version']}: "
            f"{use}; to make one anew, choose another folder, or delete it."
        )
    what = {"recipe": "recipe", "source": "source", "classes": "set of classes"}
    for key in what if there["complete"] else ("recipe", "classes"):
        if there.get(key) != facts[key]:
            shown = f": {PackRecipe(**there[key])} there, {recipe} now" if key == "recipe" else ""
            raise UserError(
                f"{target} holds a pack of another {what[key]}{shown}. Choose another folder, or delete it."
            )


def make_pack(
    sources: dict[str, FolderSource],
    config: ImageFolderConfig,
    recipe: PackRecipe,
    target: Path,
    processes: int,
    skip: bool = False,
) -> bool:
    """Make what is missing of a pack; False if nothing was.

    Args:
        skip: whether images that cannot be read are left out and listed in pack.json, rather than an error.
    """
    facts = begin_pack(target, recipe, {split: source.index for split, source in sources.items()})
    with locked(target, f"Another process is making the pack {target}: wait for it, or stop it."):
        of_split = {
            split: shards_of(source, config, recipe, target, skip, IMAGES_A_SHARD) for split, source in sources.items()
        }
        everything = [shard for own in of_split.values() for shard in own]
        missing = [shard for shard in everything if shard.done() is None]
        if not missing and _is_whole(target):
            return False
        _tell_what_is_kept(target, everything, facts)
        for _ in in_parallel(make_shard, missing, processes, "packed images", lambda shard: len(shard.keys)):
            pass
        with told(target):
            splits = {split: write_index(target, sources[split].index, own) for split, own in of_split.items()}
            left_out = {split: _skipped(sources[split].index, own) for split, own in of_split.items()}
            facts |= {"skipped": left_out} if any(left_out.values()) else {}
            write_json(target / FACTS, facts | {"splits": splits, "complete": True})
            _remove_others(target, everything)
        return True


def _remove_others(target: Path, everything: list[Shard]) -> None:
    """Remove archives of when there were more images."""
    own = {path for shard in everything for path in (shard.path, shard.record)}
    for path in (*target.glob("*-[0-9]*.tar"), *target.glob("parts/*-[0-9]*.json")):
        if path not in own:
            path.unlink()


def _tell_what_is_kept(target: Path, everything: list[Shard], facts: dict[str, Any]) -> None:
    """Say how many finished archives are of images that have changed.

    Raises a UserError if all are, though the names are the same: a copy of the images in another size was packed here.
    """
    finished = [shard for shard in everything if shard.found()]
    changed = [shard for shard in finished if not shard.done()]
    there = stored_facts(target)
    same_names = there["names"] == facts["names"] and there["source"] != facts["source"]
    if finished and changed == finished and same_names:
        text = "archives of files with the same names, but other sizes. Choose another folder, or delete it"
        raise UserError(f"{target} holds {len(finished)} {text}.")
    if changed:
        text = "hold images that have changed, or moved up, since then, and are made anew; the others are kept"
        tell(f"{len(changed):,} of {len(finished):,} finished archives {text}")


def _skipped(index: Index, own: list[Shard]) -> dict[str, str]:
    """The images that a split of the pack lacks, each with the reason. Raises a UserError if that is all of a class."""
    skipped = {path: why for shard in own for path, why in (shard.done() or {}).get("skipped", {}).items()}
    lost = [path.partition("/")[0] for path in skipped]
    for name, count in zip(index.classes, index.counts, strict=True):
        if lost.count(name) == count:
            raise UserError(f"No image of the class {name} in {own[0].source.split} can be read: replace them.")
    return skipped


def _is_whole(target: Path) -> bool:
    """Return whether everything but the archives is there, too."""
    try:
        read_facts(target)
        for split in SPLITS:
            PackSource(target, split)
    except UserError:
        return False
    return True


def write_index(target: Path, index: Index, own: list[Shard]) -> list[dict[str, Any]]:
    """Write where every image of a split lies; return what pack.json says of its archives."""
    records = [record for shard in own if (record := shard.done()) is not None]
    offsets, lengths, shapes = (
        np.concatenate([np.array(record[name], kind) for record in records])
        for name, kind in (("offsets", np.int64), ("lengths", np.int32), ("shapes", np.int32))
    )
    new, path = target / f".{own[0].split}.npz.tmp", target / f"{own[0].split}.npz"
    arrays = {"classes": np.array(index.classes), "offsets": offsets, "lengths": lengths, "shapes": shapes}
    with open(new, "wb") as file:
        np.savez(file, **(arrays | index.arrays()))
    shards.commit(new, path)
    return [
        {"file": shard.path.name, "bytes": record["bytes"], "sha256": record["sha256"]}
        for shard, record in zip(own, records, strict=True)
    ]


def damaged_shards(pack: Path, processes: int) -> list[str]:
    """The archives whose bytes are not those that were written, by reading all of them."""
    splits = read_facts(pack)["splits"]
    expected = {pack / shard["file"]: shard["sha256"] for split in SPLITS for shard in splits[split]}
    size = {path: path.stat().st_size if path.exists() else 0 for path in expected}
    checks = in_parallel(sha256_of, list(expected), processes, "checked", size.__getitem__, size_text)
    return sorted(path.name for path, digest in checks if digest != expected[path])
