"""The Rosenbrock function, the search for a learning rate on it, and the table of results.

`scripts/rosenbrock.py` runs the optimizers and draws the figure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ranger21.report.tables.text import table_lines
from ranger21.system.files import write_atomically

Point = tuple[float, float]

A, B = 1.0, 100.0
MINIMUM: Point = (A, A * A)
GOAL = "1e-4"
TARGET = float(GOAL)
NUDGES = tuple(1 + k * 1e-12 for k in (-2, -1, 1, 2))  # small changes of the rate that show whether a path is chaotic
LOST = 1e12  # value of f above which a path counts as diverged


def value(x: Any, y: Any) -> Any:
    """Return f(x, y) = (a - x)^2 + b (y - x^2)^2 for numbers or arrays; infinite if it overflows."""
    return (A - x) * (A - x) + B * (y - x * x) * (y - x * x)


def gradient(x: float, y: float) -> Point:
    """Return the gradient of f."""
    return -2 * (A - x) - 4 * B * x * (y - x * x), 2 * B * (y - x * x)


class TriedRate:
    """A learning rate under test: the step reached, and f there, which is infinite once the path has diverged."""

    def __init__(self, index: int, points: Iterator[Point]) -> None:
        self.index, self.points, self.step = index, points, 0
        self.f: float = value(*next(points))

    def advance(self, limit: float) -> None:
        """Continue until f is below the target or the step is `limit`."""
        while TARGET <= self.f < math.inf and self.step < limit:
            point = next(self.points, None)
            self.f, self.step = value(*point) if point else math.inf, self.step + 1

    @property
    def reached(self) -> float:
        return self.step if self.f < TARGET else math.inf


def best_rate(paths: Sequence[Iterator[Point]], search_steps: int, steps: int) -> int:
    """Return the index of the path that reaches the target first or, if none does, has the lowest f at the end.

    All paths take `search_steps` steps; if none reaches the target, the half with the lowest f continues to `steps`.
    """
    tries = [TriedRate(index, points) for index, points in enumerate(paths)]
    soonest = math.inf
    for limit in (search_steps, steps):
        for one in reversed(tries):
            one.advance(min(limit, soonest))
            soonest = min(soonest, one.reached)
        tries.sort(key=lambda one: (one.reached, one.f))
        if soonest < math.inf:
            break
        tries = tries[: math.ceil(len(tries) / 2)]
    return tries[0].index


def protocol(start: Point, rates: Sequence[float], search_steps: int, steps: int) -> str:
    """Return a description of the procedure for the table."""
    half = (
        f" If none has reached it after {search_steps} steps, only the half with the lowest f continues."
        if search_steps < steps
        else ""
    )
    return (
        f"f = (1 - x)² + 100 (y - x²)² from {start}, float64, exact gradient, constant rate, no weight decay, "
        f"{steps} steps. Every optimizer has the same search over {len(rates)} rates, log-spaced from {rates[0]:g} to "
        f"{rates[-1]:g}, for the one that reaches f < {GOAL} first or, if none does, has the lowest f at the end."
        f"{half} One start, deterministic."
    )


@dataclass(frozen=True)
class Walk:
    """The result of one optimizer at the learning rate found for it."""

    optimizer: str
    rate: float
    rate_at_edge: bool  # whether the rate is the grid's lowest or highest, so that a better one may lie outside
    steps: int  # number of available steps
    steps_to_target: int | None
    below_from: int | None  # first step from which f stays below the target to the end
    nudged_steps_to_target: list[int | None]  # the same with the rate multiplied by each of NUDGES
    diverged_at: int | None
    final_f: float | None  # None if the path diverged
    distance: float | None  # distance from the last point to the minimum

    @property
    def reached(self) -> str:
        return f"not in {self.steps}" if self.steps_to_target is None else str(self.steps_to_target)

    @property
    def note(self) -> str:
        said = []
        if self.diverged_at is not None:
            said.append(f"diverged at step {self.diverged_at}")
        elif self.steps_to_target is not None and self.below_from is None:
            said.append("above it again at the end")
        elif self.steps_to_target != self.below_from:
            said.append(f"below for good from step {self.below_from}")
        if any(steps != self.steps_to_target for steps in self.nudged_steps_to_target):
            there = [steps for steps in self.nudged_steps_to_target if steps is not None]
            steps = (
                f"{min(there)} to {max(there)} steps"
                if len(there) == len(NUDGES)
                else f"{len(there)} of {len(NUDGES)} get there"
            )
            said.append(f"chaotic: {steps} with the rate off by 1e-12")
        return ", ".join([*said, "rate at the grid's edge"] if self.rate_at_edge else said)

    @property
    def rank(self) -> tuple[float, float]:
        """Sort key (smaller is better): steps to the target, then the final f."""
        steps, f = self.steps_to_target, self.final_f
        return math.inf if steps is None else steps, math.inf if f is None else f


def judge(
    name: str, rate: float, at_edge: bool, path: Sequence[Point], nudged: Sequence[Iterator[Point]], steps: int
) -> Walk:
    """Summarize a path, which has its start and `steps` more points; fewer mean that it has diverged."""
    values = [value(*point) for point in path]
    reached = next((step for step, f in enumerate(values) if f < TARGET), None)
    others = [TriedRate(index, points) for index, points in enumerate(nudged)]
    for one in others:
        one.advance(steps)
    again = [one.step if one.f < TARGET else None for one in others]
    if len(path) <= steps:
        return Walk(name, rate, at_edge, steps, reached, None, again, len(path), None, None)
    above = max((step for step, f in enumerate(values) if f >= TARGET), default=-1)
    below = above + 1 if above < steps else None
    distance = math.dist(path[-1], MINIMUM)
    return Walk(name, rate, at_edge, steps, reached, below, again, None, values[-1], distance)


def columns() -> dict[str, Callable[[Walk], str]]:
    """Return the heading of each column and the function that formats its cells."""

    def short(x: float | None) -> str:
        return "–" if x is None else f"{x:.2e}"

    return {
        "optimizer": lambda walk: walk.optimizer,
        "rate": lambda walk: f"{walk.rate:.3g}",
        f"steps to {GOAL}": lambda walk: walk.reached,
        "final f": lambda walk: short(walk.final_f),
        "distance to (1, 1)": lambda walk: short(walk.distance),
        "note": lambda walk: walk.note,
    }


def terminal(walks: Sequence[Walk]) -> Table:
    """Return the table for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in columns():
        table.add_column(heading, justify="left" if heading in ("optimizer", "note") else "right")
    for walk in walks:
        table.add_row(*(cell(walk) for cell in columns().values()))
    return table


def markdown(walks: Sequence[Walk]) -> str:
    """Return the table in Markdown."""
    rows = [[cell(walk) for cell in columns().values()] for walk in walks]
    return "\n".join([*table_lines(list(columns()), rows, right=range(1, 5)), ""])


def write_tables(walks: Sequence[Walk], head: dict[str, str], out: Path) -> list[Path]:
    """Write table.md and table.json with `head` (date, versions, procedure) and return their paths."""
    said = "".join(f"- {key}: {text}\n" for key, text in head.items())
    text = f"# The optimizers on the Rosenbrock function\n\n{said}\n{markdown(walks)}"
    write_atomically(out / "table.md", text)
    rows = [asdict(walk) | {"note": walk.note} for walk in walks]
    text = json.dumps(head | {"walks": rows}, indent=1, ensure_ascii=False) + "\n"
    write_atomically(out / "table.json", text)
    return [out / "table.md", out / "table.json"]
