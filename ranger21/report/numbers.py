"""The numbers that texts quote from committed records, computed again from those records.

`docs/numbers.yaml` holds, for each text, the phrases in it that come from records, with a place for each number:
`{small | AdamW | top1}` is the top-1 of a group, `{small | AdamW - Ranger21 | gap}` a difference of two.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ranger21.errors import UserError
from ranger21.reading import Unreadable, read_yaml
from ranger21.report import ablation
from ranger21.report.ablation import contributions
from ranger21.report.comparisons import Comparison
from ranger21.report.runs import DIVERGED, Run
from ranger21.report.statistics import Estimate
from ranger21.report.summary import Row, top1_pairs
from ranger21.report.verdicts import Difference
from ranger21.report.write import examine, write_tables

PLACE = re.compile(r"\{([^{}]+)\}")
NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d+)?(?![\w])")


@dataclass(frozen=True)
class Phrase:
    """A phrase of a text, as it should be (`said`), and whether the text has it."""

    text: str
    said: str
    found: bool
    numbers: int


class Records:
    """The runs in one folder of records, by the names that docs/numbers.yaml gives them.

    Args:
        folder: which `compare.py` would read.
        names: of comparisons and of groups; what is not named goes by its own title or label.
    """

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self.folder, self.names = folder, names

    @cached_property
    def comparisons(self) -> dict[str, Comparison]:
        """The comparisons by their titles."""
        return {comparison.title: comparison for comparison in examine([str(self.folder)]).comparisons}

    def number(self, place: str) -> str:
        """Return the number that belongs in a place. Raises a UserError if the records have no such number."""
        parts = [part.strip() for part in place.split("|")]
        try:
            if len(parts) == 1:
                return OF_ALL[parts[0]]([run for one in self.comparisons.values() for run in one.runs])
            comparison = self.comparisons[self.names.get(parts[0], parts[0])]
            if len(parts) == 2:
                return OF_ALL[parts[1]](comparison.runs)
            who, what = parts[1:]
            if ": " in who:
                return _of_ingredient(comparison, who, what)
            if " - " in who:
                a, b = (self.names.get(name, name) for name in who.split(" - "))
                return OF_PAIR[what](_difference(comparison, a, b))
            label = self.names.get(who, who)
            return OF_GROUP[what](next(row for row in comparison.rows if row.group.label == label))
        except (KeyError, StopIteration, AttributeError) as error:
            raise UserError(
                f"{{{place}}} is in no record of {self.folder} ({type(error).__name__}: {error}): compare.py shows the "
                "titles and labels that there are."
            ) from error


def check(statements: Path, root: Path) -> list[Phrase]:
    """Return every phrase of the statements' file, each compared with the text below `root` that should have it.

    Raises a UserError if the file, a text or a record cannot be read, or if a place names what no record has.
    """
    try:
        tree = read_yaml(statements)
    except Unreadable as error:
        raise UserError(f"{statements} cannot be read ({error.why}).") from error
    if unknown := sorted(set(tree) - {"records", "names", "texts"}):
        raise UserError(f"{statements} has {unknown[0]}, which is not one of records, names and texts.")
    if missing := sorted({"records", "texts"} - set(tree)):
        raise UserError(f"{statements} has no {missing[0]}.")
    names: dict[str, str] = tree.get("names", {})
    records = {name: Records(root / folder, names) for name, folder in tree["records"].items()}
    phrases = []
    for text, of_records in tree["texts"].items():
        try:
            content = _plain((root / text).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{statements} names {text}, which cannot be read ({error.strerror}).") from error
        for name, said in of_records.items():
            phrases += [_checked(text, phrase, records[name], content) for phrase in said]
    return phrases


def _checked(text: str, phrase: str, records: Records, content: str) -> Phrase:
    said = _plain(PLACE.sub(lambda place: records.number(place[1]), phrase))
    return Phrase(text, said, said in content, len(PLACE.findall(phrase)))


def stale_tables(statements: Path, root: Path) -> list[str]:
    """Return the tables beside committed records that are not what compare.py makes of these records now."""
    stale = []
    for folder in dict.fromkeys((root / place).parent for place in read_yaml(statements)["records"].values()):
        if (folder / "table.md").exists():
            stale += [str((folder / name).relative_to(root)) for name in _stale_in(folder)]
    return stale


def _stale_in(folder: Path) -> list[str]:
    report = examine([str(folder)])
    with tempfile.TemporaryDirectory() as scratch:
        made = {name: (Path(scratch) / name).read_bytes() for name in write_tables(report, Path(scratch))}
    if (folder / "ablation.md").exists():
        made["ablation.md"] = ablation.text_of(report.comparisons).encode()
    return [name for name, made_now in made.items() if not _same(folder / name, made_now)]


def _same(committed: Path, made_now: bytes) -> bool:
    return committed.exists() and committed.read_bytes() == made_now


def others(text: str, phrases: Sequence[Phrase]) -> list[str]:
    """Return the numbers of a text that no phrase has: settings, versions, the paper's, times that no record holds."""
    for phrase in phrases:
        text = _plain(text).replace(phrase.said, " ")
    return NUMBER.findall(text)


