"""Disk space: report and check what a command needs before it starts. Imports no torch."""

import shutil
from pathlib import Path

from ranger21.system.errors import UserError
from ranger21.system.terminal import console
from ranger21.system.wording import printable


def size_text(size: float) -> str:
    """Format a number of bytes, such as "1.5 GB"."""
    unit, factor = next(((u, f) for u, f in (("GB", 1e9), ("MB", 1e6)) if size >= f), ("kB", 1e3))
    return f"{size / factor:.1f} {unit}"


def require_space(target: Path, needed: float) -> None:
    """Print the needed and the free disk space; raise a UserError if the free space is too small."""
    place = next(folder for folder in (target.absolute(), *target.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    tell(f"{target} needs {size_text(needed)}; {size_text(free)} are free")
    if needed > free:
        text = f"Free {size_text(needed - free)} more, or choose a folder on another disk"
        raise UserError(f"{target} needs {size_text(needed)}, but only {size_text(free)} are free. {text}.")


def tell(text: str) -> None:
    """Print a message to the console."""
    console.print(printable(text), markup=False, soft_wrap=True)
