"""How much room a command needs on the disk, told before it begins. Imports no torch."""

import shutil
from pathlib import Path

from ranger21.system.errors import UserError
from ranger21.system.terminal import console
from ranger21.system.wording import printable


def size_text(size: float) -> str:
    unit, factor = next(((u, f) for u, f in (("GB", 1e9), ("MB", 1e6)) if size >= f), ("kB", 1e3))
    return f"{size / factor:.1f} {unit}"


def require_space(target: Path, needed: float) -> None:
    """Tell how much room is needed and how much there is. Raises a UserError if it is too little."""
    place = next(folder for folder in (target.absolute(), *target.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    tell(f"needs {size_text(needed)} in {target}, {size_text(free)} are free")
    if needed > free:
        text = f"make room for {size_text(needed - free)} more, or choose a folder on another disk"
        raise UserError(f"{target} needs {size_text(needed)}, but only {size_text(free)} are free: {text}.")


def tell(text: str) -> None:
    console.print(printable(text), markup=False, soft_wrap=True)
