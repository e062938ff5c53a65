"""Report the protocol that was fixed before the runs of a comparison, and every departure from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields

from ranger21.config.protocol import ProtocolConfig, protocol_hash, protocol_mark
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.grouping import Group, beneath, canonical, show
from ranger21.report.groups.origins import list_holders, name_runs
from ranger21.report.groups.papers_runs import composed
from ranger21.report.runs.run import FINISHED, RUNNING, RecordedRun
from ranger21.system.checks import require_types
from ranger21.system.errors import UserError
from ranger21.system.project import CONFIG_DIR
from ranger21.system.reading import read_yaml
from ranger21.system.wording import first_few, one_line

METRIC = "val/acc1"  # the metric that the tables rank by
FIXED = ("data", "trainer")  # the settings of an experiment that a protocol fixes; model, optimizer and seed vary
MOST = 6  # the most names that a sentence lists
NO_PROTOCOL = ProtocolConfig().name

Mark = tuple[str, str]  # name and hash


def protocol(run: RecordedRun) -> ProtocolConfig:
    """Return the protocol in a run's configuration; the empty protocol if it has none, or an invalid one."""
    values = {f.name: run.config[key] for f in fields(ProtocolConfig) if (key := f"protocol.{f.name}") in run.config}
    try:
        require_types(ProtocolConfig, values)
        return ProtocolConfig(**values)
    except (UserError, TypeError, ValueError):  # the file may come from a stranger
        return ProtocolConfig()


def mark(run: RecordedRun) -> Mark | None:
    """Return the name and hash of the protocol that a run's manifest records; None if it records none."""
    told = run.manifest.get("protocol")
    found = told if isinstance(told, dict) else protocol_mark(protocol(run))
    name, digest = (one_line(str(found.get(key))) for key in ("name", "hash"))
    return None if name == NO_PROTOCOL else (name, digest)


def protocol_summary(comparison: GroupComparison) -> str:
    """Return one sentence on the protocol of a comparison and every departure from it."""
    marks = {found for run in comparison.runs if (found := mark(run))}
    if not marks:
        return "no protocol was fixed before these runs."
    if len(marks) > 1:
        return f"the runs have different protocols: {_marked(comparison, comparison.runs)}."
    ((name, digest),) = marks
    one = next(run for run in comparison.runs if mark(run))
    departed = departures(comparison, protocol(one), (name, digest))
    how = "departures: " + "; ".join(departed) if departed else "no departure from it"
    return f"protocol {name} ({digest}); {how}."


def departures(comparison: GroupComparison, fixed: ProtocolConfig, marked: Mark) -> list[str]:
    """Return a clause for each departure of the runs of a comparison from their common protocol."""
    runs, groups = comparison.runs, comparison.groups
    without = [run for run in runs if mark(run) is None]
    altered = [run for run in runs if mark(run) and protocol_hash(protocol(run)) != marked[1]]
    few = [run for run in runs if run.status == FINISHED and len(_validations(run)) < fixed.min_validations]
    open_ended = [run for run in runs if run.status == RUNNING]
    found = [_marked(comparison, runs)] if without else []
    found += [f"config.yaml and manifest.json differ in protocol: {name_runs(groups, altered)}"] if altered else []
    found += _content(fixed, marked)
    found += _seeds(groups, fixed.seeds)
    found += [f"its metric is {fixed.metric}, but these tables use {METRIC}"] if fixed.metric != METRIC else []
    found += [f"fewer than {fixed.min_validations} validations: {name_runs(groups, few)}"] if few else []
    found += [f"not finished: {name_runs(groups, open_ended)}"] if open_ended else []
    return found + _recipe(comparison, fixed.name)


def _marked(comparison: GroupComparison, runs: Iterable[RecordedRun]) -> str:
    """Name the runs of each protocol."""
    held: dict[str, list[RecordedRun]] = {}
    for run in runs:
        found = mark(run)
        held.setdefault(f"{found[0]} ({found[1]})" if found else "no protocol", []).append(run)
    return list_holders(comparison.groups, held)


def _validations(run: RecordedRun) -> Sequence[float]:
    return list(run.series(f"{run.watched}/acc1")[1])


def _content(fixed: ProtocolConfig, marked: Mark) -> list[str]:
    """Report how a protocol differs from the one of the same name in configs/protocol, if there is one."""
    if marked[0] not in {path.stem for path in CONFIG_DIR.glob("protocol/*.yaml")}:
        return []
    ours = ProtocolConfig(**read_yaml(CONFIG_DIR / "protocol" / f"{marked[0]}.yaml"))
    if protocol_hash(ours) == marked[1]:
        return []
    here, there = asdict(ours), asdict(fixed)
    keys = [key for key in here if canonical(here[key]) != canonical(there[key])]
    what = f" ({first_few(keys, MOST)})" if keys else ""
    return [f"it differs from configs/protocol/{marked[0]}.yaml in this version of the code{what}"]


def _seeds(groups: Sequence[Group], fixed: Sequence[int]) -> list[str]:
    """Report the groups whose seeds are not those that the protocol fixes."""
    held: dict[str, list[str]] = {}
    for group in groups if fixed else ():
        ended = [run.seed for run in group.runs if run.status != RUNNING]
        mine = {run.seed for run in group.runs}
        missing = [str(seed) for seed in sorted(fixed) if seed not in ended]
        extra = [show(seed) for seed in sorted(mine - set(fixed), key=str)]
        again = [show(seed) for seed in sorted(mine, key=str) if ended.count(seed) > 1]
        for what, seeds in (("missing", missing), ("not in the protocol", extra), ("run more than once", again)):
            if seeds:
                held.setdefault(f"seeds {what}: {first_few(seeds, MOST)}", []).append(group.label)
    names = {
        what: "every group" if len(labels) == len(groups) > 1 else first_few(labels, MOST)
        for what, labels in held.items()
    }
    return [f"{what} ({names[what]})" for what in held]


def _recipe(comparison: GroupComparison, experiment: str) -> list[str]:
    """Report data and training settings that differ from those of the experiment with the protocol's name."""
    if experiment not in {path.stem for path in CONFIG_DIR.glob("experiment/*.yaml")}:
        return []
    wanted = composed(f"experiment={experiment}", FIXED)
    mine = {key: value for key, value in comparison.recipe.items() if beneath(key, FIXED) and key in wanted}
    other = sorted(key for key, value in mine.items() if canonical(value) != canonical(wanted[key]))
    return [f"settings that differ from experiment={experiment}: {first_few(other, MOST)}"] if other else []
