"""Numbered files of the splits of a dataset, such as train-00000-of-00294.parquet. Imports no torch."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ranger21.system.errors import UserError

SPLITS = {"train": "train", "validation": "val", "val": "val"}  # the name in datasets: our name
HASH = re.compile(r"-[0-9a-f]{16}(?=\.)")  # that Hugging Face's tools put into some names


class Numbered(NamedTuple):
    """A file of a split (by our name), with the parts of its name around the number, and the total if that is known."""

    file: Path
    split: str
    before: str
    number: str
    after: str
    total: int | None = None


def matches(files: Iterable[Path], pattern: str, split: str = "") -> list[Numbered]:
    """Return the files whose names match the pattern.

    Args:
        files: The files.
        pattern: A regular expression with the groups `number`, `split` unless that is given, and perhaps `total`.
        split: The split of the files, by any name in SPLITS.
    """
    found = []
    for file in sorted(files):
        if match := re.fullmatch(pattern, file.name, re.ASCII):
            total = match.groupdict().get("total")
            begin, end = match.span("number")
            number = Numbered(
                file, SPLITS[split or match["split"]], file.name[:begin], match["number"], HASH.sub("", file.name[end:])
            )
            found.append(number._replace(total=int(total)) if total else number)
    return found


def in_order(source: Path, found: Iterable[Numbered]) -> dict[str, list[Path]]:
    """Return the files of both splits in order.

    Raises:
        UserError: If a file of either split is missing, or is not one of the others. Where the names do not have the
            total, a missing last file is not noticed.
    """
    of_split: dict[str, dict[int, Numbered]] = {"train": {}, "val": {}}
    for entry in found:
        same = of_split[entry.split].setdefault(int(entry.number), entry)
        if same is not entry:
            raise UserError(f"{source} has {same.file.name} and {entry.file.name}. Keep the files of one dataset.")
    for split, by_number in of_split.items():
        if not by_number:
            theirs = "validation" if split == "val" else split
            raise UserError(f"{source} has no files {theirs}-*. Download them as well.")
        last = by_number[max(by_number)]
        total = max(by_number) + 1 if last.total is None else last.total
        odd = [e for e in by_number.values() if e.total != last.total or int(e.number) >= total]
        if odd or total > 10**6:
            name = (odd or [last])[0].file.name
            raise UserError(f"{source} has the file {name}, which is not one of {total} or exists twice. Remove it.")
        for number in range(total):
            if number not in by_number:
                name = f"{last.before}{number:0{len(last.number)}d}{last.after}"
                raise UserError(f"{source} lacks {name}, but has {last.file.name}. Download it as well.")
    return {split: [by_number[number].file for number in sorted(by_number)] for split, by_number in of_split.items()}
