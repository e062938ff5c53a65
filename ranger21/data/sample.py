"""The `sample` dataset: small synthetic images in ImageNet's layout, drawn on first use. Imports no torch.

ImageNet is large and may not be redistributed, but its code path (folders of JPEGs of any size, shape and color mode,
decoded and augmented during training) should run on any machine. This module draws ten classes of simple figures and
patterns into `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`.

Each image is a pure function of (version, split, class, number), so all machines see the same data, and a larger
dataset contains the smaller one. Only the version of the JPEG encoder can change bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ranger21.data.names import is_hidden
from ranger21.system.errors import UserError
from ranger21.system.processes import temporary_folder

VERSION = 1  # increase it when pixels change, so that older datasets are redrawn
MARKER = "complete.json"
_SPLITS = ("train", "val")

# wnid -> name. These wnids are beyond WordNet's offsets, so they cannot be confused with ImageNet's classes.
CLASSES: dict[str, str] = {
    "n99000000": "disc",
    "n99000001": "ring",
    "n99000002": "square",
    "n99000003": "triangle",
    "n99000004": "star",
    "n99000005": "cross",
    "n99000006": "horizontal stripes",
    "n99000007": "vertical stripes",
    "n99000008": "checkerboard",
    "n99000009": "dots",
}

# Length of the longer side when drawing. Enlarging the drawing afterwards is several times faster than drawing at full
# size, and makes no difference at the resolutions used for training.
_CANVAS = 192

Array = NDArray[Any]
_Shape = Callable[[Array, Array], Array]


def _triangle(u: Array, v: Array) -> Array:
    """Return the signed distance to the nearest of three sides, positive inside."""
    return 0.55 - np.max(
        [u * np.float32(np.sin(a)) + v * np.float32(np.cos(a)) for a in np.deg2rad([0, 120, 240])], axis=0
    )


def _star(u: Array, v: Array) -> Array:
    """Return the signed depth in a five-pointed star, computed in one half of one point by symmetry."""
    fold = np.abs((np.arctan2(u, -v) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    return 0.31 - np.hypot(u, v) * np.cos(2 * np.pi / 5 - fold)


def _cross(u: Array, v: Array) -> Array:
    """Return the signed depth in a cross, computed in one quadrant by symmetry."""
    u, v = np.abs(u), np.abs(v)
    return np.minimum(0.95 - np.maximum(u, v), 0.27 - np.minimum(u, v))


# For each class, the largest tilt in degrees at which it is recognizable, and the signed depth at a point, positive
# inside. The unit of length is the radius of a figure, or the period of a pattern that fills the image.
_FIGURES: dict[str, tuple[float, _Shape]] = {
    "disc": (180, lambda u, v: 0.9 - np.hypot(u, v)),
    "ring": (180, lambda u, v: 0.18 - np.abs(np.hypot(u, v) - 0.8)),
    "square": (20, lambda u, v: 0.78 - np.maximum(np.abs(u), np.abs(v))),
    "triangle": (180, _triangle),
    "star": (180, _star),
    "cross": (20, _cross),
}
_PATTERNS: dict[str, tuple[float, _Shape]] = {
    "horizontal stripes": (12, lambda u, v: np.sin(2 * np.pi * v) / 6),
    "vertical stripes": (12, lambda u, v: np.sin(2 * np.pi * u) / 6),
    "checkerboard": (12, lambda u, v: np.sin(np.pi * u) * np.sin(np.pi * v) / 4),
    "dots": (12, lambda u, v: 0.3 - np.hypot(u - np.rint(u), v - np.rint(v))),
}


def _size(rng: np.random.Generator) -> tuple[int, int]:
    """Return a random width and height, as in ImageNet: mostly 500 x 375 or 375 x 500, else of any size."""
    kind = rng.random()
    if kind < 0.7:
        return (500, 375) if kind < 0.5 else (375, 500)
    longer = int(rng.integers(150, 251) if kind < 0.85 else rng.integers(251, 801))
    shorter = round(longer * rng.uniform(0.6, 1.0))
    return (longer, shorter) if rng.random() < 0.6 else (shorter, longer)


def _colours(rng: np.random.Generator) -> Array:
    """Return two colors that differ in luminance, so that the figure is visible in grayscale and after color jitter."""
    while True:
        pair = rng.uniform(10, 245, (2, 3))
        if abs(float((pair[0] - pair[1]) @ np.array([0.299, 0.587, 0.114]))) > 60:
            return pair.astype(np.float32)


def _coverage(name: str, rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Return the fraction of each pixel that the figure or pattern covers, from 0 to 1."""
    if name in _FIGURES:
        tilt, shape = _FIGURES[name]
        radius = min(size) * rng.uniform(0.26, 0.44)
        # The figure lies completely inside the image, so a crop can remove only its edge.
        centre = [radius + (length - 2 * radius) * rng.random() for length in size]
    else:
        tilt, shape = _PATTERNS[name]
        radius = min(size) * rng.uniform(0.13, 0.3)
        centre = [length * rng.random() for length in size]
    angle = np.deg2rad(rng.uniform(-tilt, tilt))
    x, y = (
        (np.arange(n, dtype=np.float32) - np.float32(c)) / np.float32(radius) for n, c in zip(size, centre, strict=True)
    )
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    depth = shape(x * cos + y[:, None] * sin, y[:, None] * cos - x * sin)
    return np.clip(depth * np.float32(radius) + np.float32(0.5), 0, 1)


