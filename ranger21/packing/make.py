"""Creation of packs (`ranger21.data.pack`): parallel, resumable and reproducible byte for byte."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.disk_space import require_space, size_text, tell
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
from ranger21.data.sources import FolderSource, PackSource
from ranger21.packing import writing
from ranger21.packing.encoding import packed
from ranger21.packing.located import LocatedSource
from ranger21.packing.shards import TAR_BLOCK, Shard, Source, make_shard, shards_of
from ranger21.packing.writing import told
from ranger21.system.errors import UserError
from ranger21.system.processes import in_parallel, locked

SAMPLED = 64  # images used to estimate the size of a pack
OVERHEAD = 3.5 * TAR_BLOCK  # bytes per image: two headers, the label, and half a block of padding


def estimate(source: FolderSource | LocatedSource, config: ImageFolderConfig, recipe: PackRecipe) -> float:
    """Estimate the bytes per image in a pack, as the mean over readable images spread evenly over the source."""
    sizes = []
    for image in np.unique(np.linspace(0, len(source) - 1, SAMPLED).astype(int)):
        with contextlib.suppress(UserError):  # reported when the image is packed
            sizes.append(len(packed(source[int(image)][0], config, recipe).content))
    return float(np.mean(sizes or [0])) + OVERHEAD


def there_in(target: Path) -> int:
    """Return the bytes of the archives that a folder has."""
    return sum(path.stat().st_size for path in target.glob("*.tar"))


def report_size(
    sources: Mapping[str, FolderSource | LocatedSource], config: ImageFolderConfig, recipe: PackRecipe, target: Path
) -> None:
    """Print what a pack will need; raise a UserError if the disk lacks space."""
    images, there = sum(map(len, sources.values())), there_in(target)
    need = estimate(sources["train"], config, recipe) * images
    tell(f"{images:,} images, {recipe}: about {size_text(need)}, of which {size_text(there)} exist already")
    require_space(target, max(0.0, need - there))


def begin_folder(target: Path) -> None:
    """Create the folder of a pack, unless it exists; raise a UserError if it has other files or cannot be written."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        strange = next((entry.name for entry in target.iterdir() if not is_hidden(entry.name)), None)
    except OSError as error:
        raise _unwritable(target, error) from error
    if strange and not (target / FACTS).exists():
        raise UserError(f"{target} contains {strange!r}, which is not part of a pack. Choose an empty folder.")


def _unwritable(target: Path, error: OSError) -> UserError:
    return UserError(f"{target} cannot be written ({error.strerror}). Choose another folder for the pack.")


def begin_pack(target: Path, recipe: PackRecipe, indices: dict[str, Index]) -> dict[str, Any]:
    """Create the folder of a pack with an initial pack.json, unless it exists, and return the contents of pack.json.

    The images of an unfinished pack may have changed since; `make_pack` decides which archives to keep.

    Raises:
        UserError: If the folder has a different pack or other files.
    """
    facts = to_facts(recipe, identify(indices), list(indices["train"].classes))
    if (target / FACTS).exists():
        require_own(target, facts, recipe)
        return facts
    begin_folder(target)
    try:
        writing.write_json(target / FACTS, facts)
    except OSError as error:
        raise _unwritable(target, error) from error
    return facts


def require_own(target: Path, facts: dict[str, Any], recipe: PackRecipe) -> None:
    """Raise a UserError if the folder has a different pack."""
    there = stored_facts(target)
    if there["version"] != facts["version"]:
        readable = there["version"] in READABLE and there["complete"]
        use = "train.py can use it as it is" if readable else "train.py cannot use it"
        raise UserError(
            f"{target} has a pack of version {there['version']}, and this code makes version {facts['version']}; "
            f"{use}. To make a new pack, choose another folder or delete this one."
        )
    what = {"recipe": "recipe", "source": "source", "classes": "set of classes"}
    for key in what if there["complete"] else ("recipe", "classes"):
        if there.get(key) != facts[key]:
            shown = f": {PackRecipe(**there[key])} there, {recipe} now" if key == "recipe" else ""
            raise UserError(
                f"{target} already has a pack with a different {what[key]}{shown}. Choose another folder, or delete "
                "this one."
            )


