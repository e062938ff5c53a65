"""Curves of learning rate schedules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def curve(schedule: Callable[..., float], total: int, **kwargs: Any) -> list[float]:
    """Return a schedule's multipliers for all steps of a run."""
    return [schedule(step, total, **kwargs) for step in range(1, total + 1)]
