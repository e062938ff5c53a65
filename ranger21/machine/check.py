"""What a check is given, and what it gives back. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ranger21.config import Config

OK, WARNING, FAILED = "ok", "warning", "failed"
STATES = (OK, WARNING, FAILED)


@dataclass(frozen=True)
class Found:
    """What a check saw.

    Attributes:
        seen: one sentence or list of figures, for people.
        state: OK, WARNING (a training runs, but not as it could) or FAILED.
        remedy: what to do about it; empty if `seen` says it already, or there is nothing to do.
        numbers: the figures in `seen` for programs: later checks and machine.json have them.
    """

    seen: str
    state: str = OK
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of the table: the name of a check, what it found and how long that took."""

    check: str
    found: Found
    seconds: float


@dataclass
class Machine:
    """What checks are given.

    Attributes:
        config: what is to be trained.
        overrides: its arguments, as they were typed.
        quick: whether to look for seconds rather than minutes.
        work: an empty folder for what is written, removed at the end; on the disk of `outputs` if that can be written.
        numbers: what earlier checks measured, by their names. A check that failed may have left nothing.
        ranks: the variables of torchrun or srun that say which rank this process is; they are not in os.environ.
    """

    config: Config
    overrides: tuple[str, ...]
    quick: bool
    work: Path
    numbers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    ranks: Mapping[str, str] = field(default_factory=dict)

    def number(self, check: str, name: str) -> Any:
        """Return a figure of an earlier check; None if there is none."""
        return self.numbers.get(check, {}).get(name)