def _shading(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Return values to add to each pixel: a gradient across the image, and soft blotches in each color channel."""
    grid = rng.uniform(-1, 1, (6, 6, 3)) * rng.uniform(5, 35)
    slope, line = rng.uniform(-25, 25, 2), np.linspace(-1, 1, 6)
    grid += (slope[0] * line[:, None] + slope[1] * line)[:, :, None]
    coarse = Image.fromarray((grid + 128).astype(np.uint8))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.float32) - 128


def draw(wnid: str, split: str, number: int) -> Image.Image:
    """Draw image `number` of the class `wnid` in `split`, in RGB."""
    rng = np.random.default_rng([VERSION, _SPLITS.index(split), list(CLASSES).index(wnid), number])
    size = _size(rng)
    small = round(size[0] * _CANVAS / max(size)), round(size[1] * _CANVAS / max(size))
    ground, ink = _colours(rng)
    cover = _coverage(CLASSES[wnid], rng, small)[:, :, None]
    picture = ground + cover * (ink - ground) + _shading(rng, small)
    # Noise at full size gives the files the size of photographs. Values are limited so that adding it as uint8 cannot
    # overflow; a wider type would double the time.
    shift = int(rng.integers(3, 7))
    image = Image.fromarray(np.clip(picture, 0, 255 - (255 >> shift)).astype(np.uint8))
    pixels = np.array(image.resize(size, Image.Resampling.BILINEAR))
    grain = np.frombuffer(rng.bytes(1 << 16), np.uint8) >> shift
    pixels += np.resize(grain, pixels.shape)  # repeated, which saves a tenth of the time
    return Image.fromarray(pixels)


def _file(wnid: str, split: str, number: int) -> tuple[str, bytes]:
    """Return the path of an image below the root and its JPEG. As in ImageNet, a few images are grayscale or CMYK.

    The prime moduli spread these over all classes, and the remainders put one of each among the images with number 0.
    """
    index = list(CLASSES).index(wnid)
    serial = number * len(CLASSES) + index
    image = draw(wnid, split, number)
    if serial % 47 == 7:
        image = image.convert("L")
    elif serial % 97 == 3:
        image = image.convert("CMYK")
    quality = int(np.random.default_rng([VERSION, _SPLITS.index(split), index, number, 1]).integers(75, 96))
    image.save(buffer := io.BytesIO(), "JPEG", quality=quality)
    stem = f"{wnid}_{number}" if split == "train" else f"sample_val_{serial:08d}"
    return f"{split}/{wnid}/{stem}.JPEG", buffer.getvalue()


def _draw_set(root: Path, counts: dict[str, int]) -> None:
    """Draw the dataset into the empty directory `root`, and write the marker file last.

    Threads suffice, because the expensive calls release the interpreter lock. Processes would need a fork while other
    libraries' threads run, or a `__main__` guard in the user's script.
    """

    def work(job: tuple[str, str, int]) -> str:
        name, data = _file(*job)
        (root / name).write_bytes(data)
        return f"{name} {hashlib.sha256(data).hexdigest()}\n"

    for split in _SPLITS:
        for wnid in CLASSES:
            (root / split / wnid).mkdir(parents=True)
    jobs = [(wnid, split, number) for split in _SPLITS for wnid in CLASSES for number in range(counts[split])]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        lines = list(pool.map(work, jobs))
    fingerprint = hashlib.sha256("".join(lines).encode()).hexdigest()
    marker = {"version": VERSION, "counts": counts, "fingerprint": fingerprint}
    (root / MARKER).write_text(json.dumps(marker, indent=2) + "\n")


def _is_complete(root: Path, counts: dict[str, int]) -> bool:
    """Return whether `root` contains this dataset: its marker matches, and no files are missing. Opens no image."""
    try:
        marker = json.loads((root / MARKER).read_text())
        if (marker["version"], marker["counts"]) != (VERSION, counts) or not marker["fingerprint"]:
            return False
        return all(len(os.listdir(root / split / wnid)) >= counts[split] for split in _SPLITS for wnid in CLASSES)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _refuse_foreign(root: Path) -> None:
    """Raise a UserError if `root` contains files that no version of this module wrote, so it must not be replaced."""
    with contextlib.suppress(FileNotFoundError):  # does not exist, or is just being moved by another process
        found = {entry.name for entry in root.iterdir() if not is_hidden(entry.name)}  # such as the index
        classes = {entry.name for split in found.intersection(_SPLITS) for entry in (root / split).iterdir()}
        foreign = found - {MARKER, *_SPLITS} | {name for name in classes if not name.startswith("n990000")}
        if foreign:
            raise UserError(
                f"{root} contains {min(foreign)!r}, which is not part of the sample dataset. "
                "Choose another directory for the sample dataset."
            )


def _install(fresh: Path, root: Path, aside: Path, counts: dict[str, int]) -> None:
    """Rename `fresh` to `root`, unless another process has installed a complete dataset there in the meantime."""
    while True:
        try:
            fresh.rename(root)  # fails if the directory is not empty, so it never replaces a dataset
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if _is_complete(root, counts):
            return
        _refuse_foreign(root)
        with contextlib.suppress(FileNotFoundError):  # another process may be moving it
            root.rename(tempfile.mkdtemp(dir=aside))


def ensure_sample(root: Path, *, train_per_class: int = 100, val_per_class: int = 30) -> Path:
    """Draw the sample dataset into `root` unless it is complete there (takes a few seconds), and return `root`.

    The dataset is drawn beside `root` and then renamed, so that other processes never see an incomplete one, even if
    processes are killed or run at the same time. A dataset of another version or size, or with missing files, is
    replaced. A directory with other files is not changed.

    Raises:
        UserError: If `root` contains other files or cannot be written.
    """
    counts = {"train": train_per_class, "val": val_per_class}
    place = root.resolve()
    if _is_complete(place, counts):
        return root
    try:
        _refuse_foreign(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(place, {"fresh", "aside"}) as folder:
            # Not `folder` itself, which other users cannot read.
            fresh, aside = folder / "fresh", folder / "aside"
            fresh.mkdir()
            aside.mkdir()
            _draw_set(fresh, counts)
            _install(fresh, place, aside, counts)
    except OSError as error:
        raise UserError(
            f"Cannot write the sample dataset to {root} ({error.strerror or error}). "
            "Choose a place where you may create directories, with about 50 MB of free space."
        ) from error
    return root
