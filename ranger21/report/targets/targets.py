"""Measure how many steps, images and seconds a run takes to reach a top-1 that was fixed before it began."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.grouping import Group
from ranger21.report.runs.run import FINISHED, RUNNING, RecordedRun, finite
from ranger21.report.statistics.survival import Arrivals
from ranger21.system.wording import first_few

TARGETS = "protocol.targets"
MOST_TARGETS = 12  # the most targets reported for a comparison; more would amount to a curve
MEASURES = {"steps": "step", "images": "images_seen", "seconds": "time"}

State = Literal["reached", "never", "not yet"]


@dataclass(frozen=True)
class RunAtTarget:
    """When a run reached a target, or how far it has come.

    Attributes:
        state: "reached"; "never" if the run ended or diverged below the target; "not yet" if it may still reach it.
        at: steps, images and seconds at that validation, or at the last one; measures that were not logged are missing.
    """

    state: State
    at: dict[str, float]


@dataclass(frozen=True)
class GroupAtTarget:
    """The runs of a group and one target, in per cent, with one run for each seed."""

    group: Group
    target: float
    runs: tuple[RunAtTarget, ...]

    def having(self, state: State) -> int:
        """Return the number of runs in this state."""
        return sum(run.state == state for run in self.runs)

    def arrivals(self, measure: str) -> Arrivals | None:
        """Return the arrival times in one of the MEASURES; None if a run did not log it."""
        known = [run for run in self.runs if run.state == "never" or measure in run.at]
        if len(known) < len(self.runs):
            return None
        by_state = {s: tuple(c.at[measure] for c in known if c.state == s) for s in ("reached", "not yet")}
        return Arrivals(by_state["reached"], by_state["not yet"], self.having("never"))

    @cached_property
    def order(self) -> tuple[float, float, str]:
        """The sort key, fastest group first: by median steps, then by the share that reached the target."""
        arrivals = self.arrivals("steps")
        median = arrivals.median().value if arrivals else None
        return np.inf if median is None else median, -self.having("reached") / len(self.runs), self.group.label


def targets_of(comparison: GroupComparison) -> list[float]:
    """Return the targets that all runs of a comparison have in their configuration, in per cent, ascending."""
    fixed = [_fixed(run) for run in comparison.runs]
    return sorted(set.intersection(*fixed))[:MOST_TARGETS] if fixed else []


def has_targets(comparison: GroupComparison) -> bool:
    """Whether any run of a comparison has a target in its configuration."""
    return any(_fixed(run) for run in comparison.runs)


def not_asked(comparison: GroupComparison) -> list[str]:
    """Return a sentence on each target that is left out because some run lacks it, or because there are too many."""
    fixed = [(f"{group.label} seed {run.seed}", _fixed(run)) for group in comparison.groups for run in group.runs]
    shared = set.intersection(*(targets for _, targets in fixed)) if fixed else set()
    told = [
        f"The target of {target:g} % is left out, as it is not in the configuration of "
        f"{first_few(list(dict.fromkeys(name for name, targets in fixed if target not in targets)))}."
        for target in sorted(set().union(*(targets for _, targets in fixed)) - shared)[:MOST_TARGETS]
    ]
    if len(shared) > MOST_TARGETS:
        told.append(f"Only the lowest {MOST_TARGETS} of {len(shared)} targets are reported.")
    return told


def at_target(comparison: GroupComparison, target: float) -> list[GroupAtTarget]:
    """Return how each group reached a target, the fastest group first; groups without any validation are left out."""
    found = [GroupAtTarget(group, target, runs_at_target(group, target)) for group in comparison.groups]
    return sorted((each for each in found if each.runs), key=lambda each: each.order)


def run_at_target(run: RecordedRun, target: float) -> RunAtTarget | None:
    """Return when a run reached a target, by its validations during training; None if it finished without any."""
    key = _watched_top1(run)
    steps, values = run.series(key, "step")
    above = np.flatnonzero(values >= target)
    if len(above):
        return RunAtTarget("reached", _measured(run, steps[above[0]]))
    if run.status == RUNNING:
        return RunAtTarget("not yet", _measured(run, steps[-1]) if len(steps) else dict.fromkeys(MEASURES, 0.0))
    return None if run.status == FINISHED and key not in run.metrics.columns else RunAtTarget("never", {})


def validation_gap(run: RecordedRun) -> float:
    """Return the largest number of steps between a run's validations, counted from its start; 0 without any."""
    steps = run.series(_watched_top1(run), "step")[0]
    return float(np.diff(steps, prepend=0.0).max()) if len(steps) else 0.0


def _watched_top1(run: RecordedRun) -> str:
    """Return the metric of the top-1 that was validated during training."""
    return f"{run.watched}/acc1"


def _measured(run: RecordedRun, step: float) -> dict[str, float]:
    """Return the MEASURES that were logged at a step."""
    found = {measure: run.series(logged, "step") for measure, logged in MEASURES.items() if logged != "step"}
    return {"steps": float(step)} | {
        measure: float(values[steps == step][0]) for measure, (steps, values) in found.items() if (steps == step).any()
    }


def runs_at_target(group: Group, target: float) -> tuple[RunAtTarget, ...]:
    """Return one run for each seed. Of several runs with the same seed, take the slowest that has ended."""
    seeds: dict[object, list[tuple[bool, RunAtTarget]]] = {}
    for run in group.runs:
        if found := run_at_target(run, target):
            mark = str(run.path) if run.seed is None else run.seed
            seeds.setdefault(mark, []).append((run.status != RUNNING, found))
    return tuple(max(runs, key=_slowness)[1] for runs in seeds.values())


def _slowness(ended_run: tuple[bool, RunAtTarget]) -> tuple[bool, bool, float]:
    ended, found = ended_run
    return ended, found.state == "never", found.at.get("steps", 0.0)


def _fixed(run: RecordedRun) -> set[float]:
    """Return the targets in a run's configuration."""
    targets = run.config.get(TARGETS)
    return {float(t) for t in targets if finite(t) and 0 < t <= 100} if isinstance(targets, list) else set()
