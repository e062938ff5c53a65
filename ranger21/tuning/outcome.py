"""Read the outcome of trials from their runs' results, independently of which worker ran them and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ranger21.records.directory import RunDirectory
from ranger21.system.errors import UserError
from ranger21.system.reading import read_json
from ranger21.tuning.plan import Task
from ranger21.tuning.record import DIVERGED, FINISHED, Edge, Trial
from ranger21.tuning.space import LogRange, Space

OBJECTIVE, LOSS = "holdout/acc1", "holdout/loss"


def outcome(task: Task) -> Trial:
    """Return the result of a trial whose run has ended. A holdout loss that is not finite counts as a divergence.

    Raises:
        UserError: the result has no top-1 on the holdout.
    """
    path = RunDirectory(task.job.directory).result
    found = read_json(path, {"status": str, "final?": {f"{OBJECTIVE}?": float, f"{LOSS}?": float}})
    final = found.get("final") or {}
    top1 = final.get(OBJECTIVE)
    failed = found["status"] != FINISHED or (LOSS in final and final[LOSS] is None)
    if not failed and top1 is None:
        raise UserError(f"{path} has no {OBJECTIVE}, because its run had no holdout. Choose another outputs=.")
    stage = task.stage
    return Trial(
        stage.round,
        stage.rung,
        task.point,
        task.values,
        task.overrides,
        f"{stage.experiment}/{task.job.directory.name}",
        DIVERGED if failed else FINISHED,
        None if failed else top1,
    )


def best(trials: Iterable[Trial], count: int) -> list[Trial]:
    """Return the best trials among trials of one length; ties go to earlier points."""
    return sorted(trials, key=lambda trial: trial.rank)[:count]


def edges(space: Space, won: Trial | None, trials: Sequence[Trial]) -> tuple[Edge, ...]:
    """Return the ranges in which the winner has the most extreme value of all trials, so the optimum may lie beyond."""
    if won is None:
        return ()
    found = []
    for name in sorted(name for name, one in space.dimensions.items() if isinstance(one, LogRange)):
        values = [float(trial.values[name]) for trial in trials]
        own = float(won.values[name])
        found += [Edge(name, "low")] if own <= min(values) else []
        found += [Edge(name, "high")] if own >= max(values) else []
    return tuple(found)


def widened(space: Space, beyond: Iterable[Edge]) -> Space:
    """Return the space widened tenfold at those of these edges that it has."""
    for edge in sorted(set(beyond), key=lambda edge: (edge.dimension, edge.side)):
        if isinstance(space.dimensions.get(edge.dimension), LogRange):
            space = space.widened(edge.dimension, edge.side)
    return space
