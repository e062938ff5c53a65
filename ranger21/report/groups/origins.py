"""What was not the same for all runs of a comparison though no setting tells it: their code, machines and rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ranger21.config import LATER, named_keys
from ranger21.data.identity import NAMES
from ranger21.records.code import Code, recorded_code
from ranger21.report.groups.grouping import Group, show
from ranger21.report.runs.run import Run
from ranger21.system.wording import first_few

MOST = 6  # kinds of code, values of a fact, or groups, that a sentence tells
KNOWN = {"hardware": ("device", "ranks", "precision", "threads"), "packages": ("torch",)}  # of a session


def mixtures(groups: Sequence[Group]) -> list[str]:
    """A sentence for each kind of mixture; none where nothing is mixed, or nothing is known."""
    runs = [run for group in groups for run in group.runs]
    facts: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        for what, value in _facts(run):
            holders = facts.setdefault(what, {}).setdefault(value, [])
            holders += [] if run in holders else [run]
    mixed = [f"{what} {each(groups, found)}" for what, found in facts.items() if len(found) > 1]
    told = [f"Not the same for all of these runs: {'; '.join(mixed)}."] if mixed else []
    return _code(groups, runs) + told + _weights(groups, runs) + _images(groups, runs) + _substitutes(groups, runs)


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """What a run's sessions ran on, and the settings that round differently."""
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


def _code(groups: Sequence[Group], runs: Sequence[Run]) -> list[str]:
    found: list[tuple[Code, Run]] = []
    for run in runs:
        codes = (recorded_code(run.manifest, session) for session in run.sessions)
        found += [(code, run) for code in codes if code]
    states: list[tuple[Code, list[Run]]] = []
    for code, run in sorted(found, key=lambda pair: pair[0].files is None):  # what tells most comes first
        holders = next((held for known, held in states if known.same(code)), None)
        if holders is None:
            states.append((code, [run]))
        elif run not in holders:
            holders.append(run)
    if len(states) < 2:
        return []
    files = {name for code, _ in states[1:] for name in code.changed(states[0][0])}
    named: dict[str, list[Run]] = {}
    for code, held in states:
        named.setdefault(code.name if code.name not in named else f"{code.name} (other contents)", []).extend(held)
    differ = f"; different: {first_few(sorted(files), MOST)}" if files else ""
    return [f"These runs are not all of the same code: {each(groups, named)}{differ}."]


def _weights(groups: Sequence[Group], runs: Sequence[Run]) -> list[str]:
    """Where model.init_from is the same name and was not the same weights."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        marks = {str(session["init_from"]) for session in run.sessions if session.get("init_from")}
        for mark in marks:
            found.setdefault(show(run.config.get("model.init_from")), {}).setdefault(mark, []).append(run)
    text = "model.init_from={} was not the same weights for all of these runs: {}."
    return [text.format(name, each(groups, held)) for name, held in found.items() if len(held) > 1]


def _images(groups: Sequence[Group], runs: Sequence[Run]) -> list[str]:
    """Which runs are taken to have the images of the others by the images' names."""
    by_name = [run for run in runs if run.images and run.images.startswith(NAMES)]
    if not by_name or all(run in by_name for run in runs if run.images):
        return []
    names = who(groups, by_name)
    return [
        f"The images of {names} are taken for those of the other runs by their names: no sizes are recorded of them."
    ]


def _substitutes(groups: Sequence[Group], runs: Sequence[Run]) -> list[str]:
    """Where other images stood for some that could not be read, the runs were not trained on the same."""
    lists = [(run, run.data.get("unreadable")) for run in runs]
    counts = [f"{len(names)} in {who(groups, [run])}" for run, names in lists if isinstance(names, list) and names]
    return [f"Images that could not be read and for which others stood: {', '.join(counts)}."] if counts else []


def each(groups: Sequence[Group], found: Mapping[str, list[Run]]) -> str:
    """Values, each with the runs that have it."""
    parts = [f"{value} ({who(groups, held)})" for value, held in sorted(found.items())]
    return first_few(parts, MOST)


def who(groups: Sequence[Group], runs: Sequence[Run]) -> str:
    """Runs by group and seed; a group alone where all of its runs are meant."""
    held = {group.label: [run for run in group.runs if run in runs] for group in groups}
    seeds = {label: ", ".join(str(run.seed) for run in some) for label, some in held.items()}
    if len(groups) > 2 and len(set(seeds.values())) == 1:
        return f"seed {seeds[groups[0].label]} of every group"
    whole = {group.label for group in groups if len(held[group.label]) == len(group.runs) > 1}
    parts = [label if label in whole else f"{label} seed {seeds[label]}" for label, some in held.items() if some]
    return "; ".join(parts[:MOST]) + (f" and {len(parts) - MOST} more groups" if len(parts) > MOST else "")
