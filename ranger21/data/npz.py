"""Safe reading of .npz files, as numpy.savez writes them. Imports no torch."""

import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def load_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return those of the named arrays that the file has.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If reading would need more memory than the file has bytes: it is compressed, which savez never
            does, or has elements of size zero.
        Exception: Anything that NumPy raises for a damaged file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a regular file")
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is compressed, and this project never compresses such a file")
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in names if name in arrays}
    if any(array.size > path.stat().st_size for array in found.values()):
        raise ValueError("it has more elements than bytes")
    return found
