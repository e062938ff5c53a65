"""Numbers from the searches of scripts/compose.py and their final runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from ranger21.meta.record import NAME, Composed, read_composed
from ranger21.meta.standings import Standings, standings
from ranger21.numbers.run_numbers import OF_PAIR, around
from ranger21.report.runs.finding import find_runs


class ComposedNumbers:
    """Numbers of a folder with a composed.json and the records of the final runs.

    Placeholders are `{FIGURE}`, `{SEARCH | FIGURE}`, `{TASK | METHOD | FIGURE}`, where METHOD may be a winner such as
    thompson-0, and `{TASK | METHOD - METHOD | FIGURE}`.
    """

    def __init__(self, place: Path, names: Mapping[str, str]) -> None:
        self.place = place

    @cached_property
    def composed(self) -> Composed:
        """The searches."""
        return read_composed(self.place / NAME)

    @cached_property
    def standings(self) -> dict[str, Standings]:
        """The results of the final runs, by task."""
        return {one.experiment: one for one in standings(self.composed, find_runs([str(self.place)]).runs)}

    def number(self, place: str) -> str:
        """Return the number for a placeholder. Raises a LookupError if there is none."""
        parts = [part.strip() for part in place.split("|")]
        if len(parts) == 1:
            return OF_SEARCHES[parts[0]](self.composed)
        if len(parts) == 2:
            return self._of_search(*parts)
        task, who, what = parts
        found = self.standings[task]
        if " - " in who:
            a, b = who.split(" - ")
            pairs = {(pair.a, pair.b): pair.difference for pair in found.pairs}
            return OF_PAIR[what](pairs[a, b])
        estimate = {**found.methods, **found.winners}[who]
        return {"top1": around(estimate), "n": str(estimate.n)}[what]

    def _of_search(self, name: str, what: str) -> str:
        (one,) = [one for one in self.composed.searches if one.name == name]
        if one.winner is None or one.winner.objective is None:
            raise LookupError(f"{name} has no winner")
        found = {"holdout": f"{one.winner.objective:.2f}", "bracket": str(one.winner.round + 1)}
        return found[what]


OF_SEARCHES: dict[str, Callable[[Composed], str]] = {
    "trials": lambda composed: str(len({trial.directory for one in composed.searches for trial in one.trials})),
    "diverged": lambda composed: str(
        len({trial.directory for one in composed.searches for trial in one.trials if trial.objective is None})
    ),
    "budget": lambda composed: str(composed.budget),
    "million images": lambda composed: f"{composed.budget * composed.images / 1e6:.2f}",
}
