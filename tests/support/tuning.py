"""Records of tuned optimizers."""

from __future__ import annotations

from ranger21.meta.arms import Arms
from ranger21.meta.record import Composed, Searched
from ranger21.meta.space import NONE
from ranger21.tuning.record import Budget, Trial, Tuned

TOP1 = {"adamw": (70.0, None, 72.0, 60.0), "nesterov": (50.0, 65.0, None, None)}
SPACE = {"optimizer.lr": {"low": 1e-4, "high": 1e-1}, "schedule": {"constant": ["schedule=constant"], "cosine": []}}


def make_tuned(optimizer: str, top1: tuple[float | None, ...] | None = None, rungs: int = 1) -> Tuned:
    """Return the record of a tuned optimizer with four trials."""
    values = TOP1[optimizer] if top1 is None else top1
    trials = tuple(
        Trial(
            round=0, rung=rungs - 1, point=point, values={"optimizer.lr": 10.0 ** (point - 4), "schedule": "cosine"},
            overrides=(f"optimizer.lr={10.0 ** (point - 4)!r}", "schedule=cosine"),
            directory=f"test/{optimizer}-{point}", state="diverged" if value is None else "finished", objective=value,
        )
        for point, value in enumerate(values)
    )  # fmt: skip
    ended = [trial for trial in trials if trial.objective is not None]
    winner = min(ended, key=lambda trial: trial.rank) if ended else None
    spaces = ({"hash": "0" * 16, "dimensions": SPACE},)
    return Tuned("test", optimizer, Budget(len(trials), rungs, 1, 0), (), spaces, trials, winner, ())


def make_composed() -> Composed:
    """Return the record of a search with one bracket, whose only full-length trial, `agc` alone, reaches 65 %."""
    arms = Arms()
    values = {slot: options[0].label for slot, options in arms.space.slots.items()} | {"agc": "agc"}
    trials = tuple(
        Trial(
            0,
            rung,
            point,
            {**values, "decay": "decay" if point else NONE},
            (),
            "test/x",
            "finished",
            50.0 + 5 * rung - point,
        )
        for rung, count in enumerate((8, 4, 2, 1))
        for point in range(count)
    )
    content = arms.space.content()
    searches = (Searched("thompson", 0, trials, trials[-1]),)
    return Composed("test", (), 4, 64, 8192, 0.1, content, searches)
