"""Verification of the MD5 checksums published for ImageNet's archives. Imports no torch."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ranger21.data.disk_space import size_text, tell
from ranger21.downloads.devkit import DEVKIT
from ranger21.downloads.official import TRAIN, VAL
from ranger21.downloads.parts import reading
from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.system.processes import ProgressBar

MD5 = {  # from torchvision.datasets.imagenet.ARCHIVE_META
    TRAIN: "1d675b47d978889d74fa0da5fadfb00e",
    VAL: "29b22e2961454d5413ddabcf34fc5622",
    DEVKIT: "fa75699e90414af021442c21a62c3abf",
}
CHECKED = ".checksums.json"  # in the target: the verified files with size and modification time
PIECE = 1 << 22


def require_checksums(files: Iterable[Path], published: dict[str, str], target: Path) -> None:
    """Verify the files that have a published MD5, and note the verified ones in `target`.

    A file that was verified before is not read again if its size and modification time are the same.

    Args:
        files: The files to verify.
        published: MD5 checksums by file name.
        target: The folder for the note.

    Raises:
        UserError: If a checksum differs.
    """
    for file in sorted(file for file in files if file.name in published):
        known, now = _known(target), {**_state(file), "md5": published[file.name]}
        if known.get(file.name) == now:
            tell(f"{file.name}: MD5 already verified, and size and time are unchanged")
            continue
        found = _md5_of(file)
        if found != published[file.name]:
            raise UserError(
                f"{file} is damaged or not the official archive: its MD5 is {found}, not {published[file.name]}. "
                "Download it again, or use it as it is with --no-checksums."
            )
        tell(f"{file.name}: MD5 verified")
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / CHECKED, json.dumps(known | {file.name: now}, indent=2) + "\n")


def _state(file: Path) -> dict[str, int]:
    state = file.stat()
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}


def _known(target: Path) -> dict[str, Any]:
    try:
        known = json.loads((target / CHECKED).read_text())
    except (OSError, ValueError, RecursionError):  # missing or damaged: the files are verified again
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
