"""A free, offline task for the searches: the committed ablation of Ranger21, with the noise of its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ranger21.config.ablation import ALL, INGREDIENTS, ON
from ranger21.meta.propose import SEARCHES, Observation
from ranger21.meta.space import NONE, Arm, Option, Space
from ranger21.report.groups.summary import final_top1
from ranger21.report.runs.run import RecordedRun
from ranger21.system.errors import UserError


@dataclass(frozen=True)
class Simulated:
    """A task whose arms are the ablation's configurations, each with the mean top-1 of its runs.

    Attributes:
        means: mean top-1 in per cent by the ingredients that are on.
        noise: standard deviation between seeds, pooled over the configurations.
    """

    means: Mapping[frozenset[str], float]
    noise: float

    @property
    def space(self) -> Space:
        """The search space: each ingredient is on or off, and only the ablation's configurations are valid."""
        slots = {name: (Option(NONE, NONE), Option(name, name)) for name in ALL}
        return Space(slots, lambda arm: on(arm) in self.means, {})

    def regret(self, arm: Arm) -> float:
        """Return how far the mean of an arm is below the best, in points."""
        return max(self.means.values()) - self.means[on(arm)]


def on(arm: Arm) -> frozenset[str]:
    """Return the ingredients of an arm that are on."""
    return frozenset(slot for slot, label in arm.items() if label != NONE)


def simulated(runs: Iterable[RecordedRun]) -> Simulated:
    """Return the task that the runs of experiment=ablation give, by their final top-1 on the validation set.

    Raises:
        UserError: there are no such runs with at least two seeds each.
    """
    known = set(map(frozenset, ON.values()))
    values: dict[frozenset[str], list[float]] = {}
    for run in runs:
        top1 = final_top1(run)
        switched = frozenset(name for name, (key, off) in INGREDIENTS.items() if run.config.get(key, off) != off)
        if run.config.get("experiment") == "ablation" and switched in known and top1 is not None:
            values.setdefault(switched, []).append(top1)
    if not values or min(map(len, values.values())) < 2:
        raise UserError("The simulated task needs the runs of experiment=ablation with two seeds or more each.")
    pooled = statistics.fmean(statistics.variance(found) for found in values.values())
    return Simulated({key: statistics.fmean(found) for key, found in values.items()}, pooled**0.5)


def simulate(task: Simulated, name: str, brackets: int, count: int, seed: int) -> list[Arm]:
    """Run a search with `brackets` times `count` trials of full length; return the best arm after each bracket.

    As in `scripts/compose.py`, the first bracket of a seed is random, the same for all searches, and the best arm is
    the one with the highest observed top-1.
    """
    rng = np.random.default_rng([seed, 1])
    history: list[Observation] = []
    best = []
    for bracket in range(brackets):
        search = SEARCHES[name if bracket else "random"]
        for arm in search(task.space, 1, history, count, seed * 1000 + bracket):
            top1 = task.means[on(arm)] + task.noise * rng.standard_normal()
            history.append(Observation(arm, 0, float(np.log(top1 / (100 - top1)))))
        best.append(max(history, key=lambda one: one.response).arm)
    return best
