"""The forms in which people have ImageNet: recognize the one in a folder. Imports no torch.

To add a form, write a module with a function that returns a `Download` (or None if the folder has another form), and
list the function in FORMS.
"""

from collections.abc import Callable
from pathlib import Path

from ranger21.data.names import is_hidden
from ranger21.downloads import official, parquet
from ranger21.downloads.parts import Download
from ranger21.system.errors import UserError
from ranger21.system.wording import first_few

FORMS: tuple[Callable[[Path], Download | None], ...] = (official.find, parquet.find)
SHOWN = 6  # names of a folder that has no known form


def recognize(source: Path) -> Download:
    """Return the download in a folder.

    Raises:
        UserError: If the folder has none of the known forms, or files are missing.
    """
    if not source.is_dir():
        raise UserError(f"There is no folder {source}. SOURCE must be the folder with the downloaded files.")
    for find in FORMS:
        if download := find(source):
            return download
    if lacking := official.lacking(source):
        raise UserError(f"{source} lacks {' and '.join(lacking)}. Download it as well, from https://image-net.org.")
    there = sorted(entry.name for entry in source.iterdir() if not is_hidden(entry.name))
    raise UserError(
        f"{source} has no form of ImageNet that is known here (docs/data.md lists them). It contains "
        f"{first_few(there, SHOWN) if there else 'nothing'}."
    )
