"""A pack straight from a download of ImageNet: the same bytes as by way of prepare_imagenet.py's folders.

Images that can be read in any order are read where they are. Other downloads are first read once (`spill`).
"""

import shutil
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np

from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.decode import Encoded
from ranger21.data.disk_space import require_space, size_text, tell
from ranger21.data.identity import identify
from ranger21.data.pack import FACTS, PackRecipe, stored_facts, to_facts
from ranger21.downloads.checksums import CHECKED, MD5, require_checksums
from ranger21.downloads.forms import recognize
from ranger21.downloads.located import LocatedPart
from ranger21.downloads.parts import Download, ImagePart
from ranger21.packing.encoding import packed
from ranger21.packing.listing import in_order, listed, names_only
from ranger21.packing.located import REMEDY, located_sources
from ranger21.packing.make import (
    OVERHEAD,
    SAMPLED,
    begin_folder,
    is_whole,
    lost_archives,
    make_pack,
    report_size,
    require_own,
    there_in,
)
from ranger21.packing.spill import SPILL, Spill, SpilledSource, spill, spilled
from ranger21.packing.writing import told
from ranger21.system.errors import UserError
from ranger21.system.processes import in_parallel, locked


def pack_download(
    source: Path,
    config: ImageFolderConfig,
    recipe: PackRecipe,
    target: Path,
    processes: int,
    skip: bool = False,
    checksums: bool = True,
) -> bool:
    """Make the missing archives of a pack of a download; return False if it was already complete.

    Args:
        source: Folder with the downloaded files, which is only read.
        config: Resizing of the images.
        recipe: Recipe of the pack.
        target: Folder of the pack.
        processes: Number of processes.
        skip: Whether to skip unreadable images and list them in pack.json, instead of raising an error.
        checksums: Whether to verify the published checksums of the files before they are read.

    Raises:
        UserError: If files are missing, damaged or do not match, or the pack cannot be written.
    """
    download = recognize(source)
    for sentence in (download.told(source), *download.notes):
        tell(sentence)
    files = sorted({file for part in download.parts for file in part.files})
    if not checksums and not any(file.name in MD5 for file in files):
        raise UserError(f"--no-checksums has no effect: {download.form} has no published checksums. Omit it.")
    verify = partial(require_checksums, files, MD5 if checksums else {}, target)
    if all(isinstance(part, LocatedPart) for part in download.parts):
        sources = located_sources(source, cast(Sequence[LocatedPart], download.parts), processes)
        report_size(sources, config, recipe, target)
        fresh = make_pack(sources, config, recipe, target, processes, skip, verify)
    else:
        jobs = [Spill(part, n, config, recipe, target / SPILL, skip) for n, part in enumerate(download.parts)]
        fresh = not _is_made(source, download, recipe, target, processes) and _by_spilling(source, jobs, processes)
        shutil.rmtree(target / SPILL, ignore_errors=True)
    (target / CHECKED).unlink(missing_ok=True)
    return fresh


def _by_spilling(source: Path, jobs: list[Spill], processes: int) -> bool:
    """Make a pack by reading each part once; `make_pack` returns what it returns."""
    folder, target, (config, recipe) = jobs[0].folder, jobs[0].folder.parent, (jobs[0].config, jobs[0].recipe)
    begin_folder(target)
    with told(folder):
        folder.mkdir(exist_ok=True)
    with locked(folder, f"Another process is making the pack {target}. Wait for it, or stop it."):
        images = estimate_all([job.part for job in jobs], config, recipe)
        before = _bytes_of(folder)
        left = [max(0.0, images - there) for there in (before, there_in(target))]
        tell("these files are read from their beginning, so the pack needs twice its size while it is made")
        require_space(target, sum(left))
        todo = [job for job in jobs if not job.done()]
        ratio = images / max(1, sum(job.size() for job in jobs))
        written = lambda: _bytes_of(folder) - before  # noqa: E731
        for _ in in_parallel(
            spill, todo, processes, "resizing", lambda job: int(ratio * job.size()), size_text, written
        ):
            pass
        found = in_order(source, [job.part for job in jobs], [spilled(job) for job in jobs])
        sources = {split: SpilledSource(source / split, images, jobs) for split, images in found.items()}
        return make_pack(sources, config, recipe, target, processes, jobs[0].skip)


def _bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.images"))


def estimate_all(parts: Sequence[ImagePart], config: ImageFolderConfig, recipe: PackRecipe) -> float:
    """Estimate the bytes of a pack, by the first images and the sizes of all files."""
    before, after = [], []
    for place, data in islice(parts[0].images(lambda place, size: True), SAMPLED):
        before.append(len(data))
        try:
            after.append(len(packed(Encoded(np.frombuffer(data, np.uint8), place, REMEDY), config, recipe).content))
        except UserError:  # reported when the image is packed
            continue
    files = {file for part in parts for file in part.files}
    each = float(np.mean(after or [0])) + OVERHEAD
    return sum(file.stat().st_size for file in files) / max(1.0, float(np.mean(before or [1]))) * each


def _is_made(source: Path, download: Download, recipe: PackRecipe, target: Path, processes: int) -> bool:
    """Return whether the target has a complete pack of this download, by the names of the images.

    Raises:
        UserError: If it has another pack.
    """
    if not (target / FACTS).exists() or not (there := stored_facts(target))["complete"]:
        return False
    found = in_order(source, download.parts, listed(download.parts, names_only, processes))
    indices = {split: images.index for split, images in found.items()}
    facts = to_facts(recipe, identify(indices), list(indices["train"].classes))
    same = facts["names"] == there.get("names")
    require_own(target, facts | ({"source": there["source"]} if same else {}), recipe)
    return is_whole(target) and not lost_archives(target, there)
