"""Group runs that differ in their seed alone, and name each group by what sets it apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ranger21.config import SEEDS, neutral_keys
from ranger21.report.runs.run import Run
from ranger21.system.checks import COUNT
from ranger21.system.wording import one_line

# Dotted prefixes of settings that do not tell groups apart: what identifies a run, and what does not change its result.
IGNORED: tuple[str, ...] = (*SEEDS, *sorted(neutral_keys()))

OPTIMIZER = "optimizer.name"
BROUGHT = ("schedule", "lr_scaling", "batch_schedule")  # an optimizer's config brings its schedule


class _Unset:
    """Stands for a setting that a config lacks."""

    def __str__(self) -> str:
        return "unset"


UNSET = _Unset()


@dataclass(frozen=True)
class Group:
    """Runs with equal settings, in order of seeds. `settings` has dotted keys."""

    label: str
    settings: dict[str, Any]
    runs: tuple[Run, ...]

    @property
    def trials(self) -> tuple[int, ...]:
        """By how many trials the values were chosen, as its runs say; 0: nobody tuned them."""
        return tuple(sorted({trials_of(run) for run in self.runs}))

    def having(self, status: str) -> list[Run]:
        """The runs with this status."""
        return [run for run in self.runs if run.status == status]


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Groups in order of their labels; settings beneath the dotted prefixes IGNORED are not compared."""
    members: dict[str, list[Run]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for run in runs:
        kept = {key: value for key, value in run.config.items() if not beneath(key, IGNORED)}
        mark = json.dumps({key: canonical(value) for key, value in kept.items()}, sort_keys=True)
        members.setdefault(mark, []).append(run)
        settings[mark] = kept
    labels = _labels(settings, {mark: {trials_of(run) for run in found} for mark, found in members.items()})
    for mark, label in list(labels.items()):  # such as of the text "null" and of null
        if list(labels.values()).count(label) > 1:
            labels[mark] = f"{label} {hashlib.sha256(mark.encode()).hexdigest()[:6]}"
    groups = [
        Group(labels[mark], settings[mark], tuple(sorted(found, key=_seed_order))) for mark, found in members.items()
    ]
    return sorted(groups, key=lambda group: group.label)


def trials_of(run: Run) -> int:
    """Return by how many trials a run's values were chosen, 0 where its config names none."""
    trials = run.config.get("tuning.trials")
    return trials if isinstance(trials, int) and not isinstance(trials, bool) and 0 < trials < COUNT else 0


def unnamed_differences(groups: Sequence[Group]) -> list[str]:
    """Settings shared by several optimizers (schedules, …) whose values differ with it, such as each one's `lr`.

    They are in no label, since the name already tells those groups apart. One phrase a setting.
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
    """The label of each group's settings.

    Where some groups were tuned, each is told from those that were tuned likewise, and says so: what its trials chose
    is a matter of the notes (`ranger21.report.groups.tuned`).
    """
    tuned = {mark: " and ".join(map(how_tuned, sorted(counts))) for mark, counts in trials.items()}
    if set(tuned.values()) == {how_tuned(0)}:
        return {mark: _label(kept, list(settings.values())) for mark, kept in settings.items()}
    alike = {mark: [settings[other] for other in settings if tuned[other] == tuned[mark]] for mark in settings}
    return {mark: f"{_named(kept, alike[mark])} ({tuned[mark]})" for mark, kept in settings.items()}


def _named(mine: dict[str, Any], everyone: list[dict[str, Any]]) -> str:
    """The same label with the optimizer's name in it, even if all have this optimizer."""
    name, label = show(mine.get(OPTIMIZER, "run")), _label(mine, everyone)
    return label if label.split(" ")[0] == name else f"{name} {label}"


def how_tuned(trials: int) -> str:
    """`tuned, 16 trials`, or `untuned`."""
    return f"tuned, {trials} trial{'s' if trials > 1 else ''}" if trials else "untuned"


def _label(mine: dict[str, Any], everyone: list[dict[str, Any]]) -> str:
    """The optimizer's name and the settings that differ from other groups; the name alone for an only group."""
    keys = {key for settings in everyone for key in settings}
    named = sorted(
        (key for key in keys if _differs(key, mine, everyone)),
        key=lambda key: (key != OPTIMIZER, not key.endswith(".name"), key),
    )
    words = [_word(key, mine.get(key, UNSET)) for key in named]
    return one_line(" ".join(words)) or show(mine.get(OPTIMIZER, "run"))


def _differs(key: str, mine: dict[str, Any], everyone: list[dict[str, Any]]) -> bool:
    """Whether a setting sets this group apart from those that it can be compared with.

    What belongs to an optimizer (its settings, and the schedule that it brings with it) is compared among groups with
    that optimizer, and so is what some groups lack.
    """
    peers = _sharing(OPTIMIZER, mine, everyone) if beneath(key, BROUGHT) else everyone
    if key != _owner(key):
        peers = _sharing(_owner(key), mine, peers)
    if any(key not in settings for settings in everyone):
        peers = _sharing(OPTIMIZER, mine, peers)
    return len({json.dumps(canonical(settings.get(key, UNSET))) for settings in peers}) > 1


def _sharing(key: str, mine: dict[str, Any], everyone: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with my value of a setting."""
    return [settings for settings in everyone if settings.get(key) == mine.get(key)]


def _owner(key: str) -> str:
    """The setting that names what `key` belongs to: `optimizer.name` for `optimizer.lr`."""
    return f"{key.split('.')[0]}.name"


def _word(key: str, value: Any) -> str:
    """One setting in a label: as on the command line, the optimizer's and its settings without prefix."""
    return (
        show(value)
        if key == OPTIMIZER
        else f"{one_line(key.removeprefix('optimizer.').removesuffix('.name'))}={show(value)}"
    )


def show(value: Any) -> str:
    """A setting's value as one writes it in a config, in one line of UTF-8 whatever it holds; a long one is cut."""
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
    """A JSON value in which equal settings are equal, and no others: 1 and 1.0, but not 1 and true."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return {"unset": True} if value is UNSET else value if isinstance(value, int | float | None) else str(value)


def beneath(key: str, prefixes: Sequence[str]) -> bool:
    """Whether a dotted key is one of the prefixes or lies beneath one."""
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _seed_order(run: Run) -> tuple[bool, list[int], str]:
    """Sort key of runs: the seeds, none before all others, then the path."""
    return run.seed is not None, [int(part) for part in str(run.seed or 0).split("/")], str(run.path)
