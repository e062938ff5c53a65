"""The published MD5 of ImageNet's archives, compared before they are read from. Imports no torch."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ranger21.data.archives import DEVKIT, TRAIN, VAL, reading
from ranger21.data.disk_space import size_text, tell
from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.system.processes import ProgressBar

MD5 = {  # as torchvision.datasets.imagenet.ARCHIVE_META has them
    TRAIN: "1d675b47d978889d74fa0da5fadfb00e",
    VAL: "29b22e2961454d5413ddabcf34fc5622",
    DEVKIT: "fa75699e90414af021442c21a62c3abf",
}
CHECKED = ".checksums.json"  # in the target: which files were found right, by name, size and time
PIECE = 1 << 22


def require_checksums(files: Iterable[Path], published: dict[str, str], target: Path) -> None:
    """Compare the files whose names have a published MD5, and note in `target` which are right.

    A file that was right before and has the same size and modification time is not read again.
    Raises a UserError for the first file that is another.
    """
    for file in sorted(file for file in files if file.name in published):
        known, now = _known(target), {**_state(file), "md5": published[file.name]}
        if known.get(file.name) == now:
            tell(f"{file.name}: its MD5 was right before, and size and time are the same: it is not read again")
            continue
        found = _md5_of(file)
        if found != published[file.name]:
            raise UserError(
                f"{file} is not the official archive, or damaged: its MD5 is {found}, not {published[file.name]}. "
                "Download it again; --no-checksums takes it as it is."
            )
        tell(f"{file.name}: its MD5 is the published one")
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / CHECKED, json.dumps(known | {file.name: now}, indent=2) + "\n")


def _state(file: Path) -> dict[str, int]:
    state = file.stat()
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}


def _known(target: Path) -> dict[str, Any]:
    try:
        known = json.loads((target / CHECKED).read_text())
    except (OSError, ValueError, RecursionError):  # there is none, or a damaged one: the files are read again
        return {}
    return known if isinstance(known, dict) else {}


def _md5_of(file: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with (
        reading(file),
        open(file, "rb") as stream,
        ProgressBar(f"MD5 of {file.name}", file.stat().st_size, size_text) as bar,
    ):
        while piece := stream.read(PIECE):
            digest.update(piece)
            bar.advance(len(piece))
    return digest.hexdigest()
