"""What came of trials: by their runs' results alone, so the same whoever ran them, and in whichever order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ranger21.records.directory import RunDirectory
from ranger21.system.errors import UserError
from ranger21.system.reading import read_json
from ranger21.tuning.plan import Task
from ranger21.tuning.record import DIVERGED, FINISHED, Edge, Trial
from ranger21.tuning.space import Range, Space

OBJECTIVE, LOSS = "holdout/acc1", "holdout/loss"


def outcome(task: Task) -> Trial:
    """What a run that has ended came to. A loss on the holdout that is not finite is a divergence, too.

    Raises a UserError for a result without a top-1 on the holdout.
    """
    path = RunDirectory(task.job.directory).result
    found = read_json(path, {"status": str, "final?": {f"{OBJECTIVE}?": float, f"{LOSS}?": float}})
    final = found.get("final") or {}
    top1 = final.get(OBJECTIVE)
    failed = found["status"] != FINISHED or (LOSS in final and final[LOSS] is None)
    if not failed and top1 is None:
        raise UserError(f"{path} has no {OBJECTIVE}: it is of a run without a holdout. Choose another outputs=.")
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
    """The best of some trials of one length; of equals those of the earlier points."""
    return sorted(trials, key=lambda trial: trial.rank)[:count]


def edges(space: Space, won: Trial | None, trials: Sequence[Trial]) -> tuple[Edge, ...]:
    """The ranges of which no trial lay further out than the winner's value: the best may be beyond."""
    if won is None:
        return ()
    found = []
    for name in sorted(name for name, one in space.dimensions.items() if isinstance(one, Range)):
        values = [float(trial.values[name]) for trial in trials]
        own = float(won.values[name])
        found += [Edge(name, "low")] if own <= min(values) else []
        found += [Edge(name, "high")] if own >= max(values) else []
    return tuple(found)


def widened(space: Space, beyond: Iterable[Edge]) -> Space:
    """The space ten times as wide on these sides, of those ranges that it has."""
    for edge in sorted(set(beyond), key=lambda edge: (edge.dimension, edge.side)):
        if isinstance(space.dimensions.get(edge.dimension), Range):
            space = space.widened(edge.dimension, edge.side)
    return space
