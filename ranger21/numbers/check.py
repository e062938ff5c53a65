"""Check texts and committed tables against numbers recomputed from the records."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ranger21.meta import page as compose_page
from ranger21.meta.record import NAME as COMPOSED
from ranger21.meta.record import read_composed
from ranger21.numbers.composed_numbers import ComposedNumbers
from ranger21.numbers.other_numbers import FaultNumbers, LandscapeNumbers, SpeedNumbers
from ranger21.numbers.run_numbers import RunNumbers
from ranger21.report import ablation
from ranger21.report.write import examine, write_tables
from ranger21.system.errors import UserError
from ranger21.system.reading import Unreadable, read_yaml

PLACE = re.compile(r"\{([^{}]+)\}")
NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d+)?(?![\w])")


class Records(Protocol):
    """Committed records of one kind, in a file or a folder."""

    place: Path

    def number(self, place: str) -> str:
        """Return the number for a placeholder. Raises a LookupError if the records have no such number."""
        ...


Kind = Callable[[Path, Mapping[str, str]], Records]
KINDS: dict[str, Kind] = {
    "runs": RunNumbers,
    "speeds": SpeedNumbers,
    "faults": FaultNumbers,
    "landscape": LandscapeNumbers,
    "composed": ComposedNumbers,
}


@dataclass(frozen=True)
class Phrase:
    """A phrase with recomputed numbers.

    Attributes:
        text: the path of the text that should contain it.
        said: the phrase as it should read.
        found: whether the text contains it.
        numbers: how many of its numbers come from records.
    """

    text: str
    said: str
    found: bool
    numbers: int


class Statements:
    """The phrases of docs/numbers.yaml, and the records that they quote.

    Args:
        file: a YAML file with the keys `records` (NAME: {KIND: PATH}), `names` (short names of groups and comparisons)
            and `texts` (PATH: {NAME OF RECORDS: [phrases]}).
        root: the folder that paths in the file are relative to.

    Raises:
        UserError: the file cannot be read, or does not have this form.
    """

    def __init__(self, file: Path, root: Path) -> None:
        self.file, self.root = file, root
        try:
            tree = read_yaml(file)
        except Unreadable as error:
            raise UserError(f"{file} cannot be read ({error.why}).") from error
        if unknown := sorted(set(tree) - {"records", "names", "texts"}):
            raise UserError(f"{file} has the key {unknown[0]}: only records, names and texts are allowed.")
        if missing := sorted({"records", "texts"} - set(tree)):
            raise UserError(f"{file} lacks the key {missing[0]}.")
        self.texts: Mapping[str, Mapping[str, Sequence[str]]] = tree["texts"]
        self.records: dict[str, Records] = {}
        for name, where in tree["records"].items():
            ((kind, place),) = where.items()
            if kind not in KINDS:
                raise UserError(f"{file}: records.{name} has the unknown kind {kind}. Known: {', '.join(KINDS)}.")
            self.records[name] = KINDS[kind](root / place, tree.get("names", {}))

    def phrases(self) -> list[Phrase]:
        """Return every phrase with recomputed numbers. Raises a UserError for a placeholder that no record has."""
        return [
            self._phrase(text, phrase, self.records[name], content)
            for text, of_records in self.texts.items()
            for content in [one_line(self.read(text))]
            for name, phrases in of_records.items()
            for phrase in phrases
        ]

    def read(self, text: str) -> str:
        """Read a text. Raises a UserError if that is impossible."""
        try:
            return (self.root / text).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{self.file} names {text}, which cannot be read ({error.strerror}).") from error

    def stale_tables(self) -> list[str]:
        """Return the committed tables that differ from what compare.py now writes for their records."""
        folders: dict[Path, None] = {}
        for one in self.records.values():
            if isinstance(one, RunNumbers | ComposedNumbers):
                folders[one.place.parent if isinstance(one, RunNumbers) else one.place] = None
        with_tables = [folder for folder in folders if (folder / "table.md").exists()]
        return [str((folder / name).relative_to(self.root)) for folder in with_tables for name in _stale_in(folder)]

    def _phrase(self, text: str, phrase: str, records: Records, content: str) -> Phrase:
        def number(place: re.Match[str]) -> str:
            try:
                return records.number(place[1])
            except (LookupError, ValueError) as error:
                raise UserError(
                    f"{self.file}: no record in {records.place} has {place[0]} ({type(error).__name__}: {error})."
                ) from error

        said = one_line(PLACE.sub(number, phrase))
        return Phrase(text, said, said in content, len(PLACE.findall(phrase)))


def others(text: str, phrases: Sequence[Phrase]) -> list[str]:
    """Return the numbers in a text that are in no phrase, such as settings, versions and the paper's figures."""
    for phrase in phrases:
        text = one_line(text).replace(phrase.said, " ")
    return NUMBER.findall(text)


def one_line(text: str) -> str:
    """Return a text on one line, so that line breaks within phrases do not matter."""
    return " ".join(text.split())


def _stale_in(folder: Path) -> list[str]:
    composed = read_composed(folder / COMPOSED) if (folder / COMPOSED).exists() else None
    report = examine([str(folder)], names=composed.labels if composed else None)
    with tempfile.TemporaryDirectory() as scratch:
        made = {name: (Path(scratch) / name).read_bytes() for name in write_tables(report, Path(scratch))}
    if (folder / "ablation.md").exists():
        made["ablation.md"] = ablation.text_of(report.comparisons).encode()
    if composed:
        runs = [run for comparison in report.comparisons for run in comparison.runs]
        made[compose_page.NAME] = compose_page.text_of(composed, runs).encode()
    return [name for name, made_now in made.items() if not _same(folder / name, made_now)]


def _same(committed: Path, made_now: bytes) -> bool:
    return committed.exists() and committed.read_bytes() == made_now
