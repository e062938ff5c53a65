"""The input and output of a check. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ranger21.config import Config

OK, WARNING, FAILED = "ok", "warning", "failed"
STATES = (OK, WARNING, FAILED)


@dataclass(frozen=True)
class CheckResult:
    """The result of a check.

    Attributes:
        seen: a sentence or a list of values, for the table.
        state: OK, WARNING (training works, but not as well as it could) or FAILED.
        remedy: what the user should do; empty if `seen` says it, or if there is nothing to do.
        numbers: the values in `seen`, for later checks and machine.json.
    """

    seen: str
    state: str = OK
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckRow:
    """A row of the table: a check's name, its result and how long it took."""

    check: str
    found: CheckResult
    seconds: float


@dataclass
class Machine:
    """The input of every check.

    Attributes:
        config: the configuration of the training.
        overrides: the command-line arguments of the training.
        quick: whether a check should take seconds rather than minutes.
        work: an empty folder for files, removed at the end; on the disk of `outputs` if that is writable.
        numbers: values measured by earlier checks, by name; a failed check may have none.
        ranks: the rank variables of torchrun or srun, which have been removed from os.environ.
    """

    config: Config
    overrides: tuple[str, ...]
    quick: bool
    work: Path
    numbers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    ranks: Mapping[str, str] = field(default_factory=dict)

    def number(self, check: str, name: str) -> Any:
        """Return a value measured by an earlier check; None if there is none."""
        return self.numbers.get(check, {}).get(name)
