"""Decode an image and report errors and unusual features. Imports no torch."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import ExifTags, Image

from ranger21.data.safe_open import opened, read_file
from ranger21.system.wording import reason

MODES = {"CMYK": "cmyk", "L": "grey", "LA": "grey", "1": "grey", "P": "palette", "PA": "palette"}


def oddities(path: Path) -> list[tuple[str, str]]:
    """Return (kind, description) of every error or unusual feature of an image; `verify` defines the kinds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with opened(read_file(path)) as image:
                deep = image.mode[0] in "IF" or any(";16" in str(tile[3]) for tile in image.tile)
                image.load()
                found = list(features(image, path.suffix.lower(), deep))
        except Exception as error:  # a damaged file can make Pillow raise anything
            found = [("unreadable", (isinstance(error, OSError) and error.strerror) or reason(error))]
    return sorted({*found, *(("warning", " ".join(str(warning.message).split())) for warning in caught)})


def features(image: Image.Image, suffix: str, deep: bool) -> Iterator[tuple[str, str]]:
    """Yield (kind, description) of the unusual features of a decoded image.

    Args:
        image: The image.
        suffix: Extension of the file, in lower case.
        deep: Whether the image has more than 8 bits per channel.
    """
    named = Image.registered_extensions().get(suffix)
    if image.format != named and (named, image.format) != ("JPEG", "MPO"):  # MPO: several JPEGs in one file
        yield "other_format", f"{image.format}"
    if deep:
        yield "deep", image.mode
    elif image.mode != "RGB":
        yield MODES.get(image.mode, "other_mode"), image.mode
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        if orientation != 1:
            yield "rotated", f"orientation {orientation}"
        elif exif or "exif" in image.info:
            yield "exif", f"{len(exif)} tags"
    except Exception as error:  # the loader needs only the pixels, which were decoded
        yield "exif", f"damaged ({reason(error)})"