def make_pack(
    sources: Mapping[str, Source],
    config: ImageFolderConfig,
    recipe: PackRecipe,
    target: Path,
    processes: int,
    skip: bool = False,
    ready: Callable[[], object] = lambda: None,
) -> bool:
    """Make the missing archives of a pack; return False if it was already complete.

    Args:
        sources: Images of each split.
        config: Resizing of the images.
        recipe: Recipe of the pack.
        target: Folder of the pack.
        processes: Number of processes.
        skip: Whether to skip unreadable images and list them in pack.json, instead of raising an error.
        ready: Called before anything is made, unless the pack is complete.
    """
    facts = begin_pack(target, recipe, {split: source.index for split, source in sources.items()})
    with locked(target, f"Another process is making the pack {target}. Wait for it, or stop it."):
        of_split = {
            split: shards_of(source, config, recipe, target, skip, IMAGES_A_SHARD) for split, source in sources.items()
        }
        everything = [shard for own in of_split.values() for shard in own]
        missing = [shard for shard in everything if shard.done() is None]
        if not missing and is_whole(target):
            return False
        ready()
        _tell_what_is_kept(target, everything, facts)
        for _ in in_parallel(make_shard, missing, processes, "packed images", lambda shard: len(shard.keys)):
            pass
        with told(target):
            splits = {split: write_index(target, sources[split].index, own) for split, own in of_split.items()}
            left_out = {split: _skipped(sources[split].index, own) for split, own in of_split.items()}
            facts |= {"skipped": left_out} if any(left_out.values()) else {}
            writing.write_json(target / FACTS, facts | {"splits": splits, "complete": True})
            _remove_others(target, everything)
        return True


def _remove_others(target: Path, everything: list[Shard]) -> None:
    """Remove archives that are left over from a time with more images."""
    own = {path for shard in everything for path in (shard.path, shard.record)}
    for path in (*target.glob("*-[0-9]*.tar"), *target.glob("parts/*-[0-9]*.json")):
        if path not in own:
            path.unlink()


def _tell_what_is_kept(target: Path, everything: list[Shard], facts: dict[str, Any]) -> None:
    """Print how many finished archives contain images that have changed.

    Raises:
        UserError: If all archives do although the file names are the same, because a copy of the images in another size
            was packed into this folder.
    """
    finished = [shard for shard in everything if shard.found()]
    changed = [shard for shard in finished if not shard.done()]
    there = stored_facts(target)
    same_names = there["names"] == facts["names"] and there["source"] != facts["source"]
    if finished and changed == finished and same_names:
        text = "archives of files with the same names but other sizes. Choose another folder, or delete this one"
        raise UserError(f"{target} has {len(finished)} {text}.")
    if changed:
        text = "have images that changed or moved to another archive, and are made again; the others are kept"
        tell(f"{len(changed):,} of {len(finished):,} finished archives {text}")


def _skipped(index: Index, own: list[Shard]) -> dict[str, str]:
    """Return the skipped images of a split with the reasons; raise a UserError if all images of a class are skipped."""
    skipped = {path: why for shard in own for path, why in (shard.done() or {}).get("skipped", {}).items()}
    lost = [path.partition("/")[0] for path in skipped]
    for name, count in zip(index.classes, index.counts, strict=True):
        if lost.count(name) == count:
            raise UserError(f"No image of the class {name} in {own[0].source.split} can be read. Replace them.")
    return skipped


def is_whole(target: Path) -> bool:
    """Return whether all files of the pack other than the archives are valid."""
    try:
        read_facts(target)
        for split in SPLITS:
            PackSource(target, split)
    except UserError:
        return False
    return True


def lost_archives(target: Path, facts: Mapping[str, Any]) -> list[str]:
    """Return the archives of a complete pack that are missing, have another size, or lack their record."""
    files = [shard for split in SPLITS for shard in facts["splits"][split]]
    records = {path.stem for path in target.glob("parts/*.json")}
    sizes = {path.name: path.stat().st_size for path in target.glob("*.tar")}
    return [f["file"] for f in files if sizes.get(f["file"]) != f["bytes"] or Path(f["file"]).stem not in records]


def write_index(target: Path, index: Index, own: list[Shard]) -> list[dict[str, Any]]:
    """Write the index file of a split; return the entries of pack.json for its archives."""
    records = [record for shard in own if (record := shard.done()) is not None]
    offsets, lengths, shapes = (
        np.concatenate([np.array(record[name], kind) for record in records])
        for name, kind in (("offsets", np.int64), ("lengths", np.int32), ("shapes", np.int32))
    )
    new, path = target / f".{own[0].split}.npz.tmp", target / f"{own[0].split}.npz"
    arrays = {"classes": np.array(index.classes), "offsets": offsets, "lengths": lengths, "shapes": shapes}
    with open(new, "wb") as file:
        np.savez(file, **(arrays | index.arrays()))
    writing.commit(new, path)
    return [
        {"file": shard.path.name, "bytes": record["bytes"], "sha256": record["sha256"]}
        for shard, record in zip(own, records, strict=True)
    ]


def damaged_shards(pack: Path, processes: int) -> list[str]:
    """Read all archives of a pack, and return the names of those with a wrong checksum."""
    splits = read_facts(pack)["splits"]
    expected = {pack / shard["file"]: shard["sha256"] for split in SPLITS for shard in splits[split]}
    size = {path: path.stat().st_size if path.exists() else 0 for path in expected}
    checks = in_parallel(sha256_of, list(expected), processes, "checked", size.__getitem__, size_text)
    return sorted(path.name for path, digest in checks if digest != expected[path])
