"""Paths of the project's top-level files: train.py, configs/, scripts/ and slurm/. Imports no torch.

In a clone they lie beside the package. A wheel contains a copy of them in `ranger21/top`, which the build makes.
"""

import contextlib
import io
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
WHEEL = (PACKAGE / "top").is_dir()  # whether the package was installed from a wheel
TOP = PACKAGE / "top" if WHEEL else PACKAGE.parent
CONFIG_DIR, SCRIPTS, SLURM, TRAIN = TOP / "configs", TOP / "scripts", TOP / "slurm", TOP / "train.py"

SCRIPT = re.compile(r"(?<![\w/.-])(?:python )?(?:scripts/(\w+)|(train))\.py\b")


def as_typed(text: str) -> str:
    """Return a text in which commands read as the user types them.

    From a wheel, which has no scripts/NAME.py to run, that is `ranger21 NAME`; in a clone the text is unchanged.
    """
    if not WHEEL:
        return text
    text = re.sub(r"(\btorchrun\b[^\n]*?)(?<![\w/.-])train\.py\b", r"\1-m ranger21 train", text)
    return SCRIPT.sub(lambda match: f"ranger21 {match[1] or match[2]}", text)


def command(*words: Any) -> str:
    """Return a command line that can be pasted into a shell."""
    return as_typed(shlex.join(map(str, words)))


def shipped(text: str) -> Path:
    """Return the path that a text names; for a missing `configs/...` file, the path of the project's own copy."""
    path = Path(text)
    ours = TOP / path
    return ours if path.parts[:1] == ("configs",) and ours.is_file() and not path.exists() else path


def require_clone(command: str) -> None:
    """Raise a UserError if the package was installed from a wheel, which lacks the repository's docs and results."""
    if WHEEL:
        raise UserError(f"{command} needs the repository's docs and results: clone the repository and run it there.")


@contextlib.contextmanager
def printed_as_typed() -> Iterator[None]:
    """Collect printed output and print it at the end with commands as the user types them (see `as_typed`)."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        sys.stdout.write(as_typed(printed.getvalue()))
