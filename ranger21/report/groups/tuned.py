"""Notes on tuning: the values chosen for tuned groups, or a warning that nothing was tuned."""

from __future__ import annotations

from collections.abc import Sequence

from ranger21.report.groups.grouping import BROUGHT, OPTIMIZER, UNSET, Group, beneath, canonical, how_tuned, show
from ranger21.system.wording import first_few, one_line


def tuning_notes(groups: Sequence[Group]) -> list[str]:
    """Return the sentences below a table: the values chosen for each tuned group, or that no group was tuned."""
    tuned = [group for group in groups if any(group.trials)]
    if not tuned and len(groups) > 1:
        return ["No run records that it was tuned: other learning rates may change this order."]
    chosen = [_chosen(group, [other for other in groups if not any(other.trials)]) for group in tuned]
    return [*chosen, *_unequal(groups)]


def _unequal(groups: Sequence[Group]) -> list[str]:
    """Return a sentence if the optimizers were not all tuned with the same number of trials."""
    trials: dict[str, set[int]] = {}
    for group in groups:
        trials.setdefault(show(group.settings.get(OPTIMIZER)), set()).update(group.trials)
    each = {name: " and ".join(map(how_tuned, sorted(counts))) for name, counts in sorted(trials.items())}
    if len(set(each.values())) < 2:
        return []
    told = first_few([f"{name}: {how}" for name, how in each.items()], 6, "; ")
    return [f"The optimizers were not all tuned with the same number of trials ({told}): more trials are an advantage."]


def _chosen(group: Group, untuned: Sequence[Group]) -> str:
    """Return how a tuned group differs from the most similar untuned group with the same optimizer."""
    peers = [other for other in untuned if other.settings.get(OPTIMIZER) == group.settings.get(OPTIMIZER)]
    changes = min((_changes(group, other) for other in peers), key=len, default=_own(group))
    return one_line(f"{group.label}: {', '.join(changes) or 'the values of the untuned group'}.", most=1000)


def _changes(group: Group, other: Group) -> list[str]:
    keys = [key for key in sorted(group.settings) if key not in other.settings or _differ(group, other, key)]
    then = {key: show(other.settings.get(key, UNSET)) for key in keys}
    return [f"{key}={show(group.settings[key])} (untuned: {then[key]})" for key in keys]


def _differ(group: Group, other: Group, key: str) -> bool:
    return canonical(group.settings[key]) != canonical(other.settings[key])


def _own(group: Group) -> list[str]:
    """Return all settings of the optimizer and its schedule, for when there is no untuned group to compare with."""
    prefixes = ("optimizer", *BROUGHT)
    return [f"{key}={show(value)}" for key, value in sorted(group.settings.items()) if beneath(key, prefixes)]
