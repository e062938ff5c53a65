"""Reading of idx files, plain or gzipped: a header of big-endian integers, followed by uint8 values."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from ranger21.system.errors import UserError
from ranger21.system.wording import reason

LARGEST = 1 << 26  # bytes of a file, unpacked: the largest of the four has 47,040,016


def read_idx(path: Path) -> np.ndarray:
    """Return the uint8 array in an idx file; `path` omits `.gz`. Raises a UserError if the file is damaged."""
    try:
        with open(path, "rb") if path.is_file() else gzip.open(f"{path}.gz") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        axes = raw[3]
        shape = tuple(np.frombuffer(raw, ">i4", count=axes, offset=4))
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}). Download Fashion-MNIST again.") from error
