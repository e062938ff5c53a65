"""What was fixed before the runs of a comparison, their protocol, and where they departed from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields

from ranger21.config.protocol import ProtocolConfig, protocol_hash, protocol_mark
from ranger21.report.groups.comparisons import Comparison
from ranger21.report.groups.grouping import Group, beneath, canonical, show
from ranger21.report.groups.origins import each, who
from ranger21.report.groups.papers_runs import composed
from ranger21.report.runs.run import FINISHED, RUNNING, Run
from ranger21.system.checks import require_types
from ranger21.system.errors import UserError
from ranger21.system.project import CONFIG_DIR
from ranger21.system.reading import read_yaml
from ranger21.system.wording import first_few, one_line

METRIC = "val/acc1"  # by which the tables rank
FIXED = ("data", "trainer")  # of an experiment; its model, optimizer and seed are what is compared
MOST = 6  # names in a sentence
NO_PROTOCOL = ProtocolConfig().name

Mark = tuple[str, str]  # name and hash


def protocol(run: Run) -> ProtocolConfig:
    """Return the protocol in a run's configuration; the one without a name where it has none, or none that can be."""
    values = {f.name: run.config[key] for f in fields(ProtocolConfig) if (key := f"protocol.{f.name}") in run.config}
    try:
        require_types(ProtocolConfig, values)
        return ProtocolConfig(**values)
    except (UserError, TypeError, ValueError):  # the file may be a stranger's
        return ProtocolConfig()


def mark(run: Run) -> Mark | None:
    """Return the name and hash of the protocol that a run began under, by its manifest; None without one."""
    told = run.manifest.get("protocol")
    found = told if isinstance(told, dict) else protocol_mark(protocol(run))
    name, digest = (one_line(str(found.get(key))) for key in ("name", "hash"))
    return None if name == NO_PROTOCOL else (name, digest)


def told(comparison: Comparison) -> str:
    """Return what was fixed before the runs of a comparison, and each departure from it, in a line."""
    marks = {found for run in comparison.runs if (found := mark(run))}
    if not marks:
        return "no protocol: nothing was fixed before these runs."
    if len(marks) > 1:
        return f"several protocols, so none holds for all: {_marked(comparison, comparison.runs)}."
    ((name, digest),) = marks
    one = next(run for run in comparison.runs if mark(run))
    departed = departures(comparison, protocol(one), (name, digest))
    how = "departures: " + "; ".join(departed) if departed else "no departure from it"
    return f"protocol {name} ({digest}); {how}."


def departures(comparison: Comparison, fixed: ProtocolConfig, marked: Mark) -> list[str]:
    """Return a clause for each respect in which the runs of a comparison are not as their one protocol has it."""
    runs, groups = comparison.runs, comparison.groups
    without = [run for run in runs if mark(run) is None]
    altered = [run for run in runs if mark(run) and protocol_hash(protocol(run)) != marked[1]]
    few = [run for run in runs if run.status == FINISHED and len(_validations(run)) < fixed.min_validations]
    open_ended = [run for run in runs if run.status == RUNNING]
    found = [_marked(comparison, runs)] if without else []
    found += [f"config.yaml has another protocol than manifest.json: {who(groups, altered)}"] if altered else []
    found += _content(fixed, marked)
    found += _seeds(groups, fixed.seeds)
    found += [f"it decides by {fixed.metric}, these tables by {METRIC}"] if fixed.metric != METRIC else []
    found += [f"fewer than {fixed.min_validations} validations: {who(groups, few)}"] if few else []
    found += [f"not ended: {who(groups, open_ended)}"] if open_ended else []
    return found + _recipe(comparison, fixed.name)


def _marked(comparison: Comparison, runs: Iterable[Run]) -> str:
    """Which runs are of which protocol."""
    held: dict[str, list[Run]] = {}
    for run in runs:
        found = mark(run)
        held.setdefault(f"{found[0]} ({found[1]})" if found else "no protocol", []).append(run)
    return each(comparison.groups, held)


def _validations(run: Run) -> Sequence[float]:
    return list(run.series(f"{run.watched}/acc1")[1])


def _content(fixed: ProtocolConfig, marked: Mark) -> list[str]:
    """How a protocol differs from the project's of the same name, if there is one."""
    if marked[0] not in {path.stem for path in CONFIG_DIR.glob("protocol/*.yaml")}:
        return []
    ours = ProtocolConfig(**read_yaml(CONFIG_DIR / "protocol" / f"{marked[0]}.yaml"))
    if protocol_hash(ours) == marked[1]:
        return []
    here, there = asdict(ours), asdict(fixed)
    keys = [key for key in here if canonical(here[key]) != canonical(there[key])]
    what = f" ({first_few(keys, MOST)})" if keys else ""
    return [f"it is not what configs/protocol/{marked[0]}.yaml says here{what}"]


def _seeds(groups: Sequence[Group], fixed: Sequence[int]) -> list[str]:
    """Which groups have other seeds than the fixed ones."""
    held: dict[str, list[str]] = {}
    for group in groups if fixed else ():
        ended = [run.seed for run in group.runs if run.status != RUNNING]
        mine = {run.seed for run in group.runs}
        missing = [str(seed) for seed in sorted(fixed) if seed not in ended]
        extra = [show(seed) for seed in sorted(mine - set(fixed), key=str)]
        again = [show(seed) for seed in sorted(mine, key=str) if ended.count(seed) > 1]
        for what, seeds in (("missing", missing), ("not in it", extra), ("run more than once", again)):
            if seeds:
                held.setdefault(f"seeds {what}: {first_few(seeds, MOST)}", []).append(group.label)
    names = {
        what: "every group" if len(labels) == len(groups) > 1 else first_few(labels, MOST)
        for what, labels in held.items()
    }
    return [f"{what} ({names[what]})" for what in held]


def _recipe(comparison: Comparison, experiment: str) -> list[str]:
    """Which settings of the data and the training are not those of the experiment that has the protocol's name."""
    if experiment not in {path.stem for path in CONFIG_DIR.glob("experiment/*.yaml")}:
        return []
    wanted = composed(f"experiment={experiment}", FIXED)
    mine = {key: value for key, value in comparison.recipe.items() if beneath(key, FIXED) and key in wanted}
    other = sorted(key for key, value in mine.items() if canonical(value) != canonical(wanted[key]))
    return [f"not the data or the training of experiment={experiment}: {first_few(other, MOST)}"] if other else []