def _plain(text: str) -> str:
    """A text in one line, so that where a phrase is broken into lines does not matter."""
    return " ".join(text.split())


def _difference(comparison: Comparison, a: str, b: str) -> Difference:
    """a - b by final top-1, in points, after the correction over all pairs of the comparison."""
    ordered = sorted(comparison.rows, key=lambda row: row.group.label not in (a, b))
    rows = sorted(ordered, key=lambda row: row.group.label != a)  # a before b, so that the difference is a - b
    return next(pair.difference for pair in top1_pairs(rows) if (pair.a, pair.b) == (a, b))


def _of_ingredient(comparison: Comparison, who: str, what: str) -> str:
    ingredient, _, company = who.partition(": ")
    found = next(c for c in contributions(comparison) if (c.ingredient, c.company) == (ingredient, company))
    return OF_PAIR[what](found.difference)


def _around(estimate: Estimate | None, digits: int = 2) -> str:
    if estimate is None:
        return "–"
    return f"{estimate.mean:.{digits}f} ± {estimate.sd or 0:.{digits}f}"


def _p(difference: Difference) -> str:
    p = difference.p_adjusted or 0.0
    return f"{p:.{2 if p >= 0.1 else 3 if p >= 0.01 else 4}f}"


def _range(low: float | None, high: float | None, turned: bool = False) -> str:
    low, high = low or 0.0, high or 0.0
    low, high = (-high, -low) if turned else (low, high)
    return f"{low:.2f} to {high:.2f}".replace("-", "−")


def _last(key: str) -> Callable[[Row], str]:
    def shown(row: Row) -> str:
        return f"{max(value for run in row.group.runs for value in run.series(key)[1]):,.1f}"

    return shown


OF_GROUP: dict[str, Callable[[Row], str]] = {
    "top1": lambda row: _around(row.final_top1),
    "top1 mean": lambda row: f"{row.final_top1.mean:.2f}" if row.final_top1 else "–",
    "top1 once": lambda row: f"{row.final_top1.mean:.1f}" if row.final_top1 else "–",
    "runs": lambda row: str(len(row.group.runs)),
    "diverged": lambda row: str(len(row.group.having(DIVERGED))),
    "minutes": lambda row: f"{row.time.mean / 60:.1f}" if row.time else "–",
    "highest loss": _last("train/loss"),
}
OF_PAIR: dict[str, Callable[[Difference], str]] = {
    "gap": lambda found: f"{abs(found.mean):.2f}",
    "signed": lambda found: f"{found.mean:+.2f}".replace("-", "−"),
    "interval": lambda found: _range(found.low, found.high, turned=found.mean < 0),
    "signed interval": lambda found: _range(found.low, found.high),
    "p": _p,
    "verdict": lambda found: found.verdict,
}
OF_ALL: dict[str, Callable[[Sequence[Run]], str]] = {
    "runs": lambda runs: str(len(runs)),
    "diverged": lambda runs: str(sum(run.status == DIVERGED for run in runs)),
    "hours": lambda runs: f"{sum(_seconds(run) for run in runs) / 3600:.1f}",
}


def _seconds(run: Run) -> float:
    value: Any = run.result.get("time")
    return float(value) if isinstance(value, int | float) else 0.0
