"""Time to target: how many steps, images and seconds a run takes to a top-1 that was fixed before it began."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from ranger21.report.groups.comparisons import Comparison
from ranger21.report.groups.grouping import Group
from ranger21.report.runs.run import FINISHED, RUNNING, Run, finite
from ranger21.report.statistics.survival import Arrivals
from ranger21.system.wording import first_few

TARGETS = "protocol.targets"
MOST_TARGETS = 12  # of a comparison: more is no target, but a curve
MEASURES = {"steps": "step", "images": "images_seen", "seconds": "time"}

State = Literal["reached", "never", "not yet"]


@dataclass(frozen=True)
class Course:
    """Where a run first was at a target or above, in each of the MEASURES; else how far it has come.

    `never` is a run that ended, or diverged, below the target; `not yet` one that may still reach it.
    """

    state: State
    at: dict[str, float]  # a measure that was not logged is missing


@dataclass(frozen=True)
class GroupAtTarget:
    """The courses of a group's runs to one target, one for each seed."""

    group: Group
    target: float  # per cent
    courses: tuple[Course, ...]

    def having(self, state: State) -> int:
        """How many runs are in this state."""
        return sum(course.state == state for course in self.courses)

    def arrivals(self, measure: str) -> Arrivals | None:
        """In one of the MEASURES; None where a run that counts did not log it."""
        known = [course for course in self.courses if course.state == "never" or measure in course.at]
        if len(known) < len(self.courses):
            return None
        by_state = {s: tuple(c.at[measure] for c in known if c.state == s) for s in ("reached", "not yet")}
        return Arrivals(by_state["reached"], by_state["not yet"], self.having("never"))

    @cached_property
    def order(self) -> tuple[float, float, str]:
        """Sort key: the fastest first, by the median of steps, then by the share that reached it."""
        arrivals = self.arrivals("steps")
        median = arrivals.median().value if arrivals else None
        return np.inf if median is None else median, -self.having("reached") / len(self.courses), self.group.label


def targets_of(comparison: Comparison) -> list[float]:
    """The targets that every run of a comparison has in its own config, in per cent, rising."""
    fixed = [_fixed(run) for run in comparison.runs]
    return sorted(set.intersection(*fixed))[:MOST_TARGETS] if fixed else []


def has_targets(comparison: Comparison) -> bool:
    """Whether any run of a comparison has a target in its config, shared by all or not."""
    return any(_fixed(run) for run in comparison.runs)


def not_asked(comparison: Comparison) -> list[str]:
    """A sentence on each target that is left out: it is not in the config of every run, or there are too many."""
    fixed = [(f"{group.label} seed {run.seed}", _fixed(run)) for group in comparison.groups for run in group.runs]
    shared = set.intersection(*(targets for _, targets in fixed)) if fixed else set()
    told = [
        f"The target {target:g} % is not asked: it was not fixed beforehand in the config of "
        f"{first_few(list(dict.fromkeys(name for name, targets in fixed if target not in targets)))}."
        for target in sorted(set().union(*(targets for _, targets in fixed)) - shared)[:MOST_TARGETS]
    ]
    if len(shared) > MOST_TARGETS:
        told.append(f"Of {len(shared)} targets the lowest {MOST_TARGETS} are asked.")
    return told


def at_target(comparison: Comparison, target: float) -> list[GroupAtTarget]:
    """Every group's courses to a target, the fastest group first; none of a group whose runs do not tell."""
    found = [GroupAtTarget(group, target, courses(group, target)) for group in comparison.groups]
    return sorted((each for each in found if each.courses), key=lambda each: each.order)


def course(run: Run, target: float) -> Course | None:
    """A run's course by its validations while it trained; None for a finished one that logged none of them."""
    key = _watched_top1(run)
    steps, values = run.series(key, "step")
    above = np.flatnonzero(values >= target)
    if len(above):
        return Course("reached", _measured(run, steps[above[0]]))
    if run.status == RUNNING:
        return Course("not yet", _measured(run, steps[-1]) if len(steps) else dict.fromkeys(MEASURES, 0.0))
    return None if run.status == FINISHED and key not in run.metrics.columns else Course("never", {})


def validation_gap(run: Run) -> float:
    """The most steps that lay between a run's validations, from its beginning on; 0 without any."""
    steps = run.series(_watched_top1(run), "step")[0]
    return float(np.diff(steps, prepend=0.0).max()) if len(steps) else 0.0


def _watched_top1(run: Run) -> str:
    """The metric of the validations while a run trained."""
    return f"{run.watched}/acc1"


def _measured(run: Run, step: float) -> dict[str, float]:
    """What was logged at a step, in each of the MEASURES."""
    found = {measure: run.series(logged, "step") for measure, logged in MEASURES.items() if logged != "step"}
    return {"steps": float(step)} | {
        measure: float(values[steps == step][0]) for measure, (steps, values) in found.items() if (steps == step).any()
    }


def courses(group: Group, target: float) -> tuple[Course, ...]:
    """A course for each seed: of several runs with one seed, which are not independent, the slowest that has ended."""
    seeds: dict[object, list[tuple[bool, Course]]] = {}
    for run in group.runs:
        if found := course(run, target):
            mark = str(run.path) if run.seed is None else run.seed
            seeds.setdefault(mark, []).append((run.status != RUNNING, found))
    return tuple(max(runs, key=_slowness)[1] for runs in seeds.values())


def _slowness(ended_course: tuple[bool, Course]) -> tuple[bool, bool, float]:
    ended, found = ended_course
    return ended, found.state == "never", found.at.get("steps", 0.0)


def _fixed(run: Run) -> set[float]:
    """The targets in a run's config."""
    targets = run.config.get(TARGETS)
    return {float(t) for t in targets if finite(t) and 0 < t <= 100} if isinstance(targets, list) else set()
