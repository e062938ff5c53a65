"""The names and classes of the images in Hugging Face's tables. Imports no torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ranger21.data.names import LONGEST, is_hidden, is_image, is_plain
from ranger21.downloads.labels import WNID
from ranger21.downloads.wnids import wnids_of
from ranger21.system.errors import UserError
from ranger21.system.wording import counted, first_few, one_line

LARGEST_SCHEMA = 1 << 24  # bytes of Hugging Face's description of a dataset


@dataclass(frozen=True)
class Naming:
    """How the images of a file get their places CLASS/NAME.

    Attributes:
        file: The file.
        wnids: The classes in the order of the labels; None if the file does not tell them.
        names: The dataset's own names of the classes.
        prefix: What the names of images without a name begin with.
    """

    file: Path
    wnids: tuple[str, ...] | None
    names: tuple[str, ...]
    prefix: str

    def place(self, path: object, label: object, row: int) -> str:
        """Return the place of an image.

        Args:
            path: The image's name in the file, or None.
            label: The image's label, or None.
            row: The row, for images without a name.

        Raises:
            UserError: If the name could lead to another folder, or the class is not known or not certain.
        """
        match = re.fullmatch(rf"(\w+)_({WNID})\.JPEG", str(path), re.ASCII)
        name = f"{match[1]}.JPEG" if match else f"{self.prefix}_{row:07d}.JPEG" if path is None else str(path)
        shown = f"{self.file} has the image {str(path)[:LONGEST]!a}"
        if not is_plain(name) or not is_image(name) or is_hidden(name):
            text = "which is not of the form n01440764_10026_n01440764.JPEG and was not written"
            raise UserError(f"{shown}, {text}. Download the file again.")
        begins = re.match(rf"({WNID})_", name, re.ASCII)
        known = self.wnids or ()
        by_label = known[label] if isinstance(label, int) and 0 <= label < len(known) else ""
        classes = {match[2] if match else "", begins[1] if begins else "", by_label} - {""}
        if len(classes) > 1:
            both = " and ".join(sorted(classes))
            raise UserError(f"{shown} with the label {label!a:.20}, which mean {both}. Download the file again.")
        if not classes:
            text = f"with the label {label!a:.20}, whose class is not certain: {self._why()}"
            raise UserError(f"{shown} {text}. Use another form of the dataset (docs/data.md).")
        return f"{min(classes)}/{name}"

    def _why(self) -> str:
        if self.wnids is not None:
            return f"the file lists {counted(len(self.wnids), 'class name')}"
        if self.names:
            return f"the names of its classes ({one_line(first_few(self.names))}) are neither wnids nor ImageNet's own"
        return "the file does not list its classes"


def naming(file: Path, metadata: Mapping[bytes, bytes] | None, prefix: str) -> Naming:
    """Return how the images of a file get their places, by the metadata of its schema."""
    names = _class_names(metadata or {})
    wnids = _wnids(names) if names else None
    return Naming(file, wnids, names, prefix)


@lru_cache(maxsize=4)
def _wnids(names: tuple[str, ...]) -> tuple[str, ...] | None:
    found = wnids_of(names)
    return None if found is None else tuple(found)


def _class_names(metadata: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """Return the class names that Hugging Face's libraries store in a schema, or nothing."""
    text = metadata.get(b"huggingface", b"{}")
    if len(text) > LARGEST_SCHEMA:
        raise ValueError(f"a description of more than {LARGEST_SCHEMA:,} bytes")
    facts: Any = json.loads(text)
    for key in ("info", "features", "label", "names"):
        facts = facts.get(key) if isinstance(facts, dict) else None
    return tuple(facts) if isinstance(facts, list) and all(isinstance(name, str) for name in facts) else ()
