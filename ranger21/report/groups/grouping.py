"""Group runs that differ only in their seed, and label each group by the settings that distinguish it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ranger21.config import SEEDS, neutral_keys
from ranger21.report.groups.ablation_names import ablation_name
from ranger21.report.runs.run import RecordedRun
from ranger21.system.checks import COUNT
from ranger21.system.wording import one_line

# Dotted prefixes of settings that do not separate groups: the seeds, and settings that cannot change a result.
IGNORED: tuple[str, ...] = (*SEEDS, *sorted(neutral_keys()))

OPTIMIZER = "optimizer.name"
PARENT = "continue_from"  # the directory of the run that a run continued, which differs for each seed
RECORD = "tuning.record"  # the hash of the tuning or search that chose a run's optimizer
BROUGHT = ("schedule", "lr_scaling", "batch_schedule")  # chosen by default with the optimizer


class _Unset:
    """The value of a setting that a configuration lacks."""

    def __str__(self) -> str:
        return "unset"


UNSET = _Unset()


@dataclass(frozen=True)
class Group:
    """Runs with equal settings, sorted by seed.

    Attributes:
        settings: the settings by dotted key, without the seeds and without settings that cannot change a result.
    """

    label: str
    settings: dict[str, Any]
    runs: tuple[RecordedRun, ...]

    @property
    def trials(self) -> tuple[int, ...]:
        """The numbers of tuning trials that the runs record, ascending; 0 stands for untuned."""
        return tuple(sorted({trials_of(run) for run in self.runs}))

    def having(self, status: str) -> list[RecordedRun]:
        """Return the runs with this status."""
        return [run for run in self.runs if run.status == status]


def group_runs(runs: Iterable[RecordedRun], names: Mapping[str, str] | None = None) -> list[Group]:
    """Group runs whose settings are equal, apart from those under IGNORED. Return the groups sorted by label.

    Args:
        names: labels of groups by the `tuning.record` of their runs, in place of those made from settings.
    """
    members: dict[str, list[RecordedRun]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for run in runs:
        kept = {key: value for key, value in run.config.items() if not beneath(key, IGNORED)}
        if isinstance(parent := kept.get(PARENT), str):
            kept[PARENT] = _of_any_seed(parent)
        mark = json.dumps({key: canonical(value) for key, value in kept.items()}, sort_keys=True)
        members.setdefault(mark, []).append(run)
        settings[mark] = kept
    labels = _labels(settings, {mark: {trials_of(run) for run in found} for mark, found in members.items()})
    for mark, found in members.items():
        records = {str(run.config.get(RECORD)) for run in found}
        if len(records) == 1:
            labels[mark] = (names or {}).get(records.pop(), labels[mark])
    for mark, label in list(labels.items()):  # two labels can be equal: the text "null" and null look the same
        if list(labels.values()).count(label) > 1:
            labels[mark] = f"{label} {hashlib.sha256(mark.encode()).hexdigest()[:6]}"
    groups = [
        Group(labels[mark], settings[mark], tuple(sorted(found, key=_seed_order))) for mark, found in members.items()
    ]
    return sorted(groups, key=lambda group: group.label)


def _of_any_seed(directory: str) -> str:
    """Return EXPERIMENT/NAME of a run directory, with `s*` for its seed. The hash in NAME stands for the rest."""
    return re.sub(r"-s\d+(?=-[0-9a-f]{8}$|$)", "-s*", "/".join(PurePath(directory).parts[-2:]))


def trials_of(run: RecordedRun) -> int:
    """Return the number of tuning trials that a run's configuration records; 0 if it records none."""
    trials = run.config.get("tuning.trials")
    return trials if isinstance(trials, int) and not isinstance(trials, bool) and 0 < trials < COUNT else 0


def unnamed_differences(groups: Sequence[Group]) -> list[str]:
    """Return a phrase for each setting that differs between optimizers but is in no label, such as `lr`.

    The labels omit these settings because the optimizer's name already distinguishes the groups.
    """
    phrases = []
    for key in sorted({key for group in groups for key in group.settings}):
        owner = _owner(key)
        values: dict[str, list[str]] = {}
        for group in groups:
            if owner in group.settings and key in group.settings:
                shown = show(group.settings[key])
                seen = values.setdefault(str(group.settings[owner]), [])
                seen.extend([] if shown in seen else [shown])
        if key != owner and len(values) > 1 and len({tuple(sorted(seen)) for seen in values.values()}) > 1:
            each = "; ".join(f"{name} {' / '.join(seen)}" for name, seen in values.items())
            phrases.append(one_line(f"{key} ({each})", most=1000))
    return phrases


