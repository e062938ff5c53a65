"""Which optimizers meet on several workloads: matched by name and by tuning, never by what tuning chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ranger21.report.groups.comparisons import Comparison
from ranger21.report.groups.grouping import BROUGHT, OPTIMIZER, UNSET, Group, beneath, how_tuned, show, trials_of
from ranger21.system.wording import first_few

SCHEDULE = "schedule.name"
NO_PART = "fewer than two of its optimizers are in another comparison, too, with one group each"


class Contestant(NamedTuple):
    """An optimizer, by how many trials it was tuned, and its schedule where untuned groups of it differ in that."""

    optimizer: str
    trials: int
    schedule: str


@dataclass(frozen=True)
class Workload:
    """A comparison, and in it the group of each contestant by the contestant's name."""

    comparison: Comparison
    groups: dict[str, Group]

    @property
    def title(self) -> str:
        """The comparison's."""
        return self.comparison.title


@dataclass(frozen=True)
class Meeting:
    """The workloads on which at least two of the same optimizers met, and the sentences on what has no part in it."""

    workloads: list[Workload]
    remarks: list[str]

    @property
    def contestants(self) -> list[str]:
        """Those that are on any workload, by name."""
        return sorted({name for workload in self.workloads for name in workload.groups})

    @property
    def everywhere(self) -> list[str]:
        """Those that are on all workloads."""
        return [name for name in self.contestants if all(name in workload.groups for workload in self.workloads)]


def meet(comparisons: Sequence[Comparison]) -> Meeting:
    """Match the optimizers of several comparisons.

    Untuned groups of one optimizer on one workload are told apart by their schedules; groups that are not told apart by
    that are left out, with a sentence.
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
            remarks.append(f"{comparison.title} has no part in this: {NO_PART}.")
    return Meeting(workloads, [*remarks, *_absences(workloads)])


def _entries(comparison: Comparison) -> list[tuple[Contestant, Group]]:
    """Each group, in parts where some of its runs were tuned and others have the same values untuned."""
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
    """Of each comparison the contestants that meet another of them on two workloads; empty for one without a part."""
    kept = [set(field) for field in fields]
    while True:
        often = {c for field in kept for c in field if sum(c in other for other in kept) > 1}
        fewer = [field & often if len(field & often) > 1 else set() for field in kept]
        if fewer == kept:
            return kept
        kept = fewer


def _names(contestants: set[Contestant]) -> dict[Contestant, str]:
    """What sets each apart from the others."""
    tuned = any(contestant.trials for contestant in contestants)
    names = {}
    for contestant in contestants:
        schedules = {c.schedule for c in contestants if c[:2] == contestant[:2]}
        schedule = f" schedule={contestant.schedule}" if len(schedules) > 1 else ""
        names[contestant] = f"{contestant.optimizer}{schedule}{f' ({how_tuned(contestant.trials)})' if tuned else ''}"
    return names


def _collision(comparison: Comparison, contestant: Contestant, groups: Sequence[Group]) -> str:
    told, name = first_few([group.label for group in groups], 2, "; "), contestant.optimizer
    return f"{comparison.title}: {len(groups)} groups are {name}, {how_tuned(contestant.trials)}; none counts: {told}."


def _absences(workloads: Sequence[Workload]) -> list[str]:
    """The sentences on contestants that are not on every workload, or not the same on all."""
    told = []
    for name in sorted({name for workload in workloads for name in workload.groups}):
        if missing := [workload.title for workload in workloads if name not in workload.groups]:
            told.append(f"{name} is missing on {first_few(missing)}: there is no verdict on it.")
        groups = [workload.groups[name] for workload in workloads if name in workload.groups]
        if changes := [] if any(trials_of(run) for run in groups[0].runs) else _changes(groups):
            told.append(f"{name} has other values on other workloads: {first_few(changes, 4)}.")
    return told


def _changes(groups: Sequence[Group]) -> list[str]:
    """The settings of an optimizer and its schedule that differ between workloads, with their values."""
    keys = sorted({key for group in groups for key in group.settings if beneath(key, ("optimizer", *BROUGHT))})
    values = {key: list(dict.fromkeys(show(group.settings.get(key, UNSET)) for group in groups)) for key in keys}
    return [f"{key} ({' / '.join(each)})" for key, each in values.items() if len(each) > 1]
