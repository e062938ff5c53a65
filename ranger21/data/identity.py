"""Whether images are those that a run or a pack recorded: by name, class and size in bytes. Imports no torch.

A fingerprint begins with its version: `images-2:` is of the files' names, classes and sizes, `names:` (older) of
names and classes alone, `pixels:` of Fashion-MNIST's contents. Behind a blank may follow how a pack keeps the images.
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
    """What tells images from others.

    Attributes:
        fingerprint: changes when the name, the class or the size of a file does.
        names: changes when a name or a class does; it is what was recorded before there were sizes.
    """

    fingerprint: str
    names: str

    def kept_as(self, how: str) -> Identity:
        """The identity of the same images kept in another way, such as JPEG of some quality."""
        return Identity(f"{self.fingerprint} {how}", f"{self.names} {how}")

    def facts(self) -> dict[str, str]:
        """As manifest.json and pack.json record it."""
        return {"fingerprint": self.fingerprint, "names": self.names}


class Agreement(Enum):
    """How images compare with those recorded."""

    SAME = "same"
    SAME_NAMES = "same names"  # and nothing is known of the sizes on one side
    DIFFERENT = "different"


@dataclass(frozen=True)
class DataComparison:
    """The result of `compare`, and a clause that says it; empty if all is the same."""

    agreement: Agreement
    why: str = ""


def identify(splits: Mapping[str, Index]) -> Identity:
    """The identity of the images of all splits. Where sizes are not known it is of the names alone."""
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
    """Compares what a manifest or a pack says of its images with what is there now.

    Args:
        recorded: `fingerprint`, and `names` unless the record is older than sizes.
        now: the same of the images that are there (`Identity.facts`).
    """
    then, today = (str(facts.get("fingerprint", "")) for facts in (recorded, now))
    if then and then == today:
        return DataComparison(Agreement.SAME)
    (names, kept), (names_today, kept_today) = _names(recorded), _names(now)
    if names is None or names != names_today:
        return DataComparison(Agreement.DIFFERENT, _other_names(then, today))
    if kept != kept_today:
        why = f"the same files, but kept as {kept or 'they are'} then and as {kept_today or 'they are'} now"
        return DataComparison(Agreement.DIFFERENT, why)
    if then.startswith(SIZES) and today.startswith(SIZES):
        return DataComparison(Agreement.DIFFERENT, "the files have the same names, but other sizes in bytes")
    unknown = "recorded then" if then.startswith(NAMES) else "kept in today's pack"
    return DataComparison(
        Agreement.SAME_NAMES, f"file sizes were not {unknown}, so the images are compared by name only"
    )


def _other_names(then: str, today: str) -> str:
    if not then:
        return "no fingerprint is recorded"
    kinds = [fingerprint.startswith(PIXELS) for fingerprint in (then, today)]
    if any(kinds):
        return "other pixels" if all(kinds) else "another kind of data set"
    return "the names or classes of the files are not the same"


def _names(facts: Mapping[str, Any]) -> tuple[str | None, str]:
    """The fingerprint of the names, None if there is none, and how the images are kept."""
    fingerprint = str(facts.get("fingerprint", ""))
    text = fingerprint if fingerprint.startswith(NAMES) else str(facts.get("names", ""))
    names, _, kept = text.partition(" ")
    return (names if names.startswith(NAMES) else None), kept
