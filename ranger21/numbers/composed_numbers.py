"""Numbers from the searches of scripts/compose.py and their final runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ranger21.meta.record import NAME, RUNGS, Composed, read_composed
from ranger21.meta.standings import Standings, standings
from ranger21.numbers.run_numbers import OF_PAIR, RunNumbers, around
from ranger21.report.runs.finding import find_runs
from ranger21.tuning.record import Trial

RATE = "optimizer.lr"


class ComposedNumbers:
    """Numbers of a folder with a composed.json and the records of the final runs.

    Placeholders are `{FIGURE}`, `{SEARCH | FIGURE}`, `{METHOD | FIGURE}` for the arms that a method proposed,
    `{TASK | METHOD | FIGURE}`, where METHOD may be a winner such as thompson-0, `{TASK | METHOD - METHOD | FIGURE}`;
    and those of `RunNumbers`.
    """

    def __init__(self, place: Path, names: Mapping[str, str]) -> None:
        self.place, self.names = place, names

    @cached_property
    def composed(self) -> Composed:
        """The searches."""
        return read_composed(self.place / NAME)

    @cached_property
    def runs(self) -> RunNumbers:
        """The final runs; a winner's group has the name of its search."""
        return RunNumbers(self.place, self.names, self.composed.labels)

    @cached_property
    def standings(self) -> dict[str, Standings]:
        """The results of the final runs, by task."""
        return {one.experiment: one for one in standings(self.composed, find_runs([str(self.place)]).runs)}

    def number(self, place: str) -> str:
        """Return the number for a placeholder. Raises a LookupError if there is none."""
        parts = [part.strip() for part in place.split("|")]
        if len(parts) == 1 and parts[0] in OF_SEARCHES:
            return OF_SEARCHES[parts[0]](self.composed)
        if len(parts) == 2 and parts[0] in {one.search for one in self.composed.searches}:
            return OF_PROPOSALS[parts[1]](self.composed, _proposed(self.composed, parts[0]))
        if len(parts) == 2:
            return self._of_search(*parts)
        if len(parts) == 1 or parts[0] not in self.standings:
            return self.runs.number(place)
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


def _full_length(composed: Composed) -> list[float]:
    """Return the top-1 of all trials of full length, except those that diverged."""
    found = {trial.directory: trial for one in composed.searches for trial in one.trials if trial.rung == RUNGS - 1}
    return [trial.objective for trial in found.values() if trial.objective is not None]


def _proposed(composed: Composed, method: str) -> list[Trial]:
    """Return the first trials of all arms that a method proposed itself, after the first bracket, which is random."""
    of_method = [trial for one in composed.searches if one.search == method for trial in one.trials]
    return [trial for trial in of_method if trial.round > 0 and trial.rung == 0]


def _at_an_end(composed: Composed, trials: Sequence[Trial]) -> int:
    """Return how many arms have the lowest or the highest learning rate of the space."""
    rates = composed.space[RATE]
    return sum(trial.values[RATE] in (rates[0], rates[-1]) for trial in trials)


def _median(composed: Composed, trials: Sequence[Trial]) -> float:
    """Return the median top-1 in per cent. A divergence counts as chance."""
    found = [100 * composed.chance if trial.objective is None else trial.objective for trial in trials]
    return statistics.median(found)


OF_PROPOSALS: dict[str, Callable[[Composed, Sequence[Trial]], str]] = {
    "proposed": lambda composed, trials: str(len(trials)),
    "at an end": lambda composed, trials: str(_at_an_end(composed, trials)),
    "median": lambda composed, trials: f"{_median(composed, trials):.1f}",
}


def _listed(values: Sequence[float]) -> str:
    shown = [f"{value:.2f}" for value in values]
    return f"{', '.join(shown[:-1])} and {shown[-1]} %"


OF_SEARCHES: dict[str, Callable[[Composed], str]] = {
    "trials": lambda composed: str(len({trial.directory for one in composed.searches for trial in one.trials})),
    "diverged": lambda composed: str(
        len({trial.directory for one in composed.searches for trial in one.trials if trial.objective is None})
    ),
    "worst": lambda composed: _listed(sorted(_full_length(composed))[:3]),
    "budget": lambda composed: str(composed.budget),
    "million images": lambda composed: f"{composed.budget * composed.images / 1e6:.2f}",
}
