"""Match optimizers across workloads by name and number of tuning trials, never by the values that tuning chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.grouping import BROUGHT, OPTIMIZER, UNSET, Group, beneath, how_tuned, show, trials_of
from ranger21.system.wording import first_few

SCHEDULE = "schedule.name"
NO_PART = "fewer than two of its optimizers also have exactly one group in another comparison"


class Contestant(NamedTuple):
    """An optimizer, its number of tuning trials, and its schedule if untuned groups of it differ in that."""

    optimizer: str
    trials: int
    schedule: str


@dataclass(frozen=True)
class Workload:
    """A comparison, and its groups by the contestants' names."""

    comparison: GroupComparison
    groups: dict[str, Group]

    @property
    def title(self) -> str:
        """The title of the comparison."""
        return self.comparison.title


@dataclass(frozen=True)
class Meeting:
    """The workloads that share at least two optimizers.

    Attributes:
        remarks: sentences on comparisons, groups and optimizers that are left out.
    """

    workloads: list[Workload]
    remarks: list[str]

    @property
    def contestants(self) -> list[str]:
        """The names of all contestants, sorted."""
        return sorted({name for workload in self.workloads for name in workload.groups})

    @property
    def everywhere(self) -> list[str]:
        """The names of the contestants that are on all workloads."""
        return [name for name in self.contestants if all(name in workload.groups for workload in self.workloads)]


def meet(comparisons: Sequence[GroupComparison]) -> Meeting:
    """Match the optimizers of several comparisons.

    Untuned groups of one optimizer on one workload are distinguished by their schedules. Groups that remain ambiguous
    are left out, with a remark.
    """
    found = [_entries(comparison) for comparison in comparisons]
    crowded = {c.optimizer for entries in found for c, _ in entries if not c.trials and _untuned(entries, c) > 1}
    fields: list[dict[Contestant, Group]] = []
    collisions: list[list[str]] = []
    for comparison, entries in zip(comparisons, found, strict=True):
        alike: dict[Contestant, list[Group]] = {}
        for contestant, group in entries:
            split = contestant.optimizer in crowded and not contestant.trials
            alike.setdefault(contestant if split else contestant._replace(schedule=""), []).append(group)
        fields.append({contestant: groups[0] for contestant, groups in alike.items() if len(groups) == 1})
        collisions.append([_collision(comparison, c, groups) for c, groups in alike.items() if len(groups) > 1])
    shared = _shared([set(field) for field in fields])
    names = _names({contestant for field in shared for contestant in field})
    workloads, remarks = [], []
    for comparison, field, kept, collided in zip(comparisons, fields, shared, collisions, strict=True):
        if kept:
            workloads.append(Workload(comparison, {names[c]: field[c] for c in sorted(kept)}))
            remarks += collided
        else:
            remarks.append(f"{comparison.title} is left out: {NO_PART}.")
    return Meeting(workloads, [*remarks, *_absences(workloads)])


def _entries(comparison: GroupComparison) -> list[tuple[Contestant, Group]]:
    """Return each group with its contestant; split groups in which only some runs were tuned."""
    found = []
    for group in comparison.groups:
        optimizer, schedule = (show(group.settings.get(key, "")) for key in (OPTIMIZER, SCHEDULE))
        for trials in sorted({trials_of(run) for run in group.runs}):
            runs = tuple(run for run in group.runs if trials_of(run) == trials)
            found.append((Contestant(optimizer, trials, schedule), replace(group, runs=runs)))
    return found


def _untuned(entries: Sequence[tuple[Contestant, Group]], like: Contestant) -> int:
    return sum(c.optimizer == like.optimizer and not c.trials for c, _ in entries)


def _shared(fields: Sequence[set[Contestant]]) -> list[set[Contestant]]:
    """Keep, for each comparison, the contestants that are on several workloads; empty if fewer than two are left."""
    kept = [set(field) for field in fields]
    while True:
        often = {c for field in kept for c in field if sum(c in other for other in kept) > 1}
        fewer = [field & often if len(field & often) > 1 else set() for field in kept]
        if fewer == kept:
            return kept
        kept = fewer


def _names(contestants: set[Contestant]) -> dict[Contestant, str]:
    """Return a name for each contestant that distinguishes it from the others."""
    tuned = any(contestant.trials for contestant in contestants)
    names = {}
    for contestant in contestants:
        schedules = {c.schedule for c in contestants if c[:2] == contestant[:2]}
        schedule = f" schedule={contestant.schedule}" if len(schedules) > 1 else ""
        names[contestant] = f"{contestant.optimizer}{schedule}{f' ({how_tuned(contestant.trials)})' if tuned else ''}"
    return names


def _collision(comparison: GroupComparison, contestant: Contestant, groups: Sequence[Group]) -> str:
    told, name = first_few([group.label for group in groups], 2, "; "), contestant.optimizer
    which = f"{name} ({how_tuned(contestant.trials)})"
    return f"{comparison.title}: {len(groups)} groups are {which}, so none of them is used: {told}."


def _absences(workloads: Sequence[Workload]) -> list[str]:
    """Return sentences on contestants that are missing on some workload, or have different settings on some."""
    told = []
    for name in sorted({name for workload in workloads for name in workload.groups}):
        if missing := [workload.title for workload in workloads if name not in workload.groups]:
            told.append(f"{name} has no verdict, as it was not run on {first_few(missing)}.")
        groups = [workload.groups[name] for workload in workloads if name in workload.groups]
        if changes := [] if any(trials_of(run) for run in groups[0].runs) else _changes(groups):
            told.append(f"{name} has different settings on different workloads: {first_few(changes, 4)}.")
    return told


def _changes(groups: Sequence[Group]) -> list[str]:
    """Return the settings of an optimizer and its schedule that differ between workloads, with their values."""
    keys = sorted({key for group in groups for key in group.settings if beneath(key, ("optimizer", *BROUGHT))})
    values = {key: list(dict.fromkeys(show(group.settings.get(key, UNSET)) for group in groups)) for key in keys}
    return [f"{key} ({' / '.join(each)})" for key, each in values.items() if len(each) > 1]