def _labels(settings: Mapping[str, dict[str, Any]], trials: Mapping[str, set[int]]) -> dict[str, str]:
    """Return the label of each group.

    If some groups were tuned, each label says how its group was tuned, and lists only what distinguishes it from groups
    tuned the same way. The tuned values themselves are in the notes (`ranger21.report.groups.tuned`).
    """
    tuned = {mark: " and ".join(map(how_tuned, sorted(counts))) for mark, counts in trials.items()}
    if set(tuned.values()) == {how_tuned(0)}:
        return {mark: _label(kept, list(settings.values())) for mark, kept in settings.items()}
    alike = {mark: [settings[other] for other in settings if tuned[other] == tuned[mark]] for mark in settings}
    return {mark: f"{_named(kept, alike[mark])} ({tuned[mark]})" for mark, kept in settings.items()}


def _named(mine: dict[str, Any], everyone: list[dict[str, Any]]) -> str:
    """Return the label with the optimizer's name in front, even if all groups have the same optimizer."""
    name, label = show(mine.get(OPTIMIZER, "run")), _label(mine, everyone)
    return label if label.split(" ")[0] == name else f"{name} {label}"


def how_tuned(trials: int) -> str:
    """Return `tuned, 16 trials`, or `untuned`."""
    return f"tuned, {trials} trial{'s' if trials > 1 else ''}" if trials else "untuned"


def _label(mine: dict[str, Any], everyone: list[dict[str, Any]]) -> str:
    """Return the optimizer's name and the settings that differ from other groups; the name alone for a single group.

    A configuration of the ablation has its name, such as `minus_pnm`, in place of the ingredients' settings.
    """
    keys = {key for settings in everyone for key in settings}
    named = sorted(
        (key for key in keys if _differs(key, mine, everyone)),
        key=lambda key: (key != OPTIMIZER, not key.endswith(".name"), key),
    )
    name, replaced = ablation_name(mine, named)
    words = [_word(key, mine.get(key, UNSET)) for key in named if key not in replaced]
    if name:
        words.insert(int(OPTIMIZER in named), name)
    return one_line(" ".join(words)) or show(mine.get(OPTIMIZER, "run"))


def _differs(key: str, mine: dict[str, Any], everyone: list[dict[str, Any]]) -> bool:
    """Whether a setting distinguishes this group from its peers.

    For settings that belong to an optimizer (its own, and those of its default schedule), and for settings that some
    groups lack, the peers are the groups with the same optimizer; for all others they are all groups.
    """
    peers = _sharing(OPTIMIZER, mine, everyone) if beneath(key, BROUGHT) else everyone
    if key != _owner(key):
        peers = _sharing(_owner(key), mine, peers)
    if any(key not in settings for settings in everyone):
        peers = _sharing(OPTIMIZER, mine, peers)
    return len({json.dumps(canonical(settings.get(key, UNSET))) for settings in peers}) > 1


def _sharing(key: str, mine: dict[str, Any], everyone: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the settings of the groups that have the same value of `key` as `mine`."""
    return [settings for settings in everyone if settings.get(key) == mine.get(key)]


def _owner(key: str) -> str:
    """Return the key of the name that a setting belongs to: `optimizer.name` for `optimizer.lr`."""
    return f"{key.split('.')[0]}.name"


def _word(key: str, value: Any) -> str:
    """Return a setting as it appears in a label: as on the command line, but without the prefix `optimizer.`."""
    return (
        show(value)
        if key == OPTIMIZER
        else f"{one_line(key.removeprefix('optimizer.').removesuffix('.name'))}={show(value)}"
    )


def show(value: Any) -> str:
    """Return a setting's value as written in a config, on one printable line; long values are truncated."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list):
        return one_line(f"[{','.join(show(item) for item in value)}]")
    return one_line(str(value))


def canonical(value: Any) -> Any:
    """Return a JSON value that is equal exactly for equal settings: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return {"unset": True} if value is UNSET else value if isinstance(value, int | float | None) else str(value)


def beneath(key: str, prefixes: Sequence[str]) -> bool:
    """Whether a dotted key is one of the prefixes or lies below one."""
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _seed_order(run: RecordedRun) -> tuple[bool, list[int], str]:
    """Return the sort key of a run: its seed (runs without one first), then its path."""
    return run.seed is not None, [int(part) for part in str(run.seed or 0).split("/")], str(run.path)
