"""Compare images with those that a run or a pack recorded, by name, class and size in bytes. Imports no torch.

A fingerprint starts with its version: `images-2:` covers file names, classes and sizes, `names:` (older) only names
and classes, and `pixels:` the contents of datasets in memory. After a space, it may state the format of a pack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranger21.data.index import Index

SIZES, NAMES, PIXELS = "images-2:", "names:", "pixels:"


@dataclass(frozen=True)
class Identity:
    """The identity of a set of images.

    Attributes:
        fingerprint: Changes if the name, class or size of a file changes.
        names: Changes if a name or class changes. Older records have only this fingerprint.
    """

    fingerprint: str
    names: str

    def kept_as(self, how: str) -> Identity:
        """Return the identity of the same images stored in another format, such as JPEG of some quality."""
        return Identity(f"{self.fingerprint} {how}", f"{self.names} {how}")

    def facts(self) -> dict[str, str]:
        """Return the entries of manifest.json and pack.json."""
        return {"fingerprint": self.fingerprint, "names": self.names}


class DataMatch(Enum):
    """The agreement of images with recorded ones."""

    SAME = "same"
    SAME_NAMES = "same names"  # sizes are unknown on one side
    DIFFERENT = "different"


@dataclass(frozen=True)
class DataComparison:
    """The result of `compare`, with a clause that explains it (empty for SAME)."""

    match: DataMatch
    why: str = ""


def identify(splits: Mapping[str, Index]) -> Identity:
    """Return the identity of the images of all splits, from names only if any sizes are unknown."""
    names = hashlib.sha256()
    for split, index in splits.items():
        begin = split.encode() + b"/"
        if len(index):
            names.update(begin + index.paths[:-1].tobytes().replace(b"\0", b"\n" + begin) + b"\n")
    by_name = NAMES + names.hexdigest()
    digest = hashlib.sha256(by_name.encode())
    for index in splits.values():
        if index.sizes is None:
            return Identity(by_name, by_name)
        digest.update(index.sizes.astype("<i8", copy=False).tobytes())
    return Identity(SIZES + digest.hexdigest(), by_name)


def compare(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> DataComparison:
    """Compare the images recorded by a manifest or a pack with the present ones.

    Args:
        recorded: The recorded `fingerprint` and, except in older records, `names`.
        now: The same for the present images (`Identity.facts`).
    """
    then, today = (str(facts.get("fingerprint", "")) for facts in (recorded, now))
    if then and then == today:
        return DataComparison(DataMatch.SAME)
    (names, kept), (names_today, kept_today) = _names(recorded), _names(now)
    if names is None or names != names_today:
        return DataComparison(DataMatch.DIFFERENT, _other_names(then, today))
    if kept != kept_today:
        why = f"the same files, but stored as {kept or 'they are'} then and as {kept_today or 'they are'} now"
        return DataComparison(DataMatch.DIFFERENT, why)
    if then.startswith(SIZES) and today.startswith(SIZES):
        return DataComparison(DataMatch.DIFFERENT, "the files have the same names, but other sizes in bytes")
    unknown = "recorded then" if then.startswith(NAMES) else "kept in today's pack"
    return DataComparison(
        DataMatch.SAME_NAMES, f"file sizes were not {unknown}, so the images are compared by name only"
    )


def _other_names(then: str, today: str) -> str:
    if not then:
        return "no fingerprint is recorded"
    kinds = [fingerprint.startswith(PIXELS) for fingerprint in (then, today)]
    if any(kinds):
        return "other pixels" if all(kinds) else "another kind of dataset"
    return "the names or classes of the files are not the same"


def _names(facts: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the fingerprint of the names (None if unknown) and the storage format."""
    fingerprint = str(facts.get("fingerprint", ""))
    text = fingerprint if fingerprint.startswith(NAMES) else str(facts.get("names", ""))
    names, _, kept = text.partition(" ")
    return (names if names.startswith(NAMES) else None), kept
