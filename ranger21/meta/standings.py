"""Compare the searches' winners and the tuned optimizers on fresh seeds. The unit is a search, not a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ranger21.meta.record import Composed
from ranger21.report.groups.comparisons import compare_like_with_like, separation
from ranger21.report.groups.failures import top1_of_failed
from ranger21.report.groups.resolution import quantum
from ranger21.report.groups.summary import final_top1, seeds
from ranger21.report.runs.run import RecordedRun
from ranger21.report.statistics.equivalence import margin_of
from ranger21.report.statistics.pairs import Estimate, Pair, estimate, some_pairs
from ranger21.report.statistics.ranks import Outcomes
from ranger21.system.errors import UserError

Key = tuple[str, object]  # "search" or "run", and its seed


@dataclass(frozen=True)
class Entrant:
    """The winner of a search, or a tuned optimizer.

    Attributes:
        name: such as "thompson-0"; for a tuned optimizer the same as `method`.
        method: the name of the search, or of the optimizer.
        record: the hash by which its runs refer to it; None for a search without a winner.
    """

    name: str
    method: str
    record: str | None


@dataclass(frozen=True)
class Standings:
    """The results on one task.

    Attributes:
        experiment: the task.
        winners: final top-1 in per cent over seeds of the winner of each search, by its name.
        methods: mean and spread of each method, in per cent: over searches, or over runs for a tuned optimizer.
        pairs: each search against the tuned optimizers and against random search, with Holm's correction.
        notes: sentences about entrants that failed, or that lack runs.
    """

    experiment: str
    winners: Mapping[str, Estimate]
    methods: Mapping[str, Estimate]
    pairs: Sequence[Pair]
    notes: Sequence[str]

    @property
    def sentences(self) -> list[str]:
        """The verdict on each pair, and the notes."""
        return [*(pair.difference.sentence(pair.a, pair.b, unit="points") for pair in self.pairs), *self.notes]


def standings(composed: Composed, runs: Iterable[RecordedRun]) -> list[Standings]:
    """Return the results on each task that has final runs, the task of the search first.

    Runs belong to an entrant by the hash in their `tuning.record`. Two searches with the same winner share its runs.
    A search without a winner, as all of its full-length trials diverged, counts as chance.

    Raises:
        UserError: the runs of a task differ in model, data or training settings.
    """
    known = [Entrant(one.name, one.search, one.hash if one.winner else None) for one in composed.searches]
    known += [Entrant(rival.optimizer, rival.optimizer, rival.record) for rival in composed.rivals]
    records = {one.record for one in known if one.record}
    tasks: dict[str, dict[str, list[RecordedRun]]] = {}
    for run in runs:
        experiment, record = str(run.config.get("experiment")), run.config.get("tuning.record")
        if record in records and run.config.get("trainer.final_validation") is not False:
            tasks.setdefault(experiment, {}).setdefault(str(record), []).append(run)
    ordered = sorted(tasks, key=lambda name: (name != composed.experiment, name))
    return [_standings(name, tasks[name], known) for name in ordered]


def _standings(experiment: str, by_record: Mapping[str, list[RecordedRun]], known: Sequence[Entrant]) -> Standings:
    runs = [run for found in by_record.values() for run in found]
    if why := separation(compare_like_with_like(runs)):
        raise UserError(
            f"The winners' runs in experiment={experiment} come from different commands, and a winner may have runs in "
            f"both ({why.partition(': ')[2].partition('. ')[0]}). Give compare.py only those of one command."
        )
    results = {
        one.name: seeds(by_record.get(one.record, []), final_top1)
        if one.record
        else Outcomes({-1: top1_of_failed(runs[0])}, {-1})
        for one in known
    }
    methods = _methods(known, results)
    rivals = [one.name for one in known if one.name == one.method and one.name in methods]
    searches = [method for method in methods if method not in rivals]
    others = [*(["random"] if "random" in methods else []), *rivals]
    pairs = [(a, b) for a in searches for b in others if a != b]
    told = some_pairs(methods, pairs, quantum=quantum(runs), margin=margin_of(runs))
    means = {name: found for name, values in methods.items() if (found := estimate(values.values()))}
    winners = {name: found for name, values in results.items() if (found := estimate(values.values()))}
    winners = {name: found for name, found in winners.items() if name not in rivals}
    return Standings(experiment, winners, means, told, _notes(known, results))


def _methods(known: Sequence[Entrant], results: Mapping[str, Outcomes]) -> dict[str, Outcomes]:
    """Return the values of each method: the mean of each search's winner, or each run of a tuned optimizer.

    A search failed if a run of its winner failed, because its mean is then far from that of the others.
    """
    values: dict[str, dict[Key, float]] = {}
    failed: dict[str, set[Key]] = {}
    for one in known:
        found = results[one.name]
        mean = estimate(found.values())
        if mean is None:
            continue
        mine, lost = values.setdefault(one.method, {}), failed.setdefault(one.method, set())
        if one.name == one.method:
            mine |= {("run", seed): value for seed, value in found.items()}
            lost |= {("run", seed) for seed in found.failed}
        else:
            key = ("search", one.name.rpartition("-")[2])
            mine[key] = mean.mean
            lost |= {key} if found.failed else set()
    return {method: Outcomes(mine, failed[method]) for method, mine in values.items()}


def _notes(known: Sequence[Entrant], results: Mapping[str, Outcomes]) -> list[str]:
    """Return sentences about entrants that failed, or that lack runs."""
    notes, most = [], max(len(results[one.name]) for one in known)
    for one in known:
        count, failed = len(results[one.name]), len(results[one.name].failed)
        if not one.record:
            notes.append(f"{one.name} has no winner, as every trial of full length diverged: it counts as chance.")
        elif not count:
            notes.append(f"{one.name} has no run here that has ended: it is left out.")
        elif count < most:
            notes.append(f"{one.name} has {count} of {most} seeds here.")
        if one.record and failed:
            notes.append(f"{one.name} diverged in {failed} of {count} seeds, which count as chance.")
    return notes
