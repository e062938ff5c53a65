"""JPEGs of ImageNet's sizes for benchmarks, from photographs in scikit-image and scikit-learn. Imports no torch."""

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from ranger21.data.safe_open import opened, read_file
from ranger21.system.errors import UserError

VERSION = 1
FILES = {
    "skimage": [
        f"data/{name}"
        for name in (
            "astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png",
            "retina.jpg", "rocket.jpg",
        )
    ],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}  # fmt: skip


def photographs() -> list[np.ndarray]:
    """Return the photographs as uint8 (height, width, 3); raise a UserError if the packages are not installed."""
    found = []
    for package, names in FILES.items():
        spec = find_spec(package)  # does not import it
        folders = spec.submodule_search_locations if spec else None
        for name in names:
            path = Path(folders[0] if folders else package, name)
            if not path.is_file():
                raise UserError(
                    f"There are no photographs ({path} is missing). Install scikit-image and scikit-learn, which "
                    "contain them: pip install 'ranger21-imagenet[bench]'."
                )
            with opened(read_file(path)) as picture:
                found.append(np.asarray(picture.convert("RGB")))
    return found


def jpegs(count: int) -> list[bytes]:
    """Return `count` different JPEG files. A larger count begins with the same files."""
    pictures = [Image.fromarray(photograph) for photograph in photographs()]
    return [_jpeg(pictures[i % len(pictures)], np.random.default_rng([VERSION, i])) for i in range(count)]


def _size(rng: np.random.Generator) -> tuple[int, int]:
    """Return a random width and height: mostly 500 x 375 or 375 x 500, else with any longer side, often 500."""
    kind = rng.random()
    if kind < 0.75:
        return (500, 375) if kind < 0.55 else (375, 500)
    longer = 500 if kind < 0.9 else int(rng.integers(200, 1001))
    shorter = round(longer * rng.uniform(0.55, 1))
    return (longer, shorter) if rng.random() < 0.7 else (shorter, longer)


def _jpeg(picture: Image.Image, rng: np.random.Generator) -> bytes:
    """Return a JPEG (4:2:0) of a random crop of the picture, resized and possibly mirrored."""
    width, height = _size(rng)
    scale = min(picture.width / width, picture.height / height) * rng.uniform(0.75, 1)
    left, top = rng.uniform(0, picture.width - width * scale), rng.uniform(0, picture.height - height * scale)
    box = (left, top, left + width * scale, top + height * scale)
    cut = picture.resize((width, height), Image.Resampling.LANCZOS, box)
    if rng.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    cut.save(buffer := io.BytesIO(), "JPEG", quality=int(rng.integers(95, 99)), subsampling="4:2:0")
    return buffer.getvalue()
