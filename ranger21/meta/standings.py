"""Compare the searches' winners and the tuned optimizers on fresh seeds. The unit is a search, not a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ranger21.meta.record import Composed
from ranger21.report.groups.resolution import quantum
from ranger21.report.groups.summary import final_top1, seeds
from ranger21.report.runs.run import RecordedRun
from ranger21.report.statistics.equivalence import margin_of
from ranger21.report.statistics.pairs import Estimate, Pair, estimate, some_pairs
from ranger21.report.statistics.ranks import Outcomes

Key = tuple[str, object]  # "search" or "run", and its seed


@dataclass(frozen=True)
class Standings:
    """The results on one task.

    Attributes:
        experiment: the task.
        winners: final top-1 in per cent over seeds of the winner of each search, by its name.
        methods: mean and spread of each method, in per cent: over searches, or over runs for a tuned optimizer.
        pairs: each search against the tuned optimizers and against random search, with Holm's correction.
    """

    experiment: str
    winners: Mapping[str, Estimate]
    methods: Mapping[str, Estimate]
    pairs: Sequence[Pair]


def standings(composed: Composed, runs: Iterable[RecordedRun]) -> list[Standings]:
    """Return the results on each task that has final runs, the task of the search first.

    Runs belong to a contestant by the hash in their `tuning.record`. Two searches with the same winner share its runs.
    """
    known = [(one.hash, one.name, one.search) for one in composed.searches if one.winner]
    known += [(rival.record, rival.optimizer, rival.optimizer) for rival in composed.rivals]
    records = {record for record, _, _ in known}
    tasks: dict[str, dict[str, list[RecordedRun]]] = {}
    for run in runs:
        experiment, record = str(run.config.get("experiment")), run.config.get("tuning.record")
        if record in records and run.config.get("trainer.final_validation") is not False:
            tasks.setdefault(experiment, {}).setdefault(str(record), []).append(run)
    ordered = sorted(tasks, key=lambda name: (name != composed.experiment, name))
    return [_standings(name, tasks[name], known) for name in ordered]


def _standings(
    experiment: str, by_record: Mapping[str, list[RecordedRun]], known: Sequence[tuple[str, str, str]]
) -> Standings:
    winners: dict[str, Estimate] = {}
    methods: dict[str, dict[Key, float]] = {}
    for record, name, method in known:
        values = seeds(by_record.get(record, []), final_top1)
        found = estimate(values.values())
        if found is None:
            continue
        if name == method:
            methods[method] = {("run", seed): value for seed, value in values.items()}
        else:
            winners[name] = found
            methods.setdefault(method, {})["search", name.rpartition("-")[2]] = found.mean
    rivals = [name for _, name, method in known if name == method and name in methods]
    searches = [method for method in methods if method not in rivals]
    others = [*(["random"] if "random" in methods else []), *rivals]
    pairs = [(a, b) for a in searches for b in others if a != b and not (a == "random" and b in searches)]
    runs = [run for found in by_record.values() for run in found]
    told = some_pairs(
        {name: Outcomes(values) for name, values in methods.items()},
        pairs,
        quantum=quantum(runs),
        margin=margin_of(runs),
    )
    means = {name: found for name, values in methods.items() if (found := estimate(values.values()))}
    return Standings(experiment, winners, means, told)
