"""Report differences between runs that no setting shows: code, machines, numerical precision, weights, images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ranger21.config import LATER, named_keys
from ranger21.data.identity import NAMES
from ranger21.records.code import Code, recorded_code
from ranger21.report.groups.grouping import Group, show
from ranger21.report.runs.run import RecordedRun
from ranger21.system.wording import counted, first_few

MOST = 6  # the most versions of the code, values or groups that a sentence lists
KNOWN = {"hardware": ("device", "ranks", "precision", "threads"), "packages": ("torch",)}  # in a session's record


def mixtures(groups: Sequence[Group]) -> list[str]:
    """Return a sentence for each such difference; none if all runs agree, or nothing is recorded."""
    runs = [run for group in groups for run in group.runs]
    facts: dict[str, dict[str, list[RecordedRun]]] = {}
    for run in runs:
        for what, value in _facts(run):
            holders = facts.setdefault(what, {}).setdefault(value, [])
            holders += [] if run in holders else [run]
    mixed = [f"{what} {list_holders(groups, found)}" for what, found in facts.items() if len(found) > 1]
    told = [f"Not the same for all of these runs: {'; '.join(mixed)}."] if mixed else []
    return _code(groups, runs) + told + _weights(groups, runs) + _images(groups, runs) + _substitutes(groups, runs)


def _facts(run: RecordedRun) -> Iterator[tuple[str, str]]:
    """Yield facts on a run's machines and the settings that only change rounding, as (name, value)."""
    for session in run.sessions:
        for part, names in KNOWN.items():
            facts = session.get(part)
            known = facts if isinstance(facts, dict) else {}
            yield from ((name, str(known[name])) for name in names if known.get(name) is not None)
    settings = [session.get("settings") for session in run.sessions]
    later = {key: value for part in LATER.values() for key, value in part.items() if key in named_keys()}
    for recorded in [each for each in settings if isinstance(each, dict) and each] or [run.config]:
        values = later | recorded
        yield from ((key, show(values[key])) for key in sorted(named_keys() & values.keys()))


def _code(groups: Sequence[Group], runs: Sequence[RecordedRun]) -> list[str]:
    found: list[tuple[Code, RecordedRun]] = []
    for run in runs:
        codes = (recorded_code(run.manifest, session) for session in run.sessions)
        found += [(code, run) for code in codes if code]
    states: list[tuple[Code, list[RecordedRun]]] = []
    for code, run in sorted(found, key=lambda pair: pair[0].files is None):  # the most detailed records first
        holders = next((held for known, held in states if known.same(code)), None)
        if holders is None:
            states.append((code, [run]))
        elif run not in holders:
            holders.append(run)
    if len(states) < 2:
        return []
    files = {name for code, _ in states[1:] for name in code.changed(states[0][0])}
    named: dict[str, list[RecordedRun]] = {}
    for code, held in states:
        named.setdefault(code.name if code.name not in named else f"{code.name} (other contents)", []).extend(held)
    differ = f"; different: {first_few(sorted(files), MOST)}" if files else ""
    return [f"These runs did not all use the same code: {list_holders(groups, named)}{differ}."]


def _weights(groups: Sequence[Group], runs: Sequence[RecordedRun]) -> list[str]:
    """Report runs whose model.init_from has the same name but held different weights."""
    found: dict[str, dict[str, list[RecordedRun]]] = {}
    for run in runs:
        marks = {str(session["init_from"]) for session in run.sessions if session.get("init_from")}
        for mark in marks:
            found.setdefault(show(run.config.get("model.init_from")), {}).setdefault(mark, []).append(run)
    text = "model.init_from={} did not hold the same weights for all of these runs: {}."
    return [text.format(name, list_holders(groups, held)) for name, held in found.items() if len(held) > 1]


def _images(groups: Sequence[Group], runs: Sequence[RecordedRun]) -> list[str]:
    """Report runs whose images are matched to those of the others by name alone."""
    by_name = [run for run in runs if run.images and run.images.startswith(NAMES)]
    if not by_name or all(run in by_name for run in runs if run.images):
        return []
    names = name_runs(groups, by_name)
    return [
        f"The images of {names} are assumed to be those of the other runs because their names are the same: these runs "
        "did not record the sizes of the images."
    ]


def _substitutes(groups: Sequence[Group], runs: Sequence[RecordedRun]) -> list[str]:
    """Report runs in which other images replaced unreadable ones, so that they were not trained on the same images."""
    lists = [(run, run.data.get("unreadable")) for run in runs]
    counts = [
        f"{len(names)} in {name_runs(groups, [run])}" for run, names in lists if isinstance(names, list) and names
    ]
    return [f"Unreadable images that were replaced by others: {', '.join(counts)}."] if counts else []


def list_holders(groups: Sequence[Group], found: Mapping[str, list[RecordedRun]]) -> str:
    """Return the values, each with the runs that have it."""
    parts = [f"{value} ({name_runs(groups, held)})" for value, held in sorted(found.items())]
    return first_few(parts, MOST)


def name_runs(groups: Sequence[Group], runs: Sequence[RecordedRun]) -> str:
    """Name runs by group and seed; by group alone if all of its runs are meant."""
    held = {group.label: [run for run in group.runs if run in runs] for group in groups}
    seeds = {label: name_seeds([run.seed for run in some]) for label, some in held.items()}
    if len(groups) > 2 and len(set(seeds.values())) == 1:
        return f"{seeds[groups[0].label]} of every group"
    whole = {group.label for group in groups if len(held[group.label]) == len(group.runs) > 1}
    parts = [label if label in whole else f"{label} {seeds[label]}" for label, some in held.items() if some]
    return "; ".join(parts[:MOST]) + (f" and {counted(len(parts) - MOST, 'more group')}" if len(parts) > MOST else "")


def name_seeds(seeds: Sequence[object]) -> str:
    """Return `seed 0`, or `seeds 0, 1`."""
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
